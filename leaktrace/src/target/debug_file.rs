//! The file that has what was stripped from an object: found by the object's build id, or by the
//! link that it carries, in the root of the process and in that of this machine. A file that was
//! made of another build is never taken.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::root::{LastLink, Root};
use super::symbols;

/// Where distributions put such files.
const DEBUG_FOLDER: &str = "/usr/lib/debug";

/// Build ids have 8 to 20 bytes (ld, lld); more is nonsense.
const MAX_BUILD_ID_BYTES: usize = 64;

/// The checksum that a link states is not computed for larger files.
const MAX_CHECKED_BYTES: u64 = 1 << 30;

/// Size of a note's header: length of the name, length of the content, kind.
const NOTE_HEADER_BYTES: usize = 12;

/// Finds the debug file of an object, with its name in the root where it was found.
pub(super) fn find(file: &File, path: &Path, roots: &[Root]) -> Option<(File, PathBuf)> {
    let id = build_id(file);
    if let Some(id) = &id {
        let name = path_of_build_id(id);
        let mut found = roots.iter().filter_map(|root| open(root, &name));
        if let Some(found) = found.find(|found| build_id(found).as_ref() == Some(id)) {
            return Some((found, name));
        }
    }
    let (name, checksum) = debug_link(file)?;
    let folder = path.parent()?;
    let below = folder.strip_prefix("/").unwrap_or(folder);
    let places = [
        folder.join(&name),
        folder.join(".debug").join(&name),
        Path::new(DEBUG_FOLDER).join(below).join(&name),
    ];
    let is_it = |found: &File| match &id {
        Some(id) => build_id(found).as_ref() == Some(id),
        None => checksum_of(found) == Some(checksum),
    };
    // A debug file may have the name of its object, and the object is in the first of the places.
    let own = identity(file)?;
    places.into_iter().find_map(|place| {
        let mut found = roots.iter().filter_map(|root| open(root, &place));
        let found = found.find(|found| identity(found) != Some(own) && is_it(found))?;
        Some((found, place))
    })
}

/// Whether the object lacks what a debug file has.
pub(super) fn is_wanted(file: &File) -> bool {
    let sections = symbols::sections(file).unwrap_or_default();
    let is_debug = |name: &str| name.starts_with(".debug_info") || name.starts_with(".zdebug_info");
    !sections.is_empty() && !sections.iter().any(|section| is_debug(&section.name))
}

/// The file's build id in hexadecimal digits.
pub(super) fn hex_build_id(file: &File) -> Option<String> {
    let id = build_id(file)?;
    Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Device and inode.
fn identity(file: &File) -> Option<(u64, u64)> {
    let metadata = file.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn open(root: &Root, path: &Path) -> Option<File> {
    let (file, _) = root.file(path, LastLink::Followed).ok()?;
    Some(file)
}

fn build_id(file: &File) -> Option<Vec<u8>> {
    let (_, note) = symbols::section(file, ".note.gnu.build-id").ok()??;
    of_note(&note)
}

/// The content of a note: its name is padded to a multiple of four.
fn of_note(note: &[u8]) -> Option<Vec<u8>> {
    let word =
        |at: usize| Some(u32::from_le_bytes(note.get(at..at + 4)?.try_into().ok()?) as usize);
    let (name_bytes, content_bytes) = (word(0)?, word(4)?);
    if !(2..=MAX_BUILD_ID_BYTES).contains(&content_bytes) {
        return None;
    }
    let start = NOTE_HEADER_BYTES.checked_add(name_bytes.checked_next_multiple_of(4)?)?;
    Some(note.get(start..start.checked_add(content_bytes)?)?.to_vec())
}

fn path_of_build_id(id: &[u8]) -> PathBuf {
    let hex: Vec<String> = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{}.debug", hex[1..].concat());
    Path::new(DEBUG_FOLDER)
        .join(".build-id")
        .join(&hex[0])
        .join(name)
}

/// The name in an object's link, and the checksum of the file that is meant. The object's owner
/// writes the name: one that leads anywhere else is none.
fn debug_link(file: &File) -> Option<(String, u32)> {
    let (_, link) = symbols::section(file, ".gnu_debuglink").ok()??;
    of_link(&link)
}

fn of_link(link: &[u8]) -> Option<(String, u32)> {
    let end = link.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&link[..end]).ok()?;
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        return None;
    }
    let at = (end + 1).next_multiple_of(4);
    let checksum = u32::from_le_bytes(link.get(at..at + 4)?.try_into().ok()?);
    Some((name.to_owned(), checksum))
}

fn checksum_of(file: &File) -> Option<u32> {
    let length = file.metadata().ok()?.len();
    if length > MAX_CHECKED_BYTES {
        return None;
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut buffer, at).ok()?;
        if count == 0 {
            return Some(hasher.finalize());
        }
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_the_content_of_its_note() {
        let note = b"\x04\0\0\0\x03\0\0\0\x03\0\0\0GNU\0\xab\x01\x02";
        assert_eq!(of_note(note), Some(vec![0xab, 1, 2]));
        assert_eq!(
            path_of_build_id(&[0xab, 1, 2]),
            Path::new("/usr/lib/debug/.build-id/ab/0102.debug")
        );
        for broken in [
            &note[..18],
            b"\x04\0\0\0\x00\0\0\0\x03\0\0\0GNU\0",
            b"\xff\xff\xff\xff\x03\0\0\0\x03\0\0\0GNU\0\xab\x01\x02",
            b"\x04\0\0\0\xff\xff\0\0\x03\0\0\0GNU\0\xab\x01\x02",
        ] {
            assert_eq!(of_note(broken), None);
        }
    }

    #[test]
    fn a_link_is_a_name_without_a_folder() {
        assert_eq!(
            of_link(b"a.debug\0\x01\x02\x03\x04"),
            Some(("a.debug".to_owned(), 0x0403_0201))
        );
        assert_eq!(of_link(b"ab\0\0\x01\0\0\0"), Some(("ab".to_owned(), 1)));
        for broken in [
            &b"../a\0\0\0\0\x01\0\0\0"[..],
            b"..\0\0\x01\0\0\0",
            b"/etc/x\0\0\x01\0\0\0",
            b"\0\0\0\0\x01\0\0\0",
            b"no end",
            b"abc\0\x01",
        ] {
            assert_eq!(of_link(broken), None);
        }
    }
}

//! Turns /proc/PID/maps into sorted [`Mapping`]s. Pure; reads no file.

mod remembered;

use std::ffi::OsString;
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The file behind a mapping, by identity rather than by name: names can be replaced on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Device, as /proc/PID/maps has it: major << 32 | minor.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// One line of /proc/PID/maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address (avma).
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Whether code can run there.
    pub executable: bool,
    /// Whether it can be accessed in any way.
    pub accessible: bool,
    /// Offset in the file of the first byte.
    pub file_offset: u64,
    /// The file; absent for anonymous memory.
    pub file: Option<FileId>,
    /// Path as the process sees it, or a name in brackets; empty for anonymous memory.
    pub path: PathBuf,
    /// The file's name is gone from disk (replaced or deleted after it was mapped).
    pub deleted: bool,
}

impl Mapping {
    /// Address at which this offset of the file is mapped; `None` when it is not mapped here.
    pub fn address_of(&self, file_offset: u64) -> Option<u64> {
        let from_start = file_offset.checked_sub(self.file_offset)?;
        let address = self.start.checked_add(from_start)?;
        (address < self.end).then_some(address)
    }
}

/// The mappings of one process, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    list: Vec<Mapping>,
}

impl Mappings {
    /// Reads the text of /proc/PID/maps. Lines that are not of its form are left out.
    pub fn parse(text: &[u8]) -> Self {
        let mut list: Vec<Mapping> = text.split(|byte| *byte == b'\n').filter_map(line).collect();
        list.sort_by_key(|mapping| mapping.start);
        Self { list }
    }

    /// All mappings, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.list.iter()
    }

    /// Mappings in which code can run, ascending.
    pub fn executable(&self) -> impl Iterator<Item = &Mapping> {
        self.iter().filter(|mapping| mapping.executable)
    }

    /// The mapping that contains this address.
    pub fn containing(&self, address: u64) -> Option<&Mapping> {
        let after = self
            .list
            .partition_point(|mapping| mapping.start <= address);
        let mapping = self.list.get(after.checked_sub(1)?)?;
        (address < mapping.end).then_some(mapping)
    }

    /// The code of which some lies in this range.
    pub fn code_in(&self, range: &Range<u64>) -> impl Iterator<Item = &Mapping> {
        let first = self
            .list
            .partition_point(|mapping| mapping.end <= range.start);
        self.list[first..]
            .iter()
            .take_while(|mapping| mapping.start < range.end)
            .filter(|mapping| mapping.executable)
    }

    /// Length of the segment of System V shared memory with this id, up to its last byte that is mapped:
    /// where it is attached at this address, else wherever it is. The kernel shows the id as the number
    /// of its file.
    pub fn attached_bytes(&self, address: u64, id: u32) -> Option<u64> {
        let pieces = || {
            self.iter().filter(|mapping| {
                // The first segment of a machine has the id 0, which is no number of a file.
                mapping.file.map_or(0, |file| file.inode) == u64::from(id)
                    && mapping.path.to_string_lossy().starts_with("/SYSV")
            })
        };
        let length = |piece: &Mapping| piece.file_offset + (piece.end - piece.start);
        let is_there = |piece: &&Mapping| piece.start.wrapping_sub(piece.file_offset) == address;
        let there = pieces().filter(is_there).map(length).max();
        there.or_else(|| pieces().map(length).max())
    }

    /// Whether there is memory that the program, not the kernel, has asked for: a heap, or anonymous
    /// mappings that are not the zeroed end of an object's data.
    pub fn has_own_memory(&self) -> bool {
        let is_anonymous = |mapping: &Mapping| mapping.path.as_os_str().is_empty();
        let heap = self
            .iter()
            .any(|mapping| mapping.path.as_os_str() == "[heap]");
        let pairs = self.list.iter().zip(self.list.iter().skip(1));
        heap || self.list.first().is_some_and(is_anonymous)
            || pairs.into_iter().any(|(before, mapping)| {
                is_anonymous(mapping) && !(before.file.is_some() && before.end == mapping.start)
            })
    }
}

fn line(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut text = || {
        fields
            .next()
            .and_then(|field| std::str::from_utf8(field).ok())
    };
    let (start, end) = text()?.split_once('-')?;
    let permissions = text()?;
    let file_offset = u64::from_str_radix(text()?, 16).ok()?;
    let (major, minor) = text()?.split_once(':')?;
    let inode: u64 = text()?.parse().ok()?;
    let device =
        u64::from_str_radix(major, 16).ok()? << 32 | u64::from_str_radix(minor, 16).ok()?;
    let name = fields.next().unwrap_or_default();
    let first = name
        .iter()
        .position(|byte| *byte != b' ')
        .unwrap_or(name.len());
    let (name, deleted) = match name[first..].strip_suffix(b" (deleted)") {
        Some(name) if inode != 0 => (name, true),
        _ => (&name[first..], false),
    };
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        accessible: !permissions.starts_with("---"),
        file_offset,
        file: (inode != 0).then_some(FileId { device, inode }),
        path: OsString::from_vec(unescape(name)).into(),
        deleted,
    })
}

/// The kernel writes a newline in a name as \012.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((byte, tail)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(tail) => {
                out.push(b'\n');
                rest = tail;
            }
            None => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    const TEXT: &[u8] = b"\
55d0c0a00000-55d0c0a01000 r-xp 00001000 fe:00 1234                       /usr/bin/a b
7f0000000000-7f0000001000 rw-p 00000000 00:00 0 
7f0000002000-7f0000004000 r-xp 00026000 fe:00 77                         /lib/libc.so.6 (deleted)
7f0000005000-7f0000006000 r-xp 00000000 00:3e 9                          /x/new\\012line\xff
7fff00000000-7fff00021000 rw-p 00000000 00:00 0                          [stack]
not a line
";

    #[test]
    fn a_segment_is_as_long_as_what_is_mapped_of_it_at_its_address() {
        let mappings = Mappings::parse(
            b"\
7f0000001000-7f0000002000 rw-s 00000000 00:01 5                          /SYSV00000000 (deleted)
7f0000003000-7f0000005000 rw-s 00002000 00:01 5                          /SYSV00000000 (deleted)
7f0000009000-7f0000015000 rw-s 00000000 00:01 5                          /SYSV00000000 (deleted)
7f0000020000-7f0000025000 rw-s 00000000 00:01 5                          /dev/zero (deleted)
7f0000030000-7f0000033000 rw-s 00000000 00:01 0                          /SYSV0000002a (deleted)
",
        );
        let bytes = |address, id| mappings.attached_bytes(address, id);
        assert_eq!(bytes(0x7f00_0000_1000, 5), Some(0x4000));
        assert_eq!(bytes(0x7f00_0003_0000, 0), Some(0x3000));
        assert_eq!(bytes(0x7f00_0000_9000, 5), Some(0xc000));
        assert_eq!(bytes(0x7f00_0002_0000, 5), Some(0xc000));
        assert_eq!(bytes(0x7f00_0000_1000, 6), None);
    }

    #[test]
    fn every_field_of_a_line_is_read() {
        let mappings = Mappings::parse(TEXT);
        assert_eq!(mappings.iter().count(), 5);
        let first = mappings.iter().next().unwrap();
        assert_eq!(
            (first.start, first.end),
            (0x55d0_c0a0_0000, 0x55d0_c0a0_1000)
        );
        assert!(first.executable && !first.deleted);
        assert_eq!(first.file_offset, 0x1000);
        assert_eq!(
            first.file,
            Some(FileId {
                device: 0xfe << 32,
                inode: 1234
            })
        );
        assert_eq!(first.path, PathBuf::from("/usr/bin/a b"));
    }

    #[test]
    fn deleted_files_and_odd_names_are_understood() {
        let mappings = Mappings::parse(TEXT);
        let libc = mappings.containing(0x7f00_0000_2000).unwrap();
        assert!(libc.deleted);
        assert_eq!(libc.path, PathBuf::from("/lib/libc.so.6"));
        let odd = mappings.containing(0x7f00_0000_5fff).unwrap();
        assert_eq!(odd.path.as_os_str().as_bytes(), b"/x/new\nline\xff");
        assert_eq!(mappings.containing(0x7f00_0000_0000).unwrap().file, None);
    }

    #[test]
    fn a_range_has_code_when_any_page_of_it_has() {
        let mappings = Mappings::parse(TEXT);
        let (code, data) = (0x7f00_0000_2000, 0x7f00_0000_0000);
        for range in [data..code + 1, code..code + 1, code + 0x1fff..u64::MAX] {
            assert!(mappings.code_in(&range).next().is_some(), "{range:x?}");
        }
        for range in [data..code, code + 0x2000..code + 0x3000, code..code] {
            assert!(mappings.code_in(&range).next().is_none(), "{range:x?}");
        }
    }

    #[test]
    fn addresses_between_mappings_are_in_none() {
        let mappings = Mappings::parse(TEXT);
        assert!(mappings.containing(0x7f00_0000_1000).is_none());
        assert!(mappings.containing(0).is_none());
        assert!(mappings.containing(u64::MAX).is_none());
    }

    #[test]
    fn memory_of_a_program_is_told_from_what_the_kernel_gives_it() {
        let given = b"400000-401000 r-xp 00000000 fe:00 1 /bare\n\
            401000-403000 rw-p 00000000 00:00 0 \n\
            7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]\n";
        assert!(!Mappings::parse(given).has_own_memory());
        for own in [
            &b"2000000-2021000 rw-p 00000000 00:00 0 [heap]\n"[..],
            b"c000000000-c000400000 rw-p 00000000 00:00 0 \n",
        ] {
            let both = [given, own].concat();
            assert!(Mappings::parse(&both).has_own_memory());
        }
    }
}

//! Turns files, folders and links into an initramfs (cpio, "newc" format), which the kernel unpacks
//! as the root of a guest. Runs nothing, and follows no links.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The name of the entry that ends an archive.
const END: &str = "TRAILER!!!";

/// An archive that is being written.
pub(crate) struct Image<W> {
    out: W,
    entries: u32,
    written: BTreeSet<PathBuf>,
}

impl<W: Write> Image<W> {
    /// Starts an archive.
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            entries: 0,
            written: BTreeSet::new(),
        }
    }

    /// Adds a folder, and those that it lies in. The kernel makes none by itself.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(crate) fn folder(&mut self, path: &Path, permissions: u32) -> Result<()> {
        let mut missing: Vec<&Path> = path.ancestors().collect();
        missing.reverse();
        for folder in missing {
            let last = folder == path;
            self.entry(folder, FOLDER | if last { permissions } else { 0o755 }, &[])?;
        }
        Ok(())
    }

    /// Adds a file. What is there already stays as it is.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(crate) fn file(&mut self, path: &Path, permissions: u32, bytes: &[u8]) -> Result<()> {
        self.parent(path)?;
        self.entry(path, FILE | permissions, bytes)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the archive cannot be written.
    pub(crate) fn link(&mut self, path: &Path, target: &str) -> Result<()> {
        self.parent(path)?;
        self.entry(path, LINK | 0o777, target.as_bytes())
    }

    /// Adds a file of this machine under another path.
    ///
    /// # Errors
    /// When it cannot be read, or the archive not be written.
    pub(crate) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let cannot = || format!("cannot read {}", from.display());
        let bytes = fs::read(from).with_context(cannot)?;
        let mode = fs::metadata(from)
            .with_context(cannot)?
            .permissions()
            .mode();
        self.file(to, mode & 0o7777, &bytes)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.entry(Path::new(END), 0, &[])?;
        self.out.flush().context("cannot write an initramfs")?;
        Ok(self.out)
    }

    fn parent(&mut self, path: &Path) -> Result<()> {
        match path.parent() {
            Some(folder) if !self.written.contains(relative(folder)) => self.folder(folder, 0o755),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
        let name = relative(path);
        if name.as_os_str().is_empty() || !self.written.insert(name.to_owned()) {
            return Ok(());
        }
        self.entries += 1;
        write_entry(&mut self.out, self.entries, name, mode, bytes)
            .with_context(|| format!("cannot write {} into an initramfs", path.display()))
    }
}

/// Names in the archive are relative to the root that it becomes.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Header of 13 numbers in hex, name with a NUL, content; the two last padded to 4 bytes.
fn write_entry(
    out: &mut impl Write,
    inode: u32,
    name: &Path,
    mode: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let name = name.as_os_str().as_encoded_bytes();
    let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let (size, named) = (length(bytes.len())?, length(name.len() + 1)?);
    write!(out, "070701")?;
    for number in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, named, 0] {
        write!(out, "{number:08X}")?;
    }
    out.write_all(name)?;
    out.write_all(&[0])?;
    pad(out, 110 + name.len() + 1)?;
    out.write_all(bytes)?;
    pad(out, bytes.len())
}

fn pad(out: &mut impl Write, length: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Names, modes and contents of an archive.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut rest = archive;
        let mut found = Vec::new();
        while !rest.is_empty() {
            let number = |index: usize| {
                let digits = &rest[6 + 8 * index..14 + 8 * index];
                u32::from_str_radix(
                    std::str::from_utf8(digits).expect("memory takes it all"),
                    16,
                )
                .expect("memory takes it all")
            };
            assert_eq!(&rest[..6], b"070701");
            let (size, named) = (number(6) as usize, number(11) as usize);
            let content = (110 + named).next_multiple_of(4);
            let name = String::from_utf8_lossy(&rest[110..110 + named - 1]).into_owned();
            found.push((name, number(1), rest[content..content + size].to_vec()));
            rest = &rest[(content + size).next_multiple_of(4)..];
        }
        found
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_only_once() {
        let mut image = Image::new(Vec::new());
        image
            .folder(Path::new("/tmp"), 0o1777)
            .expect("memory takes it all");
        image
            .file(Path::new("/a/b/c"), 0o644, b"12345")
            .expect("memory takes it all");
        image
            .file(Path::new("/a/b/d"), 0o755, b"")
            .expect("memory takes it all");
        image
            .link(Path::new("/a/e"), "b/c")
            .expect("memory takes it all");
        image
            .folder(Path::new("/tmp"), 0o755)
            .expect("memory takes it all");
        let expected = [
            ("tmp", 0o041_777, ""),
            ("a", 0o040_755, ""),
            ("a/b", 0o040_755, ""),
            ("a/b/c", 0o100_644, "12345"),
            ("a/b/d", 0o100_755, ""),
            ("a/e", 0o120_777, "b/c"),
            (END, 0, ""),
        ];
        let expected = expected.map(|(name, mode, bytes)| (name.into(), mode, bytes.into()));
        assert_eq!(
            entries(&image.finish().expect("memory takes it all")),
            expected
        );
    }
}

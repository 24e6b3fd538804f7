//! Turns /proc/PID/maps into sorted [`Mapping`]s. Pure; reads no file.

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
    /// Offset in the file of the first byte.
    pub file_offset: u64,
    /// The file; absent for anonymous memory.
    pub file: Option<FileId>,
    /// Path as the process sees it, or a name in brackets; empty for anonymous memory.
    pub path: PathBuf,
    /// The file's name is gone from disk (replaced or deleted after it was mapped).
    pub deleted: bool,
}

/// The mappings of one process, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mappings {
    list: Vec<Mapping>,
}

impl Mappings {
    /// stub
    pub fn executable(&self) -> impl Iterator<Item = &Mapping> { self.list.iter().filter(|m| m.executable) }
    /// stub
    pub fn containing(&self, a: u64) -> Option<&Mapping> { self.list.iter().find(|m| m.start <= a && a < m.end) }
    /// stub
    pub fn parse(text: &[u8]) -> Self {
        let mut list = vec![];
        for l in String::from_utf8_lossy(text).lines() {
            let p: Vec<&str> = l.split_whitespace().collect();
            let (a, b) = p[0].split_once('-').unwrap();
            list.push(Mapping { start: u64::from_str_radix(a, 16).unwrap(), end: u64::from_str_radix(b, 16).unwrap(), executable: p[1].contains('x'), file_offset: 0, file: None, path: p.get(5).unwrap_or(&"").into(), deleted: false });
        }
        Self { list }
    }
}

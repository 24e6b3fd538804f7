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

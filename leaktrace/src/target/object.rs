//! The file behind a mapping, opened so that it is the one that is really mapped, whatever has
//! happened to its name since, and however hostile its owner is. Parses nothing itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::symbols::{self, Function, Segments};
use super::{FileId, Mapping, Process};

/// Files larger than this are not parsed.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// Why an object could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The mapping has no file.
    #[error("{0} is not a file")]
    NoFile(PathBuf),
    /// It could not be opened.
    #[error("failed to open {path}: {source}")]
    Open {
        /// Path as the process sees it.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The name now leads to another file, and the mapped one cannot be reached.
    #[error("{0} was replaced after it was mapped; run as root to read what is mapped")]
    Replaced(PathBuf),
    /// Not a file that can be parsed.
    #[error("{path} cannot be read as an ELF object: {reason}")]
    Malformed {
        /// Path as the process sees it.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A mapped file, held open.
#[derive(Clone, Debug)]
pub struct Object {
    path: PathBuf,
    id: FileId,
    file: Arc<File>,
    size_bytes: u64,
}

impl Object {
    /// Opens the file behind a mapping: through /proc/PID/map_files, which leads to the mapped
    /// file itself; else by name through the process's root, if the inode is still the mapped one.
    ///
    /// # Errors
    ///
    /// When the mapping has no file, or the file cannot be reached or is no regular file.
    pub fn open(process: &Process, mapping: &Mapping) -> Result<Self, ObjectError> {
        let path = mapping.path.clone();
        let Some(id) = mapping.file else {
            return Err(ObjectError::NoFile(path));
        };
        let file = match open_mapped(process.pid(), mapping) {
            Ok(file) => file,
            Err(_) => open_by_name(process.pid(), mapping, id)?,
        };
        let metadata = file.metadata().map_err(|source| ObjectError::Open {
            path: path.clone(),
            source,
        })?;
        if metadata.mode() & libc::S_IFMT != libc::S_IFREG {
            return Err(ObjectError::NoFile(path));
        }
        if metadata.len() > MAX_FILE_BYTES {
            let reason = format!("it has {} bytes, more than leaktrace reads", metadata.len());
            return Err(ObjectError::Malformed { path, reason });
        }
        Ok(Self {
            path,
            id,
            file: Arc::new(file),
            size_bytes: metadata.len(),
        })
    }

    /// Path as the process sees it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    pub fn file_id(&self) -> FileId {
        self.id
    }

    /// Length of the file when it was opened.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// A path that leads to this very file in this process, for whoever wants a name.
    pub fn open_path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// The functions with these names that the object defines, from .dynsym and .symtab.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn functions(&self, names: &[&str]) -> Result<Vec<Function>, ObjectError> {
        symbols::functions(&self.file, names).map_err(|reason| ObjectError::Malformed {
            path: self.path.clone(),
            reason,
        })
    }

    /// The loadable segments, for turning file offsets into addresses stated in the object.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn segments(&self) -> Result<Segments, ObjectError> {
        symbols::segments(&self.file).map_err(|reason| ObjectError::Malformed {
            path: self.path.clone(),
            reason,
        })
    }

    /// Address (svma) and bytes of a section; `None` when there is none of this name.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn section(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>, ObjectError> {
        symbols::section(&self.file, name).map_err(|reason| ObjectError::Malformed {
            path: self.path.clone(),
            reason,
        })
    }

    /// Up to `length` bytes from this offset in the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be read there.
    pub fn code(&self, file_offset: u64, length: usize) -> Result<Vec<u8>, ObjectError> {
        let mut code = vec![0; length];
        let read = self
            .file
            .read_at(&mut code, file_offset)
            .map_err(|source| ObjectError::Open {
                path: self.path.clone(),
                source,
            })?;
        code.truncate(read);
        Ok(code)
    }
}

fn open_mapped(pid: u32, mapping: &Mapping) -> io::Result<File> {
    let path = format!(
        "/proc/{pid}/map_files/{:x}-{:x}",
        mapping.start, mapping.end
    );
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

/// Names are the process owner's to choose: symlinks stay inside the process's root, magic links
/// are refused, and a FIFO does not block.
fn open_by_name(pid: u32, mapping: &Mapping, id: FileId) -> Result<File, ObjectError> {
    let path = mapping.path.clone();
    let failed = |source: rustix::io::Errno| ObjectError::Open {
        path: path.clone(),
        source: source.into(),
    };
    let root: OwnedFd = openat(
        CWD,
        format!("/proc/{pid}/root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed)?;
    let relative = path.strip_prefix("/").unwrap_or(&path);
    let file: File = openat2(
        &root,
        relative,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(failed)?
    .into();
    // The device is not compared: overlayfs and btrfs show another one in stat than in maps.
    let inode = file.metadata().map(|metadata| metadata.ino());
    match inode {
        Ok(inode) if inode == id.inode => Ok(file),
        _ => Err(ObjectError::Replaced(path.clone())),
    }
}

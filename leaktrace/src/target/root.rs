//! The root folder that a process sees, held open, and files in it, opened so that whoever owns the
//! process can neither lead out of that root nor make the reader wait. Parses nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

use super::Process;

/// A root folder. It stays what it is when the process ends.
#[derive(Debug)]
pub struct Root(OwnedFd);

/// Why a file in a root cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// There is none of this name.
    #[error("it is not there")]
    Missing,
    /// It is a symbolic link, a FIFO, a device or a folder.
    #[error("it is not a regular file")]
    NotRegular,
    /// The kernel's word.
    #[error("{0}")]
    Failed(#[from] io::Error),
}

/// What happens when the last part of a name is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// It is followed, inside the root.
    Followed,
    /// It is not a regular file.
    Refused,
}

impl Root {
    /// The root that a process sees.
    ///
    /// # Errors
    ///
    /// When the process has ended or may not be looked at.
    pub fn of(process: &Process) -> io::Result<Self> {
        let root = Self::open(&format!("/proc/{}/root", process.shown_as()))?;
        match process.has_exited() {
            true => Err(Errno::SRCH.into()),
            false => Ok(root),
        }
    }

    /// The root of this process.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn own() -> io::Result<Self> {
        Self::open("/")
    }

    fn open(path: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Whether both are the same folder.
    pub fn is(&self, other: &Self) -> bool {
        let id = |root: &Self| fstat(&root.0).map(|stat| (stat.st_dev, stat.st_ino)).ok();
        id(self).is_some() && id(self) == id(other)
    }

    /// Opens a regular file for reading. Nothing is opened for reading before it is known to be
    /// one: opening a device can already do something, and a FIFO blocks.
    ///
    /// # Errors
    ///
    /// [`RootError`].
    pub fn file(&self, path: &Path, last_link: LastLink) -> Result<(File, Stat), RootError> {
        let mut flags = OFlags::PATH | OFlags::CLOEXEC;
        flags.set(OFlags::NOFOLLOW, last_link == LastLink::Refused);
        let handle: OwnedFd = openat2(
            &self.0,
            path.strip_prefix("/").unwrap_or(path),
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
        .map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => RootError::Missing,
            errno => RootError::Failed(errno.into()),
        })?;
        let stat = fstat(&handle).map_err(io::Error::from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(RootError::NotRegular);
        }
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from)?;
        Ok((file.into(), stat))
    }
}

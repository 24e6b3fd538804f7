//! The kernel's tracefs, mounted or not: files of it by name.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// A mount of tracefs that nobody else sees.
pub(super) struct Tracefs(OwnedFd);

impl Tracefs {
    /// Mounts it.
    ///
    /// # Errors
    ///
    /// When the kernel has no tracefs or does not allow it.
    pub(super) fn open() -> io::Result<Self> {
        let context = fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(context.as_fd())?;
        fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::empty(),
        )
        .map(Self)
        .map_err(io::Error::from)
    }

    /// The text of a file.
    ///
    /// # Errors
    ///
    /// When it is not there or cannot be read.
    pub(super) fn read(&self, path: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.0, path, flags, Mode::empty())?;
        io::read_to_string(File::from(file))
    }

    /// Gives the kernel a line.
    ///
    /// # Errors
    ///
    /// When the kernel refuses it.
    pub(super) fn append(&self, path: &str, line: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        let file = openat(&self.0, path, flags, Mode::empty())?;
        File::from(file).write_all(line.as_bytes())
    }

    /// Number of a trace event, `group/name`.
    ///
    /// # Errors
    ///
    /// When the kernel does not have it.
    pub(super) fn event_id(&self, event: &str) -> io::Result<u64> {
        let id = self.read(&format!("events/{event}/id"))?;
        id.trim().parse().map_err(io::Error::other)
    }
}

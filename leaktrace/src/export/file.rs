//! Bytes → a file that a reader never finds half written. Never writes through a symbolic link
//! that someone else may have put in place, except below /dev and /proc, where links are the
//! system's own.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, AtFlags, CWD};
use tempfile::NamedTempFile;

/// How long a reader of a pipe may stand still before the write is given up.
const PIPE_PATIENCE: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};
/// Permissions of a new file, less the umask.
const NEW_FILE_MODE: u32 = 0o644;

/// A file that could not be written, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {source}; {advice}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What to do.
    pub advice: &'static str,
    /// Why.
    pub source: io::Error,
}

/// Writes a file as a whole: a reader of the path finds the old bytes or the new ones. An
/// existing file keeps its permissions and owner; a new one under sudo belongs to the user who
/// called sudo. A symbolic link is replaced by the file. A pipe, a terminal or another special
/// file is written to.
///
/// # Errors
///
/// When the bytes cannot all be written; a regular file then has its old content.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let written = match place(path) {
        Ok(Place::Regular { directory, old }) => {
            replace_by(path, &directory, old.as_ref(), |file| file.write_all(bytes))
        }
        Ok(Place::Special) => write_through(path, bytes),
        Err(error) => Err(error),
    };
    written.map_err(|source| failure(path, source))
}

/// Opens a file that is written piece by piece: a new one in the place of an old one, under the same
/// rules as [`replace`]. Of a special file, writes wait for its reader.
///
/// # Errors
///
/// When it cannot be written.
pub fn begin(path: &Path) -> Result<File, FileError> {
    let begun = match place(path) {
        Ok(Place::Regular { directory, old }) => begin_regular(path, &directory, old.as_ref()),
        Ok(Place::Special) => begin_special(path),
        Err(error) => Err(error),
    };
    begun.map_err(|source| failure(path, source))
}

/// Whether [`replace`] can be expected to work, found out without changing the file.
///
/// # Errors
///
/// When it would fail.
pub fn check_writable(path: &Path) -> Result<(), FileError> {
    let checked = match place(path) {
        Ok(Place::Regular { directory, .. }) => temporary(path, &directory).map(drop),
        // Opening a pipe and closing it again would end its reader's input.
        Ok(Place::Special) => rustix::fs::accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS)
            .map_err(io::Error::from),
        Err(error) => Err(error),
    };
    checked.map_err(|source| failure(path, source))
}

/// What stands at a path.
enum Place {
    /// A regular file, or nothing yet.
    Regular {
        directory: PathBuf,
        old: Option<fs::Metadata>,
    },
    /// Something that takes bytes as they come.
    Special,
}

fn place(path: &Path) -> io::Result<Place> {
    let names_directory = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if path.file_name().is_none() || names_directory {
        return Err(ErrorKind::IsADirectory.into());
    }
    let link = match fs::symlink_metadata(path) {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // A broken link leads nowhere, and is replaced like any other.
    let target = fs::metadata(path).ok();
    if target.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Err(ErrorKind::IsADirectory.into());
    }
    let is_link = link.as_ref().is_some_and(fs::Metadata::is_symlink);
    let is_special = target.as_ref().is_some_and(|target| !target.is_file());
    if is_special || is_link && is_of_the_system(path)? {
        return Ok(Place::Special);
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok(Place::Regular {
        directory,
        old: link.filter(fs::Metadata::is_file),
    })
}

/// /dev/stdout, /dev/fd/3 and the like lead to an open file: to rename another over the link
/// would take it from the whole machine.
fn is_of_the_system(path: &Path) -> io::Result<bool> {
    let path = std::path::absolute(path)?;
    Ok(path.starts_with("/dev") || path.starts_with("/proc"))
}

/// A new file beside the path, gone again when it is dropped. Created exclusively, so that no
/// link is followed.
fn temporary(path: &Path, directory: &Path) -> io::Result<NamedTempFile> {
    // A missing directory is said as such, without the temporary name.
    fs::metadata(directory)?;
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".");
    // The name may be as long as the file system allows: no room for a prefix then.
    let prefix = if prefix.len() > 200 {
        ".leaktrace.".into()
    } else {
        prefix
    };
    tempfile::Builder::new()
        .prefix(&prefix)
        .permissions(Permissions::from_mode(NEW_FILE_MODE))
        .tempfile_in(directory)
}

/// Lets `write` fill a new file, and puts that in the place of the old one.
fn replace_by(
    path: &Path,
    directory: &Path,
    old: Option<&fs::Metadata>,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut new = temporary(path, directory)?;
    write(new.as_file_mut())?;
    give_to_owner(new.as_file(), old)?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    Ok(())
}

fn give_to_owner(new: &File, old: Option<&fs::Metadata>) -> io::Result<()> {
    let own = new.metadata()?;
    let owner = match old {
        Some(old) => Some((old.uid(), old.gid())),
        None if own.uid() == 0 => invoking_user(|name| std::env::var(name).ok()),
        None => None,
    };
    if let Some((uid, gid)) = owner
        && (own.uid(), own.gid()) != (uid, gid)
    {
        // Without the right to give files away, the file stays ours: it is as readable.
        let _ = fchown(new, Some(uid), Some(gid));
    }
    if let Some(old) = old {
        new.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
    }
    Ok(())
}

/// Who called sudo, from its environment; absent without sudo.
fn invoking_user(variable: impl Fn(&str) -> Option<String>) -> Option<(u32, u32)> {
    let id = |name| variable(name)?.parse().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

fn begin_regular(path: &Path, directory: &Path, old: Option<&fs::Metadata>) -> io::Result<File> {
    let new = temporary(path, directory)?;
    give_to_owner(new.as_file(), old)?;
    new.persist(path).map_err(|error| error.error)
}

fn begin_special(path: &Path) -> io::Result<File> {
    let file = open_special(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)? - rustix::fs::OFlags::NONBLOCK;
    rustix::fs::fcntl_setfl(&file, flags)?;
    Ok(file)
}

/// Does not wait for a reader.
fn open_special(path: &Path) -> io::Result<File> {
    File::options()
        .append(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENXIO) => io::Error::new(ErrorKind::BrokenPipe, "nobody reads from it"),
            _ => error,
        })
}

/// Writes to what is there. Appends, because /dev/stdout may be a regular file that has reports
/// in it already. Never waits for a reader for long: meanwhile nobody would read the kernel's
/// maps, nor hear Ctrl-C.
fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open_special(path)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_reader(&file)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for_reader(file: &File) -> io::Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
    match poll(&mut fds, Some(&PIPE_PATIENCE)) {
        Ok(0) => Err(io::Error::new(
            ErrorKind::TimedOut,
            "its reader has stopped reading",
        )),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn failure(path: &Path, source: io::Error) -> FileError {
    let advice = match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "create its directory first",
        ErrorKind::IsADirectory => "name a file in it",
        ErrorKind::PermissionDenied => "choose a place that you may write to",
        ErrorKind::ReadOnlyFilesystem => "choose a place that is not read-only",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space or choose another place"
        }
        ErrorKind::BrokenPipe | ErrorKind::TimedOut => "keep its reader running",
        _ => "choose another place",
    };
    FileError {
        path: path.to_owned(),
        advice,
        source,
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

//! The file behind a mapping, opened so that it is the one that is really mapped, whatever has
//! happened to its name since, and however hostile its owner is. Parses nothing itself.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use super::debug_file;
use super::links::{self, Links};
use super::mini_debug;
use super::root::Root;
use super::symbols::{self, Function, Section, Segments};
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
    #[error(
        "{0} was replaced or deleted after it was mapped, and what is mapped can be read with \
         CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE only; run with sudo"
    )]
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
    /// What was stripped from it, if it was found.
    debug: Option<Arc<Object>>,
    /// Symbols that it carries packed, if its debug file was not found.
    packed: Option<Arc<Object>>,
    looked_up: Arc<LookedUp>,
}

/// Names of functions that were looked for, and what was found: each look-up goes through all
/// symbols.
type LookedUp = Mutex<Vec<(Vec<String>, Vec<Function>)>>;

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
        let file = match open_mapped(process, mapping, id) {
            Some(file) => file,
            None => open_by_name(process, mapping, id)?,
        };
        let metadata = file.metadata().map_err(|source| ObjectError::Open {
            path: path.clone(),
            source,
        })?;
        if metadata.len() > MAX_FILE_BYTES {
            let reason = format!("it has {} bytes, more than leaktrace reads", metadata.len());
            return Err(ObjectError::Malformed { path, reason });
        }
        Ok(Self {
            path,
            id,
            file: Arc::new(file),
            size_bytes: metadata.len(),
            debug: None,
            packed: None,
            looked_up: Arc::default(),
        })
    }

    /// Looks for what was stripped from the object in these roots, and else in the object itself.
    #[must_use]
    pub fn with_debug_file(mut self, roots: &[Root]) -> Self {
        if !debug_file::is_wanted(&self.file) {
            return self;
        }
        if let Some((file, path)) = debug_file::find(&self.file, &self.path, roots) {
            self.debug = Some(Arc::new(Self::of_file(file, &path, self.id)));
        } else if let Some(file) = mini_debug::unpack(&self.file) {
            self.packed = Some(Arc::new(Self::of_file(file, &self.path, self.id)));
        }
        self.looked_up = Arc::default();
        self
    }

    /// The same object with this debug file, if it is of the same build.
    #[must_use]
    pub fn with_this_debug_file(mut self, file: File) -> Self {
        if self.build_id().is_some() && debug_file::hex_build_id(&file) == self.build_id() {
            self.debug = Some(Arc::new(Self::of_file(file, &self.path, self.id)));
            self.looked_up = Arc::default();
        }
        self
    }

    /// The object's debug file, as an object with the same identity.
    pub fn debug_file(&self) -> Option<&Self> {
        self.debug.as_deref()
    }

    /// The symbols that it carries packed, as an object with the same identity. Names that it
    /// exports are not among them.
    pub fn packed_symbols(&self) -> Option<&Self> {
        self.packed.as_deref()
    }

    /// Whether it was stripped, and its debug file was not found.
    pub fn lacks_debug_file(&self) -> bool {
        self.debug.is_none() && debug_file::is_wanted(&self.file)
    }

    /// What tells its build from all others, in hexadecimal digits; absent when its linker was not
    /// asked for it.
    pub fn build_id(&self) -> Option<String> {
        debug_file::hex_build_id(&self.file)
    }

    /// An object as if a mapping with this file had been opened.
    pub(crate) fn of_file(file: File, path: &Path, id: FileId) -> Self {
        Self {
            path: path.to_owned(),
            id,
            size_bytes: file.metadata().map_or(0, |metadata| metadata.len()),
            file: Arc::new(file),
            debug: None,
            packed: None,
            looked_up: Arc::default(),
        }
    }

    /// Whether both are of one file, whatever it is called.
    pub fn is_of_same_file(&self, other: &Self) -> bool {
        let identity = |object: &Self| {
            let stat = fstat(&*object.file).ok()?;
            Some((stat.st_dev, stat.st_ino, stat.st_size))
        };
        identity(self).is_some_and(|id| identity(other) == Some(id))
    }

    /// The same object, where a process sees it under this path.
    #[must_use]
    pub fn called(mut self, path: &Path) -> Self {
        self.path = path.to_owned();
        self
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

    /// The functions with these names that the object defines, from .dynsym, .symtab and the .symtab
    /// of its debug file or of what it carries packed. Who asks for some of the names that were asked
    /// for before is answered from memory. Where there are too many for any honest object, the first ones, and
    /// that is said on standard error.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn functions(&self, names: &[&str]) -> Result<Vec<Function>, ObjectError> {
        // Held while it is searched: another thread that wants the same is to wait for it.
        let mut looked_up = self
            .looked_up
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = looked_up
            .iter()
            .find(|(known, _)| names.iter().all(|name| known.iter().any(|n| n == name)));
        if let Some((_, functions)) = known {
            return Ok(symbols::with_names(functions, names));
        }
        let debug = self.debug.as_deref().or(self.packed.as_deref());
        let debug = debug.map(|debug| &*debug.file);
        let functions = symbols::functions(&self.file, debug, names)
            .map_err(|reason| self.malformed(reason))?;
        if functions.len() == symbols::MAX_FUNCTIONS {
            log::warn!(
                "{} defines {} functions or more of a few names: calls of the others are not counted",
                self.path.display(),
                symbols::MAX_FUNCTIONS,
            );
        }
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        looked_up.push((names, functions.clone()));
        Ok(functions)
    }

    /// Where its code is, and where its jumps lead.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn links(&self) -> Result<Links, ObjectError> {
        links::links(&self.file).map_err(|reason| self.malformed(reason))
    }

    /// Address (svma) of the data that the object exports by this name, if it does.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn data(&self, name: &str) -> Result<Option<u64>, ObjectError> {
        symbols::data(&self.file, name).map_err(|reason| self.malformed(reason))
    }

    /// The loadable segments, for turning file offsets into addresses stated in the object.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn segments(&self) -> Result<Segments, ObjectError> {
        symbols::segments(&self.file).map_err(|reason| self.malformed(reason))
    }

    /// Every section that the object has.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn sections(&self) -> Result<Vec<Section>, ObjectError> {
        symbols::sections(&self.file).map_err(|reason| self.malformed(reason))
    }

    /// Address (svma) and bytes of a section; `None` when there is none of this name.
    ///
    /// # Errors
    ///
    /// When it is no ELF object or a broken one.
    pub fn section(&self, name: &str) -> Result<Option<(u64, Vec<u8>)>, ObjectError> {
        symbols::section(&self.file, name).map_err(|reason| self.malformed(reason))
    }

    fn malformed(&self, reason: String) -> ObjectError {
        ObjectError::Malformed {
            path: self.path.clone(),
            reason,
        }
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

/// The file through /proc/PID/map_files; `None` when that way is closed (it takes privileges) or
/// leads to anything but what the mapping was made of.
fn open_mapped(process: &Process, mapping: &Mapping, id: FileId) -> Option<File> {
    let path = format!(
        "/proc/{}/map_files/{:x}-{:x}",
        process.shown_as(),
        mapping.start,
        mapping.end
    );
    let handle = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let inode = regular_file(&handle).ok()??;
    // Overlayfs can show an inode in stat that is not that of maps. Then the mapping still being
    // there shows that the link has led to it.
    let same = || {
        let now = process.mappings().ok()?;
        let now = now.containing(mapping.start)?;
        Some(now.file == Some(id) && (now.start, now.end) == (mapping.start, mapping.end))
    };
    if process.has_exited() || inode != id.inode && same() != Some(true) {
        return None;
    }
    reopen(&handle).ok()
}

/// The file by its name in the process's root. Names are the process owner's to choose: symlinks
/// stay inside the root, magic links are refused, and nothing is opened for reading before it is
/// known to be the mapped file: opening a device can already do something, and a FIFO blocks.
fn open_by_name(process: &Process, mapping: &Mapping, id: FileId) -> Result<File, ObjectError> {
    let path = &mapping.path;
    let failed = |source: io::Error| ObjectError::Open {
        path: path.clone(),
        source,
    };
    let root: OwnedFd = openat(
        CWD,
        format!("/proc/{}/root", process.shown_as()),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| failed(errno.into()))?;
    let handle: OwnedFd = openat2(
        &root,
        path.strip_prefix("/").unwrap_or(path),
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(|errno| match errno {
        rustix::io::Errno::NOENT if mapping.deleted => ObjectError::Replaced(path.clone()),
        errno => failed(errno.into()),
    })?;
    if process.has_exited() {
        return Err(failed(rustix::io::Errno::SRCH.into()));
    }
    // The device is not compared: overlayfs and btrfs show another one in stat than in maps.
    match regular_file(&handle).map_err(failed)? {
        Some(inode) if inode == id.inode => reopen(&handle).map_err(failed),
        _ => Err(ObjectError::Replaced(path.clone())),
    }
}

/// Inode of what an O_PATH descriptor stands for, if it is a regular file.
fn regular_file(handle: &OwnedFd) -> io::Result<Option<u64>> {
    let stat = fstat(handle)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(regular.then_some(stat.st_ino))
}

fn reopen(handle: &OwnedFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(openat(CWD, path, flags, Mode::empty())?.into())
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;

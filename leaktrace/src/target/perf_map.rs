//! Where a process's runtime writes the names of the code that it makes (/tmp/perf-PID.map), and
//! what has been written there since it was read last. Takes the file of nobody but the process's
//! user and root; parses no line.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::fs::Stat;

use super::Process;
use super::process::{field, read};
use super::root::{LastLink, Root, RootError};

/// More than this of a perf map is not read. V8 appends to it as long as the process lives.
const MAX_BYTES: u64 = 256 << 20;

/// The time of a file can be so much before the time at which it was written: kernels stamp it with
/// their latest tick.
const FILE_TIME_LAG: Duration = Duration::from_millis(20);

/// The place of a process's perf map. It can be read when the process has ended, which is when
/// some runtimes write it.
#[derive(Debug)]
pub struct PerfMapFile {
    root: Root,
    path: PathBuf,
    uid: u32,
    /// When the program began whose code it may name.
    begun_at: Option<SystemTime>,
    /// Which file was read, and how far.
    read: Option<Progress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    id: (u64, u64),
    bytes: u64,
    written: (i64, i64),
}

/// What has become of the file.
#[derive(Debug, PartialEq, Eq)]
pub enum PerfMapNews {
    /// It is not there, or nothing is new.
    Nothing,
    /// It goes on with these bytes.
    More(Vec<u8>),
    /// It has been written anew, or is another file: these are its first bytes.
    Anew(Vec<u8>),
}

impl PerfMapFile {
    /// The place of the perf map of this process: its root, and its pid in its own namespace.
    /// Absent when it has ended.
    pub fn of(process: &Process) -> Option<Self> {
        let status = read(process.shown_as(), "status").ok()?;
        let pid = innermost_pid(&status)?;
        // Real, effective, saved, of the file system.
        let uid = field(&status, "Uid:")?.split_whitespace().nth(1)?;
        Some(Self {
            root: Root::of(process).ok()?,
            path: PathBuf::from(format!("/tmp/perf-{pid}.map")),
            uid: uid.parse().ok()?,
            begun_at: process.started_at(),
            read: None,
        })
    }

    /// Refuses a map that was written before the process executed its program.
    #[must_use]
    pub fn since(mut self, executed_at: Option<SystemTime>) -> Self {
        self.begun_at = self.begun_at.max(executed_at);
        self
    }

    /// Goes on with what another place of the same process had read: its user or its root can have
    /// changed.
    #[must_use]
    pub fn after(mut self, earlier: Option<Self>) -> Self {
        self.read = earlier.and_then(|earlier| earlier.read);
        self
    }

    /// Its name, as the process sees it.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// What is new in the file.
    ///
    /// # Errors
    ///
    /// Why the file that is there is not taken, as the end of a sentence.
    pub fn news(&mut self) -> Result<PerfMapNews, String> {
        let (file, stat) = match self.root.file(&self.path, LastLink::Refused) {
            Ok(found) => found,
            // A runtime may remove it when it ends; what it has said stays true.
            Err(RootError::Missing) => return Ok(PerfMapNews::Nothing),
            Err(error) => return Err(error.to_string()),
        };
        if stat.st_uid != self.uid && stat.st_uid != 0 {
            return Err(format!(
                "it belongs to user {}, and the process to user {}",
                stat.st_uid, self.uid
            ));
        }
        if self.begun_at.is_some_and(|begun| is_before(&stat, begun)) {
            return Err(
                "it seems to have been written before the process began to run this program, by the \
                 clock of files, which may have been set since"
                    .to_owned(),
            );
        }
        let size_bytes = u64::try_from(stat.st_size).unwrap_or(0);
        if size_bytes > MAX_BYTES {
            return Err(format!(
                "it has {size_bytes} bytes, and leaktrace reads up to {MAX_BYTES}"
            ));
        }
        self.read_on(&file, &stat, size_bytes)
            .map_err(|error| error.to_string())
    }

    fn read_on(
        &mut self,
        file: &File,
        stat: &Stat,
        size_bytes: u64,
    ) -> std::io::Result<PerfMapNews> {
        let id = (stat.st_dev, stat.st_ino);
        let written = (stat.st_mtime, stat.st_mtime_nsec.cast_signed());
        let earlier = self.read.filter(|read| {
            let same_size = read.bytes == size_bytes;
            read.id == id && read.bytes <= size_bytes && (!same_size || read.written == written)
        });
        let from = earlier.map_or(0, |read| read.bytes);
        let mut bytes = vec![0; usize::try_from(size_bytes - from).unwrap_or(0)];
        let mut length = 0;
        while length < bytes.len() {
            match file.read_at(&mut bytes[length..], from + length as u64)? {
                0 => break,
                more => length += more,
            }
        }
        bytes.truncate(length);
        self.read = Some(Progress {
            id,
            bytes: from + length as u64,
            written,
        });
        Ok(match earlier {
            Some(_) if bytes.is_empty() => PerfMapNews::Nothing,
            Some(_) => PerfMapNews::More(bytes),
            None => PerfMapNews::Anew(bytes),
        })
    }
}

/// Whether the file was certainly not written to since.
fn is_before(stat: &Stat, begun: SystemTime) -> bool {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let written = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
    written + FILE_TIME_LAG < begun
}

/// The process's pid in the namespace that it lives in: the last one that /proc names.
fn innermost_pid(status: &str) -> Option<u32> {
    let pids = field(status, "NSpid:").or_else(|| field(status, "Tgid:"))?;
    pids.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_is_the_one_that_the_process_knows() {
        assert_eq!(innermost_pid("NSpid:\t812\t17\t1\n"), Some(1));
        assert_eq!(innermost_pid("Tgid:\t812\nNSpid:\t812\n"), Some(812));
        assert_eq!(innermost_pid("Name:\tx\n"), None);
    }
}

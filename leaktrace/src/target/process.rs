//! A process that can be traced, held by a pidfd so that its pid cannot come to mean another one.
//! Reads /proc; sends nothing to the process.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use leaktrace_common::arch::ELF_MACHINE;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{ClockId, clock_gettime};

use super::{Container, Mappings, threads};

/// /proc/PID/maps is read up to here: over a million mappings.
const MAX_MAPS_BYTES: u64 = 256 << 20;

/// Other files of /proc are read up to here: a process can state gigabytes of its memory as its
/// arguments.
const MAX_PROC_BYTES: u64 = 1 << 20;

/// Nothing shows more of a command line.
const MAX_COMMAND_LINE_CHARS: usize = 4096;

/// Why a process cannot be traced.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is none with this pid.
    #[error("there is no process {pid}; `pgrep -a NAME` finds the pid of a program")]
    NoSuchProcess {
        /// The pid asked for.
        pid: u32,
    },
    /// The number is that of a thread.
    #[error("{pid} is a thread of process {tgid}; trace that one: leaktrace -p {tgid}")]
    Thread {
        /// The number asked for.
        pid: u32,
        /// The process that it belongs to.
        tgid: u32,
    },
    /// A thread of the kernel.
    #[error("process {pid} is a kernel thread and has no user memory; choose a user process")]
    KernelThread {
        /// The pid asked for.
        pid: u32,
    },
    /// It has ended but was not waited for.
    #[error("process {pid} is a zombie: it has ended and holds no memory any more")]
    Zombie {
        /// The pid asked for.
        pid: u32,
    },
    /// Its main thread has ended, others run on. The kernel (6.18) finds the memory to probe
    /// through the main thread: a uprobe_multi link to the process is accepted and never hit, one
    /// to another thread is ESRCH.
    #[error(
        "the main thread of process {pid} has ended while others run on, and the kernel attaches \
         probes through the main thread only; start leaktrace before the main thread ends"
    )]
    MainThreadGone {
        /// The pid asked for.
        pid: u32,
    },
    /// leaktrace itself.
    #[error("process {pid} is leaktrace itself; choose another process")]
    Myself {
        /// The pid asked for.
        pid: u32,
    },
    /// Not an x86-64 process.
    #[error("process {pid} is a 32-bit program; leaktrace traces 64-bit programs only")]
    ThirtyTwoBit {
        /// The pid asked for.
        pid: u32,
    },
    /// It belongs to another user.
    #[error(
        "not allowed to look at process {pid}; run with sudo, and if that is done, outside of the container, \
             user namespace or security policy that forbids it"
    )]
    NotPermitted {
        /// The pid asked for.
        pid: u32,
    },
    /// It ended while it was looked at.
    #[error("process {pid} exited before it could be traced")]
    Exited {
        /// The pid asked for.
        pid: u32,
    },
    /// Anything else that /proc said.
    #[error("failed to read /proc/{pid}/{file}: {source}")]
    Unreadable {
        /// The pid asked for.
        pid: u32,
        /// The file below /proc/PID.
        file: &'static str,
        /// The error.
        source: io::Error,
    },
}

/// A live process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    pidfd: OwnedFd,
    comm: String,
    exe: Option<PathBuf>,
    command_line: String,
    container: Option<Container>,
}

impl Process {
    /// Opens the process with this pid and makes sure that it can be traced.
    ///
    /// # Errors
    ///
    /// [`TargetError`], one sentence for each way in which it cannot.
    pub fn open(pid: u32) -> Result<Self, TargetError> {
        if pid == std::process::id() {
            return Err(TargetError::Myself { pid });
        }
        let pidfd = open_pidfd(pid)?;
        let status = read(pid, "status")?;
        match field(&status, "State:").and_then(|state| state.chars().next()) {
            Some('Z') if other_threads(pid).next().is_some() => {
                return Err(TargetError::MainThreadGone { pid });
            }
            Some('Z') => return Err(TargetError::Zombie { pid }),
            Some('X') => return Err(TargetError::Exited { pid }),
            _ => {}
        }
        if field(&status, "VmSize:").is_none() {
            // Without memory of its own: a kernel thread, or a process that is just ending.
            let exited = Self::unnamed(pid, pidfd).has_exited();
            return Err(if exited {
                TargetError::Exited { pid }
            } else {
                TargetError::KernelThread { pid }
            });
        }
        if is_32_bit(pid)? {
            return Err(TargetError::ThirtyTwoBit { pid });
        }
        let mut process = Self::unnamed(pid, pidfd);
        process.comm = read(pid, "comm")?.trim_end_matches('\n').to_owned();
        process.exe = executable(pid);
        process.command_line = command_line(&read(pid, "cmdline")?);
        process.container = read(pid, "cgroup")
            .ok()
            .and_then(|cgroup| Container::parse(&cgroup));
        if process.has_exited() {
            return Err(TargetError::Exited { pid });
        }
        Ok(process)
    }

    /// Process id, in this pid namespace.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Name of the main thread.
    pub fn comm(&self) -> &str {
        &self.comm
    }

    /// Path of the executable as the process sees it.
    pub fn exe(&self) -> Option<&PathBuf> {
        self.exe.as_ref()
    }

    /// Arguments, joined by spaces.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// The container that it is in; absent when its control group is that of none.
    pub fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether the process has ended (all of its threads).
    pub fn has_exited(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let now = rustix::time::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// What the process maps now.
    ///
    /// # Errors
    ///
    /// When it has ended or may not be looked at.
    pub fn mappings(&self) -> Result<Mappings, TargetError> {
        let text = read_bytes(self.shown_as(), "maps", MAX_MAPS_BYTES)?;
        let mappings = Mappings::parse(&text);
        if mappings.iter().next().is_none() || self.has_exited() {
            return Err(TargetError::Exited { pid: self.pid });
        }
        Ok(mappings)
    }

    /// The number under which /proc shows the memory and the files of the process: its pid, or a
    /// live thread's once its main thread has ended.
    pub(super) fn shown_as(&self) -> u32 {
        match self.main_thread_has_ended() {
            true => other_threads(self.pid).next().unwrap_or(self.pid),
            false => self.pid,
        }
    }

    /// Whether the main thread has ended and others run on: the kernel then puts no probe into
    /// code that is mapped from now on.
    pub fn main_thread_has_ended(&self) -> bool {
        state(self.pid) == Some('Z') && other_threads(self.pid).next().is_some()
    }

    /// Resident set, bytes; absent when the process has ended.
    pub fn rss_bytes(&self) -> Option<u64> {
        let statm = read(self.shown_as(), "statm").ok()?;
        let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
        (pages > 0 && !self.has_exited()).then(|| pages * rustix::param::page_size() as u64)
    }

    /// Where the main thread's stack begins: another address after an exec, as the kernel places
    /// each program's stack at random. Absent when the process has ended.
    pub fn stack_start(&self) -> Option<u64> {
        // Field 28 of proc_pid_stat(5); the name in parentheses, field 2, may hold anything.
        let stat = read(self.pid, "stat").ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields
            .split_whitespace()
            .nth(25)?
            .parse()
            .ok()
            .filter(|start| *start != 0)
    }

    /// When the process was made, as [`started_at`] says it.
    pub fn started_at(&self) -> Option<SystemTime> {
        started_at(self.pid)
    }

    /// The number behind `Seccomp:`: 0 when no filter is in force.
    pub fn seccomp_mode(&self) -> u32 {
        self.status_number("Seccomp:")
    }

    /// Whether user shadow stacks are in force, which check every return address.
    pub fn has_shadow_stack(&self) -> bool {
        read(self.pid, "status")
            .ok()
            .and_then(|status| field(&status, "x86_Thread_features:").map(|f| f.contains("shstk")))
            .unwrap_or(false)
    }

    fn status_number(&self, name: &str) -> u32 {
        read(self.pid, "status")
            .ok()
            .and_then(|status| field(&status, name).and_then(|value| value.parse().ok()))
            .unwrap_or(0)
    }

    fn unnamed(pid: u32, pidfd: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            comm: String::new(),
            exe: None,
            command_line: String::new(),
            container: None,
        }
    }
}

impl Mappings {
    /// What the process of a thread maps now; absent when the thread has ended. Whose thread it is, is
    /// not looked at.
    pub fn of(tid: u32) -> Option<Self> {
        let text = read_bytes(tid, "maps", MAX_MAPS_BYTES).ok()?;
        (!text.is_empty()).then(|| Self::parse(&text))
    }
}

/// Arguments as one line.
fn command_line(arguments: &str) -> String {
    arguments
        .trim_end_matches('\0')
        .replace('\0', " ")
        .chars()
        .take(MAX_COMMAND_LINE_CHARS)
        .collect()
}

/// The link says ` (deleted)` behind the name of a program that was replaced.
fn executable(pid: u32) -> Option<PathBuf> {
    let link = fs::read_link(format!("/proc/{pid}/exe"))
        .ok()?
        .into_os_string()
        .into_vec();
    let name = link.strip_suffix(b" (deleted)").unwrap_or(&link).to_vec();
    Some(OsString::from_vec(name).into())
}

/// Threads of the process that live, but for the main thread. What the main thread leaves behind
/// is a zombie, and others can be for a moment, too.
fn other_threads(pid: u32) -> impl Iterator<Item = u32> {
    let others = threads(pid).unwrap_or_default().into_iter();
    others.filter(move |tid| *tid != pid && !matches!(state(*tid), None | Some('Z' | 'X')))
}

/// The letter for what a thread is doing, by its tid.
fn state(tid: u32) -> Option<char> {
    // Field 3 of proc_pid_stat(5); the name in parentheses, field 2, may hold anything.
    let stat = read(tid, "stat").ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn open_pidfd(pid: u32) -> Result<OwnedFd, TargetError> {
    let missing = TargetError::NoSuchProcess { pid };
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Err(missing);
    };
    pidfd_open(number, PidfdFlags::empty()).map_err(|error| match thread_group(pid) {
        Some(tgid) if tgid != pid => TargetError::Thread { pid, tgid },
        Some(_) => TargetError::Unreadable {
            pid,
            file: "pidfd",
            source: error.into(),
        },
        None => missing,
    })
}

fn thread_group(pid: u32) -> Option<u32> {
    field(&read(pid, "status").ok()?, "Tgid:")?.parse().ok()
}

pub(super) fn read(pid: u32, file: &'static str) -> Result<String, TargetError> {
    read_bytes(pid, file, MAX_PROC_BYTES).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bytes(pid: u32, file: &'static str, limit: u64) -> Result<Vec<u8>, TargetError> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{pid}/{file}"))
        .and_then(|open| open.take(limit).read_to_end(&mut bytes))
        .map_err(|source| failure(pid, file, source))?;
    Ok(bytes)
}

fn failure(pid: u32, file: &'static str, source: io::Error) -> TargetError {
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => TargetError::Exited { pid },
        Some(libc::EACCES | libc::EPERM) => TargetError::NotPermitted { pid },
        _ => TargetError::Unreadable { pid, file, source },
    }
}

/// Value of a line of /proc/PID/status.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

/// Looks at the class (byte 4) and the machine (bytes 18, 19) of the executable's ELF header: x32
/// programs have the class of 32-bit ones.
fn is_32_bit(pid: u32) -> Result<bool, TargetError> {
    let file =
        fs::File::open(format!("/proc/{pid}/exe")).map_err(|source| failure(pid, "exe", source))?;
    if !file
        .metadata()
        .is_ok_and(|meta| meta.mode() & libc::S_IFMT == libc::S_IFREG)
    {
        return Ok(false);
    }
    let mut header = [0u8; 20];
    let complete = (&file).read_exact(&mut header).is_ok();
    Ok(complete
        && header.starts_with(b"\x7fELF")
        && (header[4] != 2 || header[18..] != ELF_MACHINE.to_le_bytes()))
}

/// When a process was made, by the clock of files; to a tick of the kernel before. Absent when
/// it has ended.
pub fn started_at(pid: u32) -> Option<SystemTime> {
    // Field 22 of proc_pid_stat(5), in ticks since the machine was started.
    let stat = read(pid, "stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let started = Duration::from_millis(
        ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1),
    );
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?);
    SystemTime::now().checked_sub(now.saturating_sub(started))
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;

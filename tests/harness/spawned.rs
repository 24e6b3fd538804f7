//! A child process that cannot outlive its owner. Never waits without a limit, and signals only
//! the process that it started.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A running child; killed and reaped when dropped.
#[derive(Debug)]
pub struct Spawned {
    child: Child,
    pidfd: OwnedFd,
    name: String,
}

impl Spawned {
    /// Starts the command. The program has replaced the child when this returns.
    pub fn start(command: &mut Command) -> Self {
        with_default_signals(command);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("cannot open a pidfd of a child");
        Self { child, pidfd, name }
    }

    /// Process id. It stays this process's own until the value is dropped.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal; a process that has ended already does not get it.
    pub fn signal(&self, signal: Signal) {
        // The only error left is that the process has ended.
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// Whether the process ends within this time. It stays a zombie until [`Self::wait`].
    pub fn ends_within(&self, limit: Duration) -> bool {
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).expect("a limit of seconds"),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&limit)).expect("cannot poll a pidfd") > 0
    }

    /// Waits for the end and reaps the process; panics when it takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        assert!(
            self.ends_within(limit),
            "{} (process {}) has not ended within {limit:?}",
            self.name,
            self.pid()
        );
        self.child.wait().expect("cannot wait for a child")
    }
}

/// Signals that a shell has its background jobs ignore have their usual effect again: tests stop what they
/// have started by them.
fn with_default_signals(command: &mut Command) {
    let restore = || {
        for number in [libc::SIGINT, libc::SIGQUIT] {
            // SAFETY: allowed between fork and exec (signal-safety(7)); no handler is installed.
            if unsafe { libc::signal(number, libc::SIG_DFL) } == libc::SIG_ERR {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes only calls that are allowed between fork and exec.
    unsafe { command.pre_exec(restore) };
}

impl Drop for Spawned {
    fn drop(&mut self) {
        // Both fail only when the process has ended and was reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

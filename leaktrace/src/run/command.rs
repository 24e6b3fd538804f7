//! The command that leaktrace starts: held before its first allocation, let go when it is traced, given
//! the signals that leaktrace gets, and asked how it has ended. Traces nothing.

mod breakpoint;
mod caller;
mod hold;

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};

use anyhow::{Context, bail};
use nix::sys::ptrace;
use nix::unistd::Pid;

use super::signals::Caught;
use crate::session::ExitStatus;

/// A command that leaktrace has started. Held until it is released; killed if it never is.
pub(super) struct Launched {
    child: Child,
    held: bool,
}

impl Launched {
    /// Starts the command and holds it before its first allocation. With sudo it runs as the user
    /// who called sudo, unless `as_root`.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or ends before it could be held.
    pub(super) fn start(words: &[OsString], as_root: bool) -> anyhow::Result<Self> {
        let [program, arguments @ ..] = words else {
            bail!("there is no command");
        };
        let name = program.to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments);
        if !as_root {
            caller::become_caller(&mut command)?;
        }
        // SAFETY: between fork and exec only async-signal-safe system calls are made.
        unsafe {
            command.pre_exec(|| ptrace::traceme().map_err(io::Error::from));
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow::anyhow!(
                "cannot start {name}: there is no such program; check the name, or give its path"
            ),
            io::ErrorKind::PermissionDenied => anyhow::anyhow!(
                "cannot start {name}: it may not be executed; check its permissions"
            ),
            _ => anyhow::anyhow!("cannot start {name}: {error}"),
        })?;
        let mut launched = Self { child, held: true };
        launched
            .hold(&name)
            .with_context(|| format!("cannot trace {name} from its start"))?;
        Ok(launched)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn tid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Lets it run.
    ///
    /// # Errors
    ///
    /// When it was killed meanwhile.
    pub(super) fn release(&mut self) -> anyhow::Result<()> {
        self.held = false;
        ptrace::detach(self.tid(), None).context("the command was killed before it could run")
    }

    /// Passes a signal on, unless the terminal has sent it to the command as well.
    pub(super) fn pass(&self, caught: Caught) {
        // To a command that has left the terminal's foreground it does not come: that is its wish.
        if caught.is_of_terminal() {
            return;
        }
        // SAFETY: sends a signal. The process is not reaped yet, so the pid is still its own.
        // Ignored: it has just ended, which is noticed elsewhere.
        let _ = unsafe { libc::kill(self.child.id().cast_signed(), caught.number) };
    }

    /// How it has ended; `None` while it runs.
    pub(super) fn exit_status(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok()??;
        match (status.code(), status.signal()) {
            (Some(code), _) => Some(ExitStatus::Code(code)),
            (None, Some(signal)) => Some(ExitStatus::Signal(signal)),
            (None, None) => None,
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.held {
            // Ignored: then it has ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

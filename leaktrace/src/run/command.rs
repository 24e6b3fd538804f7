//! Starts a command and holds it where its libraries are in place and nothing of it has run: the
//! dynamic linker tells debuggers of that moment by a call of `_dl_debug_state`. It is held by
//! ptrace, which lets go of it before it runs on.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Context, bail};
use nix::sys::ptrace;
use nix::sys::signal::Signal as StopSignal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, User};
use rustix::process::Signal;

use crate::session::ExitStatus;
use crate::target::{Mapping, Mappings, Object, Process};

/// `int3`, the one-byte breakpoint of x86.
const BREAKPOINT: i64 = 0xcc;

/// Calls of `_dl_debug_state` before `main`: glibc makes two, musl one; audit libraries add more.
const MAX_CALLS: usize = 16;

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
            become_caller(&mut command)?;
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
    pub(super) fn pass(&self, signal: Signal) {
        let of_terminal = [Signal::INT, Signal::QUIT].contains(&signal) && is_in_foreground();
        if of_terminal {
            return;
        }
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // Ignored: it has just ended, which is noticed elsewhere. It is not reaped yet, so the
            // pid is still its own.
            let _ = rustix::process::kill_process(pid, signal);
        }
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

    /// Runs the dynamic linker, and stops where it has done its work.
    fn hold(&mut self, name: &str) -> anyhow::Result<()> {
        self.await_stop(StopSignal::SIGTRAP, name)?;
        // Nothing of it has run: should leaktrace be killed now, nothing is lost with it.
        ptrace::setoptions(self.tid(), ptrace::Options::PTRACE_O_EXITKILL)?;
        let process = Process::open(self.pid())?;
        let Some(place) = linker_notice(&process)? else {
            // A static program: all that will be there is there.
            return Ok(());
        };
        for call in 1..=MAX_CALLS {
            self.run_to(place, name)?;
            if call > 1 || libraries_are_mapped(&process)? {
                break;
            }
        }
        Ok(())
    }

    /// Runs until the instruction at this address is next, and leaves no trace there.
    fn run_to(&mut self, address: u64, name: &str) -> anyhow::Result<()> {
        let tid = self.tid();
        let mut registers = ptrace::getregs(tid)?;
        if registers.rip == address {
            ptrace::step(tid, None)?;
            self.await_stop(StopSignal::SIGTRAP, name)?;
        }
        let place = address as ptrace::AddressType;
        let code = ptrace::read(tid, place)?;
        ptrace::write(tid, place, (code & !0xff) | BREAKPOINT)?;
        ptrace::cont(tid, None)?;
        self.await_stop(StopSignal::SIGTRAP, name)?;
        ptrace::write(tid, place, code)?;
        registers = ptrace::getregs(tid)?;
        if registers.rip != address + 1 {
            bail!("it stopped elsewhere than at the breakpoint");
        }
        registers.rip = address;
        Ok(ptrace::setregs(tid, registers)?)
    }

    /// Waits for a stop by this signal; others are passed on.
    fn await_stop(&mut self, wanted: StopSignal, name: &str) -> anyhow::Result<()> {
        loop {
            match waitpid(self.tid(), None)? {
                WaitStatus::Stopped(_, signal) if signal == wanted => return Ok(()),
                WaitStatus::Stopped(tid, signal) => ptrace::cont(tid, signal)?,
                WaitStatus::Exited(_, code) => {
                    self.held = false;
                    bail!(
                        "{name} exited with code {code} before it ran: its libraries could not be \
                         loaded; see its own message"
                    );
                }
                WaitStatus::Signaled(_, signal, _) => {
                    self.held = false;
                    bail!("{name} was killed by {signal} before it ran");
                }
                _ => {}
            }
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

/// Address of the function that the dynamic linker calls when it has loaded libraries; `None` for
/// a program without one.
fn linker_notice(process: &Process) -> anyhow::Result<Option<u64>> {
    let mappings = process.mappings()?;
    let Some(base) = linker_base(process.pid())? else {
        return Ok(None);
    };
    let Some(first) = mappings.containing(base) else {
        return Ok(None);
    };
    let of_linker = |mapping: &&Mapping| mapping.file == first.file;
    let Some(code) = mappings.executable().find(of_linker) else {
        return Ok(None);
    };
    let object = Object::open(process, code)?;
    let functions = object.functions(&["_dl_debug_state", "__dl_debug_state"])?;
    let address = functions.first().and_then(|function| {
        mappings
            .executable()
            .filter(of_linker)
            .find_map(|mapping| mapping.address_of(function.file_offset))
    });
    match address {
        Some(address) => Ok(Some(address)),
        None => {
            log::warn!(
                "{} has no _dl_debug_state: what constructors of libraries allocate is not counted",
                object.path().display()
            );
            entry_point(process.pid())
        }
    }
}

/// Whether more is mapped than the program, the dynamic linker and what the kernel maps. musl's
/// linker is its C library too, and then nothing more may come.
fn libraries_are_mapped(process: &Process) -> anyhow::Result<bool> {
    let mappings: Mappings = process.mappings()?;
    let mut files: Vec<_> = mappings.executable().filter_map(|m| m.file).collect();
    files.sort_unstable();
    files.dedup();
    if files.len() > 2 {
        return Ok(true);
    }
    let Some(base) = linker_base(process.pid())? else {
        return Ok(true);
    };
    let linker = mappings
        .containing(base)
        .and_then(|first| mappings.executable().find(|m| m.file == first.file));
    Ok(match linker {
        Some(linker) => !Object::open(process, linker)?
            .functions(&["malloc"])?
            .is_empty(),
        None => true,
    })
}

fn linker_base(pid: u32) -> anyhow::Result<Option<u64>> {
    auxiliary(pid, libc::AT_BASE)
}

fn entry_point(pid: u32) -> anyhow::Result<Option<u64>> {
    auxiliary(pid, libc::AT_ENTRY)
}

/// A value of the auxiliary vector, getauxval(3); `None` when it is missing or zero.
fn auxiliary(pid: u32, key: u64) -> anyhow::Result<Option<u64>> {
    let bytes = std::fs::read(format!("/proc/{pid}/auxv")).context("failed to read its auxv")?;
    let word = |at: &[u8]| at.try_into().map(u64::from_ne_bytes).unwrap_or(0);
    Ok(bytes
        .chunks_exact(16)
        .find(|pair| word(&pair[..8]) == key)
        .map(|pair| word(&pair[8..]))
        .filter(|value| *value != 0))
}

/// Makes the command run as the user who called sudo, with that user's groups and home.
fn become_caller(command: &mut Command) -> anyhow::Result<()> {
    if std::env::var_os("SUDO_UID").is_none() {
        return Ok(());
    }
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let (Some(uid), Some(gid)) = (number("SUDO_UID"), number("SUDO_GID")) else {
        bail!(
            "cannot give up root for the command: SUDO_UID and SUDO_GID are not both numbers; set \
             them, or let it run as root with --as-root"
        );
    };
    if uid == 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let user = User::from_uid(uid.into()).context("failed to look up the user who called sudo")?;
    if let Some(user) = user {
        let name = std::ffi::CString::new(user.name.as_str())?;
        let groups = nix::unistd::getgrouplist(&name, gid.into())
            .context("failed to look up the groups of the user who called sudo")?;
        // SAFETY: one system call between fork and exec. Before the ids change, which std does
        // first for `uid`, `gid`: this runs while still root because both are set below, here.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setgroups(&groups)?;
                nix::unistd::setgid(gid.into())?;
                Ok(nix::unistd::setuid(uid.into())?)
            });
        }
        let home: PathBuf = user.dir;
        command
            .env("USER", &user.name)
            .env("LOGNAME", &user.name)
            .env("HOME", home);
    } else {
        command.uid(uid).gid(gid);
    }
    log::info!("the command runs as user {uid}, who called sudo; --as-root keeps root");
    Ok(())
}

/// Whether Ctrl-C on the terminal reaches leaktrace, and so its command too.
fn is_in_foreground() -> bool {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else {
        return false;
    };
    rustix::termios::tcgetpgrp(&terminal).is_ok_and(|group| group == rustix::process::getpgrp())
}

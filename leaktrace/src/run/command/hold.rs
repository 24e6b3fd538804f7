//! Holds a command where its libraries are in place and nothing of it has run: the dynamic linker
//! tells debuggers of that moment by a call of `_dl_debug_state`. It is held by ptrace. Starts nothing,
//! and does not let go.

use anyhow::{Context, bail};
use nix::sys::ptrace;
use nix::sys::signal::Signal as StopSignal;
use nix::sys::wait::{WaitStatus, waitpid};

use super::Launched;
use super::breakpoint::Breakpoint;
use crate::target::{Mapping, Mappings, Object, Process};

/// Calls of `_dl_debug_state` before `main`: glibc makes two, musl one; audit libraries add more.
const MAX_CALLS: usize = 16;

impl Launched {
    /// Runs the dynamic linker, and stops where it has done its work.
    pub(super) fn hold(&mut self, name: &str) -> anyhow::Result<()> {
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
        let mut breakpoint = Breakpoint::at(address);
        if breakpoint.is_next(tid)? {
            ptrace::step(tid, None)?;
            self.await_stop(StopSignal::SIGTRAP, name)?;
        }
        breakpoint.set(tid)?;
        ptrace::cont(tid, None)?;
        self.await_stop(StopSignal::SIGTRAP, name)?;
        breakpoint.take_back(tid)
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

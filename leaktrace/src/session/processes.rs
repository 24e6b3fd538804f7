//! The table of processes: those that user space enters, and those that the programs enter at forks
//! and execs. Says what became of each; counts nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use aya::maps::HashMap as BpfHashMap;
use leaktrace_common::limits::{MAX_PAIRS, MAX_PROCESSES};
use leaktrace_common::process::{NO_PROCESS, ProcessState};
use leaktrace_common::stack::{Source, StackEnd, site_without_stack};

use super::inherited::{Inherited, Relative};
use super::{Session, monotonic_ns};
use crate::snapshot::Stack;
use crate::target::{Mappings, started_at};

/// How a traced process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

/// A process, or a program of one, that the session counts and that user space did not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewProcess {
    /// Its index.
    pub index: u16,
    /// Process id, in the initial pid namespace.
    pub tgid: u32,
    /// Where it comes from.
    pub origin: ProcessOrigin,
    /// Its number among all entries, in their order.
    pub serial: u32,
    /// For how long it has been there, at most.
    pub age: Duration,
    /// For how long it has run, to a tick of the kernel; zero of a fork that has ended by now.
    pub ran: Duration,
    /// When its probes may have gone with those of another process until now: how long at most.
    pub exposed: Option<Duration>,
}

/// Where a new entry of the table comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessOrigin {
    /// The process with this index has forked.
    Fork(u16),
    /// A vfork child of the process with this index runs a program of its own now.
    ForkAndExec(u16),
    /// The process ran as this index, and runs another program now.
    Exec(u16),
}

/// A program was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exec {
    /// How long the program has run since: until now, or until its end if that was seen.
    pub ran: Duration,
    /// Whether the probes in place fire in the new program, where it maps the same objects.
    pub probes_survived: bool,
}

impl Session {
    /// Enters a process into the table and returns its index. `program` are the addresses of the
    /// main program's code.
    ///
    /// # Errors
    ///
    /// When the table is full or the kernel refuses.
    pub fn add_process(
        &mut self,
        pid: u32,
        program: Option<std::ops::Range<u64>>,
        mappings: &Mappings,
    ) -> anyhow::Result<u16> {
        let place = self.control.read(0).next_process;
        if place >= MAX_PROCESSES {
            bail!("cannot trace more than {MAX_PROCESSES} processes at a time");
        }
        let serial = self.control.read(0).serials + 1;
        self.control.update(0, |control| {
            control.next_process = place + 1;
            control.serials = serial;
        });
        // Programs see other ids than a pid namespace of its own does; they learn this one then.
        let tgid = if in_initial_pid_namespace() { pid } else { 0 };
        if tgid != 0 {
            let mut traced: BpfHashMap<_, u32, u32> = BpfHashMap::try_from(
                self.ebpf
                    .map_mut("TRACED")
                    .context("BPF map TRACED is missing")?,
            )?;
            traced
                .insert(tgid, place, 0)
                .context("failed to enter the process")?;
        }
        self.processes.update(place as usize, |state| {
            *state = ProcessState {
                tgid,
                first: place,
                present: place,
                probes_of: place,
                code_of: place,
                bridges_of: place,
                parent: place,
                serial,
                ..ProcessState::default()
            }
        });
        let index = u16::try_from(place)?;
        self.pids.insert(place, pid);
        self.enter(index);
        self.describe_code(index, program, mappings)?;
        Ok(index)
    }

    /// Tells the programs where the code of a process is: after a fork or an exec they know its
    /// parent's, or none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn describe_code(
        &mut self,
        process: u16,
        program: Option<std::ops::Range<u64>>,
        mappings: &Mappings,
    ) -> anyhow::Result<()> {
        let program = program.unwrap_or(0..0);
        self.leave_code_to_children(process, mappings)?;
        self.write_mappings(process, mappings)?;
        self.processes.update(usize::from(process), |state| {
            state.program_start = program.start;
            state.program_end = program.end;
            state.code_of = u32::from(process);
        });
        self.mappings_written(process, mappings);
        Ok(())
    }

    /// Places of the table that were in use at any time: all below this.
    pub(super) fn processes_made(&self) -> u16 {
        let made = self.control.read(0).next_process as usize;
        u16::try_from(made.min(self.processes.len())).unwrap_or(u16::MAX)
    }

    /// Serial of the latest entry.
    pub fn serials(&self) -> u32 {
        self.control.read(0).serials
    }

    /// Entries that the programs have made since this was asked last, in their order. One that is being
    /// filled right now comes next time: nothing can come from it yet.
    pub fn new_processes(&mut self) -> Vec<NewProcess> {
        // Before the table is read: what comes meanwhile is found next time.
        let age = self.inherited.as_mut().map(Inherited::look);
        let mut new: Vec<(u16, ProcessState)> = (0..self.processes_made())
            .filter(|place| !self.places.entered.contains(place))
            .map(|place| (place, self.processes.read(usize::from(place))))
            .filter(|(_, state)| state.tgid != 0)
            .collect();
        new.sort_by_key(|(_, state)| state.serial);
        let mut found = Vec::with_capacity(new.len());
        for (index, state) in new {
            let parent = state.parent as u16;
            let before = self.processes.read(usize::from(parent));
            let has_own_code = state.code_of == u32::from(index) && !self.parted.remove(&index);
            let origin = match (before.tgid == state.tgid, has_own_code) {
                (true, _) => ProcessOrigin::Exec(parent),
                (false, true) => ProcessOrigin::ForkAndExec(parent),
                (false, false) => ProcessOrigin::Fork(parent),
            };
            self.enter(index);
            let relative = Relative {
                index,
                parent,
                tgid: state.tgid,
                serial: state.serial,
                is_exec: matches!(origin, ProcessOrigin::Exec(_)),
            };
            let control = &self.control;
            let serials = || control.read(0).serials;
            let inherited = self.inherited.as_mut();
            let is_exposed = inherited.is_some_and(|known| known.adopt(relative, serials));
            found.push(NewProcess {
                index,
                tgid: state.tgid,
                origin,
                serial: state.serial,
                age: age.unwrap_or_default(),
                ran: ran(&state),
                exposed: age.filter(|_| is_exposed),
            });
        }
        found
    }

    /// From now on the probes of this epoch of its process count, and those of the epoch before
    /// do not; these are taken off.
    pub fn take_over(&mut self, process: u16) {
        let first = self.processes.read(usize::from(process)).first;
        let place = first as usize;
        let before = self.processes.read(place).probes_of;
        self.processes
            .update(place, |state| state.probes_of = u32::from(process));
        if before == u32::from(process) {
            return;
        }
        let old = |(owner, _): &mut (u16, _)| u32::from(*owner) == before;
        let old: Vec<_> = self.links.extract_if(.., old).collect();
        self.close(old);
    }

    /// Whether the process still runs the program that this epoch began with.
    pub fn is_present(&self, process: u16) -> bool {
        let first = self.processes.read(usize::from(process)).first;
        self.processes.read(first as usize).present == u32::from(process)
    }

    /// Whether the process runs a program for which the table had no room: nothing of it is counted.
    pub fn runs_without_place(&self, process: u16) -> bool {
        let first = self.processes.read(usize::from(process)).first;
        self.processes.read(first as usize).present == NO_PROCESS
    }

    /// The exec that began this epoch, if one did under trace.
    pub fn exec(&self, process: u16) -> Option<Exec> {
        let state = self.processes.read(usize::from(process));
        let end_ns = self.end_ns(process, &state).unwrap_or_else(monotonic_ns);
        (state.executed_at_ns != 0).then(|| Exec {
            ran: Duration::from_nanos(end_ns.saturating_sub(state.executed_at_ns)),
            // Inherited probes are each thread's own; a link stays with the main thread.
            probes_survived: state.executed_by_other_thread == 0 || self.inherited.is_some(),
        })
    }

    /// When the exec was that began this epoch, by the clock of files; absent when none did under trace.
    pub fn executed_at(&self, process: u16) -> Option<SystemTime> {
        let executed_at_ns = self.processes.read(usize::from(process)).executed_at_ns;
        let ago = Duration::from_nanos(monotonic_ns().saturating_sub(executed_at_ns));
        SystemTime::now()
            .checked_sub(ago)
            .filter(|_| executed_at_ns != 0)
    }

    /// When the program ended: with its process, or when that executed another one. Of several that it
    /// has executed since, the present one is taken, so that the time is not too early.
    fn end_ns(&self, process: u16, state: &ProcessState) -> Option<u64> {
        if state.ended_at_ns != 0 {
            return Some(state.ended_at_ns);
        }
        let present = self.processes.read(state.first as usize).present;
        let is_other = present != u32::from(process) && present < MAX_PROCESSES;
        is_other.then(|| self.processes.read(present as usize).executed_at_ns)
    }

    /// How the process ended, once it has and if the kernel's types are known.
    pub fn exit_status(&self, process: u16) -> Option<ExitStatus> {
        let state = self.processes.read(usize::from(process));
        if state.exited == 0 {
            return None;
        }
        // The layout of a wait status, see wait(2).
        let signal = (state.exit_code & 0x7f).cast_signed();
        Some(match signal {
            0 => ExitStatus::Code(((state.exit_code >> 8) & 0xff).cast_signed()),
            signal => ExitStatus::Signal(signal),
        })
    }

    /// Whether the kernel chose the process as the victim of an out-of-memory kill.
    pub fn was_oom_victim(&self, process: u16) -> bool {
        self.processes.read(usize::from(process)).oom_victim != 0
    }

    /// Prepares what user space keeps of a process.
    fn enter(&mut self, index: u16) {
        self.places.entered.insert(index);
        let pairs = (0..MAX_PAIRS as u8).map(Source::of_pair);
        for source in [Source::Heap, Source::Mmap].into_iter().chain(pairs) {
            let without_stack = site_without_stack(u32::from(index), source);
            let stack = Arc::new(no_stack(without_stack, source));
            self.stacks[without_stack as usize] = Some((index, stack));
        }
    }
}

/// Whether process ids are those that the kernel's programs see.
pub(super) fn in_initial_pid_namespace() -> bool {
    // PROC_PID_INIT_INO of the kernel's linux/proc_ns.h.
    std::fs::read_link("/proc/self/ns/pid")
        .is_ok_and(|namespace| namespace == Path::new("pid:[4026531836]"))
}

/// For how long a program has run that was executed under trace, or a process that was forked.
fn ran(state: &ProcessState) -> Duration {
    if state.executed_at_ns != 0 {
        return Duration::from_nanos(monotonic_ns().saturating_sub(state.executed_at_ns));
    }
    let ran = started_at(state.tgid).and_then(|at| SystemTime::now().duration_since(at).ok());
    ran.unwrap_or_default()
}

fn no_stack(site: u32, source: Source) -> Stack {
    Stack {
        id: u64::from(site),
        source,
        end: StackEnd::Unreadable,
        frames: Vec::new(),
    }
}

//! Children and epochs: what a fork or an exec under trace makes of a traced process.

mod forked;
mod guarded;
mod origin;

use std::time::{Duration, Instant};

use leaktrace_common::stack::Source;

use super::haste::Haste;
use super::traced::{Traced, hazard};
use crate::compose::Unseen;
use crate::report::NewTarget;
use crate::session::{ExitStatus, NewProcess, Session};
use crate::symbolize::ElfNaming;
use crate::target::Process;
pub(super) use guarded::AtExec;
pub(super) use origin::{Origin, origin};

/// Time between two looks at a program whose libraries are being loaded.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A dynamic linker has loaded everything long before this.
const PATIENCE: Duration = Duration::from_secs(5);

impl Traced {
    /// A child that shared this process's memory until it ran a program of its own.
    pub(super) fn spawned(&self, child: NewProcess, noticed: Duration) -> Self {
        let mut traced = self.child(child, noticed);
        traced.allocators_before = self.allocators_in_place();
        traced.waiting_since = Some(Instant::now());
        traced.armed(noticed);
        traced
    }

    /// A child of a program that this process ran before. Its code is looked for: nothing of what was
    /// known of that program is left. If the child runs another program by now, its probes may have gone
    /// with the thread that made it, which the exec has ended (the kernel swaps the perf events of
    /// threads and their children; seen on 6.18): so what was counted before is not relied on.
    pub(super) fn left_behind(&self, child: NewProcess, noticed: Duration) -> Self {
        let mut traced = self.spawned(child, noticed);
        traced.allocators_before.clear();
        traced
    }

    /// The same process with the program that it runs now.
    pub(super) fn executed(&self, next: NewProcess, noticed: Duration) -> Self {
        let mut traced = self.next_program(noticed.saturating_sub(next.ran));
        traced.index = next.index;
        traced.unseen = next.exposed.map(Unseen::probes_exchanged);
        traced.former.push(self.index);
        traced.allocators_before = self.allocators_in_place();
        traced.waiting_since = Some(Instant::now());
        traced.armed(noticed);
        traced
    }

    /// The same process with a program that has no place in the table, so that nothing of it is counted.
    /// Its place is that of the program before.
    pub(super) fn executed_without_place(&self, begun: Duration) -> Self {
        let mut traced = self.next_program(begun);
        traced.index = self.index;
        traced.mmap = false;
        traced.unseen = Some(Unseen::no_place(Duration::ZERO));
        traced
    }

    /// What every child of this process begins with.
    fn child(&self, child: NewProcess, noticed: Duration) -> Self {
        let mut traced = self.relative(child.tgid, noticed.saturating_sub(child.ran));
        traced.index = child.index;
        traced.unseen = child.exposed.map(Unseen::probes_exchanged);
        traced.parent = Some(self.pid);
        traced.late_code = self.late_code.of_child(child);
        traced
    }

    /// What every program begins with that this process runs after an exec.
    fn next_program(&self, begun: Duration) -> Self {
        let mut traced = self.relative(self.pid, begun);
        traced.former.clone_from(&self.former);
        traced.life = self.life;
        traced.parent = self.parent;
        traced.epoch = self.epoch + 1;
        if traced.comm.is_empty() {
            traced.comm.clone_from(&self.comm);
        }
        traced
    }

    /// A process that comes from this one, as the user wants all of them traced.
    fn relative(&self, pid: u32, begun: Duration) -> Self {
        let process = Process::open(pid).ok();
        let mut traced = Self::of_process(process, pid, self.mmap, &self.specs);
        traced.syscalls_wanted = self.syscalls_wanted;
        traced.begun = begun;
        traced
    }

    /// Whether it was executed a moment ago, and nothing is known of its code.
    pub(super) fn is_newcomer(&self) -> bool {
        self.waiting_since.is_some() && self.mappings.iter().next().is_none()
    }

    /// Tells the stack walk where the code of a program is that was just executed. No file of it is
    /// opened: many programs end before there is time for that.
    pub(super) fn describe_newcomer(&mut self, session: &mut Session) {
        let _haste = Haste::begin();
        if let Some(now) = self.own_mappings_now(session) {
            self.remember_mappings(&now, session);
        }
    }

    /// Looks for the allocators of a program that was executed, whose libraries come one after the
    /// other. Returns what to say once it is settled.
    ///
    /// # Errors
    ///
    /// When the kernel refuses probes.
    pub(super) fn look_again(
        &mut self,
        session: &mut Session,
        naming: &mut ElfNaming,
    ) -> anyhow::Result<Option<NewTarget>> {
        let Some(since) = self.waiting_since else {
            return Ok(None);
        };
        let _haste = Haste::begin();
        let event = self.event();
        let Some(now) = self.mappings_now() else {
            // It has ended, or cannot be looked at.
            self.ended_unsettled(session)?;
            return Ok(Some(self.announcement(event)));
        };
        if let Some(hazard) = self.process.as_ref().and_then(hazard) {
            self.waiting_since = None;
            log::warn!("process {} is not counted: {hazard}", self.pid);
            return Ok(Some(self.announcement(event)));
        }
        let known = self.objects.len();
        // Nothing loads libraries into a program without a dynamic linker.
        let is_whole = self
            .process
            .as_ref()
            .is_some_and(|process| process.linker(&now).is_none());
        // One that has just ended shows none either.
        if is_whole && self.mappings_now().is_none() {
            self.ended_unsettled(session)?;
            return Ok(Some(self.announcement(event)));
        }
        // What was read may be of the program after the next exec, which gets its own look.
        if !session.is_present(self.index) {
            return Ok(None);
        }
        self.take_mappings(&now, session, naming);
        let grows = self.objects.len() != known;
        self.attach_new_objects(session)?;
        let still_loading = grows || self.is_linking(session);
        let found = self.allocation_probes().next().is_some();
        if !(found && !still_loading || is_whole || since.elapsed() > PATIENCE) {
            return Ok(None);
        }
        if !session.is_present(self.index) {
            return Ok(None);
        }
        session.take_over(self.index);
        self.waiting_since = None;
        self.settled(session);
        self.forget_allocators_before(session);
        if self.mmap {
            self.count_own_mappings(session)?;
            self.counted_own_mappings_late(session);
        } else if !found && !self.is_told {
            log::warn!(
                "process {} now runs {}, in which no allocator was found: nothing of it is counted",
                self.pid,
                self.comm
            );
        }
        Ok(Some(self.announcement(event)))
    }

    /// What made it a target: an exec, or a fork.
    pub(super) const fn event(&self) -> &'static str {
        if self.epoch > 1 { "exec" } else { "fork" }
    }

    /// The program, or the session, has ended before its libraries were looked at. That something was
    /// counted shows that the probes of the program before were its own, too; nothing tells that when
    /// nothing was. Does nothing when they were looked at.
    ///
    /// # Errors
    ///
    /// When the kernel side cannot be read.
    pub(super) fn ended_unsettled(&mut self, session: &mut Session) -> anyhow::Result<()> {
        if self.waiting_since.take().is_none() {
            return Ok(());
        }
        self.unsettled = true;
        let has_allocated = session.has_allocated(self.index)?;
        self.ended_perhaps_guarded(has_allocated);
        if !has_allocated || self.allocators_before.is_empty() {
            if !has_allocated && !self.is_told {
                log::warn!(
                    "process {} had begun to run another program ({}), whose allocator was not found \
                     before the end: nothing of it is counted",
                    self.pid,
                    self.comm
                );
            }
            self.unseen = self.unseen_so_far(session).or(self.unseen);
        }
        Ok(())
    }

    /// Whether calls that allocate are counted, or may be for all that is known.
    pub(super) fn heap_traced(&self) -> bool {
        let is_unknown = self.unsettled || self.waiting_since.is_some();
        let has_allocated = self.latest.totals(Source::Heap).allocated_count > 0;
        is_unknown || has_allocated || !self.plan.probes.is_empty()
    }

    /// What the output says of a new target.
    pub(super) fn announcement(&self, event: &'static str) -> NewTarget {
        NewTarget {
            event,
            target: self.line(),
            probes: match event {
                "exec" => self.probe_lines(),
                _ => Vec::new(),
            },
            exit_code: None,
            signal: None,
            out_of_memory: false,
        }
    }

    /// What the output says of functions that have been probed since it was asked last.
    pub(super) fn loaded(&mut self) -> Option<NewTarget> {
        let functions = self.plan.functions().count();
        let told = std::mem::replace(&mut self.functions_told, functions);
        if functions <= told {
            return None;
        }
        let mut loaded = self.announcement("load");
        loaded.probes = self.probe_lines();
        loaded.probes.truncate(functions);
        loaded.probes.drain(..told);
        Some(loaded)
    }

    /// What the output says of its end, when others run on.
    pub(super) fn obituary(&self, session: &Session) -> NewTarget {
        let mut end = self.announcement("exit");
        match self.exit_status(session) {
            Some(ExitStatus::Code(code)) => end.exit_code = Some(code),
            Some(ExitStatus::Signal(signal)) => {
                end.signal = Some(signal);
                end.out_of_memory = session.was_oom_victim(self.index);
            }
            None => {}
        }
        end
    }
}

//! What a child has of its parent's code and probes, and of what it did before it had its own nothing was
//! seen. Attaches nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::guarded::AtExec;
use crate::compose::Unseen;
use crate::probes::{Probe, Program};
use crate::run::traced::Traced;
use crate::session::{NewProcess, Session};
use crate::target::FileId;

impl Traced {
    /// A child that was forked from this process, and noticed at this time of the session. It has its parent's code,
    /// and its probes, as far as these were in place at the fork: others are its own to look for.
    pub(in crate::run) fn forked(
        &mut self,
        child: NewProcess,
        noticed: Duration,
        session: &mut Session,
    ) -> Self {
        let mut traced = self.child(child, noticed);
        traced.epoch = self.epoch;
        traced.objects.clone_from(&self.objects);
        traced.own_mappings = self.own_mappings;
        traced.mappings = Arc::clone(&self.mappings);
        traced.is_told = true;
        if traced.comm.is_empty() {
            traced.comm.clone_from(&self.comm);
            traced.exe.clone_from(&self.exe);
        }
        let lacks_probes = self.late_code.lacks_probes(child);
        if self.is_unknown() || lacks_probes {
            if !lacks_probes && self.probes_survive(session) {
                traced.allocators_before = self.allocators_in_place();
            }
            traced.waiting_since = Some(Instant::now());
        } else {
            traced.objects_planned = self.objects_planned;
            traced.plan = self.plan.clone();
            traced.functions_told = self.plan.functions().count();
        }
        traced.free_code.clone_from(&self.free_code);
        // What its parent has loaded right before the fork, it has as well.
        if session.has_new_code(self.index) || !session.keeps_its_code(traced.index) {
            session.expect_new_code(traced.index);
        }
        traced.armed(noticed);
        traced
    }

    /// The program's allocators are found: what they did before they had probes was not seen.
    pub(super) fn settled(&mut self, session: &Session) {
        let found = self.allocators();
        if !found.is_empty() && self.had_probes(&found, session) {
            return;
        }
        self.unseen = self.unseen_so_far(session).or(self.unseen);
        self.probes_added(session);
    }

    /// Not all that it was to have could be attached. Some may be in place: then that something was counted
    /// says nothing of the probes of the program before.
    pub(in crate::run) fn attach_failed(&mut self) {
        if !self.are_of_before(&self.allocators()) {
            self.allocators_before.clear();
        }
    }

    /// Whether these allocators had probes from its first instruction on, those of the program before, or
    /// of its parent.
    pub(in crate::run) fn had_probes(&self, allocators: &[FileId], session: &Session) -> bool {
        self.are_of_before(allocators) && self.probes_survive(session)
    }

    /// Whether all of them were probed in the program before, or its parent.
    fn are_of_before(&self, allocators: &[FileId]) -> bool {
        allocators
            .iter()
            .all(|file| self.allocators_before.contains(file))
    }

    /// All that the program did so far, since its exec or its fork.
    pub(super) fn unseen_so_far(&self, session: &Session) -> Option<Unseen> {
        let exec = session.exec(self.index);
        let exec = exec.map(|exec| match self.at_exec {
            AtExec::Closed => Unseen::probes_closed(exec.ran),
            _ => Unseen::other_allocator(exec.ran),
        });
        exec.or_else(|| Some(Unseen::lacked_probes(self.late_code.since_fork()?)))
    }

    /// Whether probes that were in place before its exec, if it had one, fire in it.
    fn probes_survive(&self, session: &Session) -> bool {
        let exec = session.exec(self.index);
        exec.is_none_or(|exec| exec.probes_survived)
    }

    /// Whether its allocators have not been found, and may not be any more.
    pub(in crate::run) fn is_unknown(&self) -> bool {
        self.unsettled || self.waiting_since.is_some()
    }

    /// The probes at the entries of functions that hand out blocks.
    pub(in crate::run) fn allocation_probes(&self) -> impl Iterator<Item = &Probe> {
        self.plan
            .functions()
            .filter(|probe| probe.program() == Program::AllocateEnter)
    }

    /// The objects that allocate in it.
    pub(in crate::run) fn allocators(&self) -> Vec<FileId> {
        let mut files: Vec<FileId> = self
            .allocation_probes()
            .filter_map(|probe| Some(self.objects.get(probe.object)?.file_id()))
            .collect();
        files.dedup();
        files
    }

    /// The objects that are probed in whatever it runs: those of the last program that was looked at.
    pub(super) fn allocators_in_place(&self) -> Vec<FileId> {
        match self.is_unknown() {
            true => self.allocators_before.clone(),
            false => self.allocators(),
        }
    }
}

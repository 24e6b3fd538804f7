//! Children that are forked, and programs that are executed, during a session: they are taken up as targets
//! in the place, or beside, those that they come from.

use std::time::Duration;

use super::{Watch, age, order, say_changes};
use crate::report::{Line, TimeLeftLine};
use crate::run::lineage::{Origin, origin};
use crate::run::output::Output;
use crate::run::traced::Traced;
use crate::session::{NewProcess, ProcessOrigin, Session};

impl Watch<'_> {
    /// Takes up the children and epochs that the kernel side has made entries for.
    pub(super) fn follow_processes(
        &mut self,
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        for new in session.new_processes() {
            let from = match new.origin {
                ProcessOrigin::Fork(index)
                | ProcessOrigin::ForkAndExec(index)
                | ProcessOrigin::Exec(index) => index,
            };
            let now = self.started.elapsed();
            let known = self.targets.iter();
            let known = known.map(|target| (target.index, target.former.as_slice()));
            let child = match (origin(from, known), new.origin) {
                (Some(Origin::Present(place)), ProcessOrigin::Exec(_)) => {
                    self.next_epoch(place, new, session, output)?;
                    continue;
                }
                (Some(Origin::Present(place)), ProcessOrigin::Fork(_)) => {
                    let child = self.targets[place].forked(new, now, session);
                    output.new_target(child.announcement("fork"))?;
                    child
                }
                (Some(Origin::Present(place)), ProcessOrigin::ForkAndExec(_)) => {
                    let mut child = self.targets[place].spawned(new, now);
                    child.look_for_guard(session)?;
                    child
                }
                (Some(Origin::Former(place)), _) => self.targets[place].left_behind(new, now),
                (None, _) => {
                    log::warn!(
                        "process {} comes from a process that is not known",
                        new.tgid
                    );
                    continue;
                }
            };
            self.add(child)?;
        }
        Ok(())
    }

    fn add(&mut self, mut child: Traced) -> anyhow::Result<()> {
        child.life = self.exits.add(child.pidfd())?;
        self.targets.push(child);
        Ok(())
    }

    /// The last report of the program that is gone, then the new one takes its place.
    fn next_epoch(
        &mut self,
        place: usize,
        new: NewProcess,
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let elapsed = self.started.elapsed();
        self.end_epoch(place, elapsed, session, output)?;
        session.program_ended(self.targets[place].index)?;
        let executed_at = session.executed_at(new.index);
        self.targets[place] = self.targets[place].executed(new, elapsed);
        self.targets[place].jit.begin_at(executed_at);
        self.targets[place].look_for_guard(session)
    }

    /// The last report of a program that is gone, while its process runs on.
    pub(super) fn end_epoch(
        &mut self,
        place: usize,
        elapsed: Duration,
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let ended = &mut self.targets[place];
        ended.ended_unsettled(session)?;
        ended.read_ended(session, elapsed, age(self.args))?;
        self.leak_found |= self.args.fail_on_leak && ended.is_leaking();
        self.seq += 1;
        let mut report = ended.report(
            self.args,
            &mut self.naming,
            self.seq,
            false,
            order(self.args.sort),
            self.args.top(),
        );
        // The process runs on, but what has grown so is gone.
        report.time_left = TimeLeftLine::default();
        say_changes(&report);
        output.line(&Line::Report(report))
    }

    pub(super) fn is_loading(&self) -> bool {
        self.targets
            .iter()
            .any(|target| target.waiting_since.is_some())
    }

    pub(super) fn look_again(
        &mut self,
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        for target in &mut self.targets {
            match target.look_again(session, &mut self.naming) {
                Ok(None) => {}
                Ok(Some(_)) if target.is_told => {
                    let loaded = target.loaded();
                    loaded.map_or(Ok(()), |loaded| output.new_target(loaded))?;
                }
                Ok(Some(settled)) => {
                    // It tells of the probes too.
                    drop(target.loaded());
                    output.new_target(settled)?;
                }
                Err(error) => {
                    log::warn!("{error:#}");
                    target.attach_failed();
                    target.ended_unsettled(session)?;
                    if !target.is_told {
                        output.new_target(target.announcement(target.event()))?;
                    }
                }
            }
        }
        Ok(())
    }
}

//! What becomes of traced processes that have ended: their last reports, and their places for others.
//! All that have ended by the same time go together: making room takes leaktrace long, and hardly
//! longer for many than for one.

use super::{Watch, age, order, say_changes};
use crate::report::{End, EndReason, Line};
use crate::run::exits::Life;
use crate::run::output::Output;
use crate::run::traced::Traced;
use crate::session::{ExitStatus, Release, Session};

impl Watch<'_> {
    /// Deals with the processes that have ended by now; whether none is left.
    pub(super) fn take_ends(
        &mut self,
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<bool> {
        let mut ended = self.exits.ended_by_now();
        let has_any = !ended.is_empty();
        if has_any {
            // They may have forked right before.
            self.take_events(session, output)?;
            self.take_uncounted(session, output)?;
        }
        self.end_unopened(session, output)?;
        let is_last = has_any && self.exits.is_empty();
        let targets = self.targets.iter().filter(|target| !target.reported);
        let unreported: Vec<Life> = targets.map(|target| target.life).collect();
        ended.retain(|life| unreported.contains(life));
        self.last_to_end = ended.last().copied().or(self.last_to_end);
        self.settle(&ended, session, output)?;
        // The report of the last of all is the session's.
        let reported = match (is_last, ended.split_last()) {
            (true, Some((_, before))) => before,
            _ => &ended,
        };
        self.end(reported, session, output)?;
        Ok(is_last)
    }

    /// The same of those that nobody waits for, because their parents had done so before they could be
    /// opened.
    pub(super) fn end_unopened(
        &mut self,
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let targets = self.targets.iter();
        let ended: Vec<Life> = targets
            .filter(|target| target.pidfd().is_none() && !target.reported)
            .filter(|target| target.parent.is_some())
            .filter(|target| session.exit_status(target.index).is_some())
            .map(|target| target.life)
            .collect();
        if !ended.is_empty() {
            self.take_events(session, output)?;
        }
        self.settle(&ended, session, output)?;
        self.end(&ended, session, output)
    }

    /// Tells of programs that ended before their libraries were looked at.
    fn settle(
        &mut self,
        ended: &[Life],
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let targets = self.targets.iter_mut();
        for target in targets.filter(|target| ended.contains(&target.life) && !target.reported) {
            if target.waiting_since.is_some() {
                target.ended_unsettled(session)?;
                if !target.is_told {
                    output.new_target(target.announcement(target.event()))?;
                }
            }
        }
        Ok(())
    }

    /// Of a child, this is the time of its final report; those that were asked for have their last reading
    /// now, and the report of it at the end of the session.
    fn end(
        &mut self,
        ended: &[Life],
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        if ended.is_empty() {
            return Ok(());
        }
        for target in &mut self.targets {
            if ended.contains(&target.life) && !target.reported {
                output.new_target(target.obituary(session))?;
            }
        }
        let elapsed = self.started.elapsed();
        for target in &mut self.targets {
            if target.is_settled() || !ended.contains(&target.life) {
                continue;
            }
            target.read(session, elapsed, age(self.args))?;
            target.ended = true;
            if target.parent.is_none() {
                continue;
            }
            target.reported = true;
            session.process_ended(target.index)?;
            self.seq += 1;
            let report = target.report(
                self.args,
                &mut self.naming,
                self.seq,
                true,
                order(self.args.sort),
                self.args.top(),
            );
            say_changes(&report);
            output.line(&Line::Report(report))?;
        }
        self.release_ended(session, Release::Cheap);
        Ok(())
    }

    /// Lets go of what has ended, for others to take its place. What cannot be let go stays.
    pub(super) fn release_ended(&mut self, session: &mut Session, release: Release) {
        let released = match session.release_ended(release) {
            Ok(released) => released,
            Err(error) => return log::warn!("{error:#}"),
        };
        let gone = |target: &mut Traced| target.reported && released.contains(&target.index);
        for target in self.targets.extract_if(.., gone) {
            self.leak_found |= self.args.fail_on_leak && target.is_leaking();
        }
        for target in &mut self.targets {
            target.former.retain(|place| !released.contains(place));
        }
    }

    /// The last target that ended says how; `target-killed` when a signal did it.
    pub(in crate::run) fn end_line(&mut self, session: &Session, reason: EndReason) -> End {
        let mut end = End {
            reason,
            pid: None,
            exit_code: None,
            signal: None,
            out_of_memory: false,
        };
        if reason != EndReason::TargetExited {
            return end;
        }
        let of_command = match &mut self.command {
            Some(command) => command.exit_status(),
            None => None,
        };
        let mut targets = self.targets.iter();
        let target = match &self.command {
            // It is not waited for before leaktrace ends, so that its pid is its own.
            Some(command) => targets.find(|target| target.pid() == command.pid()),
            None => targets.find(|target| Some(target.life) == self.last_to_end),
        };
        let Some(target) = target else { return end };
        end.pid = Some(target.pid());
        match of_command.or_else(|| target.exit_status(session)) {
            Some(ExitStatus::Code(code)) => end.exit_code = Some(code),
            Some(ExitStatus::Signal(signal)) => {
                end.reason = EndReason::TargetKilled;
                end.signal = Some(signal);
                end.out_of_memory = session.was_oom_victim(target.index);
            }
            None => {}
        }
        end
    }
}

//! Processes that run another program for which the table of processes had no room: the program before
//! gets its last report, and of what follows nothing is counted, and that is said.

use super::Watch;
use crate::run::output::Output;
use crate::session::Session;

impl Watch<'_> {
    /// Takes up such programs. The kernel side sends no event for one, so this is asked at each reading.
    ///
    /// # Errors
    ///
    /// When the kernel side cannot be read or standard output cannot be written.
    pub(super) fn take_uncounted(
        &mut self,
        session: &mut Session,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        for place in 0..self.targets.len() {
            let target = &self.targets[place];
            let is_known = target.is_uncounted() || target.is_settled();
            if is_known || !session.runs_without_place(target.index) {
                continue;
            }
            let elapsed = self.started.elapsed();
            self.end_epoch(place, elapsed, session, output)?;
            let next = self.targets[place].executed_without_place(elapsed);
            output.new_target(next.announcement("exec"))?;
            self.targets[place] = next;
        }
        Ok(())
    }
}

//! Compares the ledger of mappings with what a process maps, where the events alone do not tell it.

use super::traced::Traced;
use crate::session::Session;

impl Traced {
    /// Reads what the process maps if the ledger has to be compared with it. Of a process that has just ended,
    /// nobody can say any more.
    pub(super) fn compare_mapped(&self, session: &mut Session, is_reading: bool) {
        if self.reported || !session.wants_mappings(self.index, is_reading) {
            return;
        }
        if let Some(now) = self.own_mappings_now(session) {
            session.compare_mapped(self.index, &now);
        }
    }
}

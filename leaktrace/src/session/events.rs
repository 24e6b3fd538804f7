//! Takes mapping events from the ring buffer, in order, into the ledgers of their processes.

use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::loss::{LOSS_REASONS, Loss};

use super::Session;
use super::huge_pages::mapped_bytes;
use crate::target::Mappings;

impl Session {
    /// Applies all waiting events.
    pub fn take_events(&mut self) {
        while let Some(item) = self.events.next() {
            let Some(mut event) = decode(&item) else {
                continue;
            };
            if event.kind == EventKind::CodeMapped as u32 {
                self.code_changed.extend(u16::try_from(event.process));
                continue;
            }
            if event.kind == EventKind::Mapped as u32 {
                event.size_bytes =
                    mapped_bytes(event.size_bytes, event.flags, self.huge_page_bytes);
            }
            if let Some(ledger) = self.mapped.get_mut(event.process as usize) {
                ledger.apply(&event);
            }
        }
    }

    /// Whether mapping events were lost since this was asked last; then the ledger of each
    /// process has to be compared with its mappings ([`Session::reconcile_mapped`]).
    pub fn mapping_events_lost(&mut self) -> bool {
        let processes = 0..self.mapped.len();
        let reason = Loss::EventLost as usize;
        let lost = processes
            .map(|process| self.losses.read(process * LOSS_REASONS + reason).count)
            .sum();
        std::mem::replace(&mut self.events_lost_seen, lost) != lost
    }

    /// Drops from a process's ledger what it does not map any more.
    pub fn reconcile_mapped(&mut self, process: u16, mappings: &Mappings) {
        if let Some(ledger) = self.mapped.get_mut(usize::from(process)) {
            ledger.keep_only(|address| mappings.containing(address).is_some());
        }
    }
}

fn decode(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: there are enough bytes, and any bytes are an Event.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}

//! Takes mapping events from the ring buffer, in order, into the ledgers of their processes.

use std::time::{Duration, Instant};

use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::loss::{LOSS_REASONS, Loss};

use super::Session;
use super::huge_pages::mapped_bytes;
use super::mapped::MappedLedger;
use super::processes::in_initial_pid_namespace;
use crate::target::Mappings;

/// Programs in which such calls fail all the time do not keep leaktrace busy.
const COMPARED_EVERY: Duration = Duration::from_millis(10);

impl Session {
    /// When the latest event that is not known yet can have been sent at the earliest.
    pub fn events_taken_at(&self) -> Instant {
        self.events_taken_at
    }

    /// Applies all waiting events.
    pub fn take_events(&mut self) {
        self.events_taken_at = Instant::now();
        // What the ring buffer hands out is given back before the event is looked at.
        while let Some(event) = self.events.next().map(|item| decode(&item)) {
            if let Some(event) = event {
                self.take_event(event);
            }
        }
    }

    fn take_event(&mut self, mut event: Event) {
        if event.kind == EventKind::CodeMapped as u32 {
            self.code_changed.extend(u16::try_from(event.process));
            return;
        }
        if event.kind == EventKind::Mapped as u32 {
            event.size_bytes = mapped_bytes(event.size_bytes, event.flags, self.huge_page_bytes);
        }
        if event.kind == EventKind::Attached as u32 && event.size_bytes == 0 {
            event.size_bytes = self.attached_bytes(&event).unwrap_or(0);
        }
        self.note_covered_code(&event);
        if let Some(ledger) = self.mapped.get_mut(event.process as usize) {
            ledger.apply(&event);
        }
    }

    /// Programs that load code without the dynamic linker put it over code that is known, and nobody
    /// else tells of that.
    fn note_covered_code(&mut self, event: &Event) {
        let of_code = [
            EventKind::Mapped,
            EventKind::Unmapping,
            EventKind::Remapping,
            EventKind::Remapped,
        ];
        if !of_code.iter().any(|kind| event.kind == *kind as u32) {
            return;
        }
        let Ok(process) = u16::try_from(event.process) else {
            return;
        };
        // A child has its parent's until it gets its own.
        let code_of = self.processes.read(usize::from(process)).code_of;
        let code = u16::try_from(code_of).ok();
        let Some(code) = code.and_then(|owner| self.code.get(&owner)) else {
            return;
        };
        let range = event.address..event.address.saturating_add(event.size_bytes);
        // Code that was made at run time has no rules: programs may change it all day long.
        if code
            .code_in(&range)
            .any(|known| known.file.is_some() || may_bring_file(event))
        {
            self.code_changed.insert(process);
        }
    }

    /// How long a segment is that was just attached; `None` when it is gone by now. What was cut from
    /// it since has events of its own.
    fn attached_bytes(&self, event: &Event) -> Option<u64> {
        let id = u32::try_from(event.flags).ok()?;
        let first = self.processes.read(event.process as usize).first;
        // Of a process whose main thread has ended, only the other threads show what is mapped.
        let shown_as = match in_initial_pid_namespace() {
            true => vec![event.tid, self.processes.read(first as usize).tgid],
            false => self.pids.get(&first).copied().into_iter().collect(),
        };
        let mut readings = shown_as.into_iter().filter_map(Mappings::of);
        readings.find_map(|mappings| mappings.attached_bytes(event.address, id))
    }

    /// Whether mapping events, or what they should say, were lost since this was asked last; then the
    /// ledger of each process has to be compared with its mappings ([`Session::reconcile_mapped`]).
    pub fn mapping_events_lost(&mut self) -> bool {
        let processes = 0..self.mapped.len();
        let lost = processes.map(|process| self.events_lost_of(process)).sum();
        std::mem::replace(&mut self.events_lost_seen, lost) != lost
    }

    pub(super) fn events_lost_of(&self, process: usize) -> u64 {
        let lost = self
            .losses
            .read(process * LOSS_REASONS + Loss::EventLost as usize);
        let ledger = self.mapped.get(process);
        lost.count + ledger.map_or(0, MappedLedger::lengths_unknown)
    }

    /// Drops from a process's ledger what it does not map any more. A process that maps nothing has ended,
    /// and holds what it held.
    pub fn reconcile_mapped(&mut self, process: u16, mappings: &Mappings) {
        let ledger = self.mapped.get_mut(usize::from(process));
        if let Some(ledger) = ledger.filter(|_| mappings.iter().next().is_some()) {
            let ranges = mappings.iter().map(|mapping| (mapping.start, mapping.end));
            ledger.keep_only(ranges);
        }
    }
}

impl Session {
    /// Whether the ledger of a process has to be compared with what it maps ([`Session::compare_mapped`]):
    /// soon after a call has failed that replaces mappings, and at readings where something grows by itself.
    pub fn wants_mappings(&self, process: u16, is_reading: bool) -> bool {
        let Some(ledger) = self.mapped.get(usize::from(process)) else {
            return false;
        };
        match is_reading {
            true => ledger.is_doubted() || ledger.grows(),
            false => ledger.is_doubted() && self.compared_at.elapsed() >= COMPARED_EVERY,
        }
    }

    /// Takes what the mappings of a process tell, and its events do not, into its ledger.
    pub fn compare_mapped(&mut self, process: u16, mappings: &Mappings) {
        self.compared_at = Instant::now();
        let ranges = mappings.iter().map(|mapping| (mapping.start, mapping.end));
        if let Some(ledger) = self.mapped.get_mut(usize::from(process)) {
            ledger.compare(&ranges.collect::<Vec<_>>());
        }
    }
}

/// Whether a call may have mapped a file, with code that can run now or later.
fn may_bring_file(event: &Event) -> bool {
    let is_mapped = event.kind == EventKind::Mapped as u32;
    event.kind == EventKind::Remapped as u32
        || is_mapped && event.flags & libc::MAP_ANONYMOUS as u64 == 0
}

fn decode(bytes: &[u8]) -> Option<Event> {
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    // SAFETY: there are enough bytes, and any bytes are an Event.
    Some(unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) })
}

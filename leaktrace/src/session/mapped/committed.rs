//! Mappings that only set addresses aside, and what has become memory of them: no event tells of mprotect,
//! nor of the first use of a page, so the mappings of the process say it. Pure.

use std::collections::HashMap;

use super::MappedLedger;

/// How addresses were set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserved {
    /// Without any access: what can be accessed later is memory.
    NoAccess,
    /// With access and without backing, often much more than is ever used: what is used is memory.
    NoBacking,
}

/// What a process has at a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usable {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// What of it is in memory or swapped out, bytes.
    pub held_bytes: u64,
}

impl MappedLedger {
    /// Whether any mapping only sets addresses aside.
    pub(in crate::session) fn has_reserved(&self) -> bool {
        let mut origins = self.origins.values();
        origins.any(|origin| origin.maker.reserved.is_some())
    }

    /// Takes note of what can be accessed now; ascending, all of it.
    pub(in crate::session) fn note_usable(&mut self, usable: &[Usable]) {
        let mut committed: HashMap<u64, u64> = HashMap::new();
        for (start, piece) in &self.pieces {
            let origin = self.origins.get(&piece.mapping);
            let Some(reserved) = origin.and_then(|origin| origin.maker.reserved) else {
                continue;
            };
            let first = usable.partition_point(|range| range.end <= *start);
            let here = usable[first..].iter();
            let here = here.take_while(|range| range.start < piece.end);
            let bytes: u64 = here
                .map(|range| range.part(*start, piece.end, reserved))
                .sum();
            *committed.entry(piece.mapping).or_default() += bytes;
        }
        self.committed = committed;
    }

    /// Bytes of mappings that only set addresses aside, by the site that made them by this time; without
    /// what was memory at the last look ([`MappedLedger::note_usable`]).
    pub(in crate::session) fn reserved_by_site(&self, latest_ns: u64) -> HashMap<u32, u64> {
        let mut reserved = HashMap::new();
        let made = self.made_by(latest_ns);
        for (mapping, origin) in made.filter(|(_, origin)| origin.maker.reserved.is_some()) {
            let committed = self.committed.get(&mapping).copied().unwrap_or(0);
            *reserved.entry(origin.maker.site).or_default() +=
                origin.left_bytes.saturating_sub(committed);
        }
        reserved
    }
}

impl Usable {
    /// Bytes of it that are memory, between two addresses. What the kernel has joined with neighbours is
    /// taken to be used evenly.
    fn part(&self, start: u64, end: u64, reserved: Reserved) -> u64 {
        let bytes = self.end.min(end).saturating_sub(self.start.max(start));
        match reserved {
            Reserved::NoAccess => bytes,
            Reserved::NoBacking => {
                let length = (self.end - self.start).max(1);
                let held = u128::from(self.held_bytes) * u128::from(bytes) / u128::from(length);
                held as u64
            }
        }
    }
}

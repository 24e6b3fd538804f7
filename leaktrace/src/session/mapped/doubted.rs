//! Where events do not tell what is mapped, and the mappings of the process have to: ranges from which a call
//! that has failed may have taken something away, and mappings that grow downward at the touch of the next page.
//! Pure.

use leaktrace_common::event::Event;
use leaktrace_common::limits::PAGE_BYTES;

use super::{MappedLedger, page_align};

/// Flag of mmap: the mapping grows by itself, like the stack of a main thread (uapi/linux/mman.h).
pub(super) const MAP_GROWSDOWN: u64 = 0x100;

/// Ranges that are kept apart; more become one.
const MAX_RANGES: usize = 64;

/// A range of which some may be gone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubted {
    start: u64,
    /// Unknown for a segment of shared memory: what is gone then reaches up to what is mapped next.
    end: Option<u64>,
}

impl MappedLedger {
    /// Whether something of it may be gone.
    pub(in crate::session) fn is_doubted(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// Ranges in doubt.
    pub(in crate::session) fn doubts(&self) -> u64 {
        self.doubted.len() as u64
    }

    /// Whether there was a mapping that grows by itself.
    pub(in crate::session) fn grows(&self) -> bool {
        self.grows
    }

    /// Takes note of a call that has failed and was to replace what is at its address.
    pub(super) fn doubt(&mut self, event: &Event) {
        let length = page_align(event.size_bytes);
        let start = event.address & !(PAGE_BYTES - 1);
        let end = (length != 0).then(|| start.saturating_add(length));
        let last = end.unwrap_or(u64::MAX);
        let mut below = self.pieces.range(..last).rev();
        if below.next().is_none_or(|(_, piece)| piece.end <= start) {
            return;
        }
        self.doubted.push(Doubted { start, end });
        if self.doubted.len() > MAX_RANGES {
            let starts = self.doubted.iter().map(|range| range.start);
            let start = starts.min().unwrap_or(0);
            let ends = self.doubted.iter().map(|range| range.end);
            let end = ends.map(|end| end.unwrap_or(u64::MAX)).max();
            self.doubted = vec![Doubted { start, end }];
        }
    }

    /// Drops what is in doubt and is not there, and adds what has grown: `mapped` are the ranges that are
    /// mapped, ascending.
    pub(in crate::session) fn compare(&mut self, mapped: &[(u64, u64)]) {
        for doubted in std::mem::take(&mut self.doubted) {
            let first = mapped.partition_point(|(_, end)| *end <= doubted.start);
            let next = || {
                mapped[first..]
                    .first()
                    .map_or(u64::MAX, |(start, _)| *start)
            };
            let end = doubted.end.unwrap_or_else(next);
            let here = mapped[first..].iter().copied();
            self.keep_only_in(
                doubted.start..end,
                here.take_while(|(start, _)| *start < end),
            );
        }
        if self.grows {
            self.grow(mapped);
        }
    }

    /// To the kernel a mapping that grows is never one with a neighbour that does not.
    fn grow(&mut self, mapped: &[(u64, u64)]) {
        let mut grown = Vec::new();
        let mut end_of_last = 0;
        for (start, piece) in &self.pieces {
            let origin = self.origins.get(&piece.mapping);
            if origin.is_some_and(|origin| origin.maker.grows) {
                let at = mapped.partition_point(|(_, end)| *end <= *start);
                let lowest = mapped.get(at).map_or(*start, |(lowest, _)| *lowest);
                let lowest = lowest.max(end_of_last);
                if lowest < *start {
                    grown.push((*start, lowest));
                }
            }
            end_of_last = piece.end;
        }
        for (start, lowest) in grown {
            self.extend_down(start, lowest);
        }
    }

    fn extend_down(&mut self, start: u64, lowest: u64) {
        let Some(piece) = self.pieces.remove(&start) else {
            return;
        };
        self.pieces.insert(lowest, piece);
        let bytes = start - lowest;
        let Some(origin) = self.origins.get_mut(&piece.mapping) else {
            return;
        };
        origin.left_bytes += bytes;
        if origin.maker.counted {
            let totals = self.totals.entry(origin.maker.site).or_default();
            totals.allocated_bytes += bytes;
        }
    }
}

//! mremap in the ledger of mappings: what was in the old range keeps its site at the same distance from the
//! start of the new one. To the kernel neighbours are one mapping whoever has made them, and since Linux 6.17
//! a move takes several with the gaps between them.

use leaktrace_common::event::Event;

use super::{MappedLedger, Taken, page_align};

/// The old range stays mapped when this flag is given (uapi/linux/mman.h).
const MREMAP_DONTUNMAP: u64 = 4;

/// From where to where a range of addresses has gone.
struct Move {
    from: u64,
    old_length: u64,
    to: u64,
    length: u64,
}

impl MappedLedger {
    /// Growing or moving a mapping is not a new one: what it has grown by counts for whoever has mapped
    /// its end. Where nothing is known there was something from before the session, which stays out of
    /// the ledger; or a gap, of which nobody says so: what the gap has come to lie over is then
    /// forgotten, though it is still there.
    pub(super) fn remapped(&mut self, event: &Event, length: u64) {
        let Some(announced) = self.announced.remove(&event.tid) else {
            return;
        };
        let range = Move {
            from: announced.start,
            old_length: page_align(event.old_size_bytes),
            to: event.address,
            length,
        };
        // Length zero: a second mapping of the same shared pages, and the first one stays.
        if event.flags & MREMAP_DONTUNMAP != 0 || range.old_length == 0 {
            for taken in &announced.taken {
                self.put_back(*taken);
            }
        }
        self.cut(range.to, range.length);
        for taken in &announced.taken {
            if let Some((start, length)) = range.of(taken) {
                self.map(start, length, taken.moved_to(start));
            }
        }
    }
}

impl Move {
    /// Start and length of what has become of a piece of the old range; `None` when it was cut off.
    fn of(&self, taken: &Taken) -> Option<(u64, u64)> {
        let begin = taken.start.checked_sub(self.from)?;
        let end = taken.piece.end.checked_sub(self.from)?;
        let end = match end == self.old_length {
            true => self.length,
            false => end.min(self.length),
        };
        let length = end.checked_sub(begin).filter(|length| *length > 0)?;
        Some((self.to.checked_add(begin)?, length))
    }
}

//! The ledger of mappings that one process has made itself: intervals of addresses with the site
//! that mapped them, kept exact by the ordered events. Pure.

mod attached;
mod committed;
mod doubted;
mod moved;

use std::collections::{BTreeMap, HashMap};
use std::ops::{Range, RangeInclusive};

use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::limits::PAGE_BYTES;

use crate::snapshot::Totals;
use attached::Attached;
use committed::Reserved;
pub use committed::Usable;
use doubted::{Doubted, MAP_GROWSDOWN};

/// Protection that allows nothing, and the flag that asks for no backing (uapi/linux/mman.h).
const PROT_NONE: u64 = 0;
const MAP_NORESERVE: u64 = 0x4000;

/// A thread's stack: set aside without access, and made accessible right after.
const MAP_STACK: u64 = 0x20000;

/// Threads whose last munmap is remembered, and for how long at least when there are more.
const MAX_ANNOUNCED: usize = 1024;
const ANNOUNCED_FOR_NS: u64 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    end: u64,
    /// Which mmap call made it: a mapping may be cut into several pieces.
    mapping: u64,
}

#[derive(Clone, Copy, Debug)]
struct Origin {
    maker: Maker,
    left_bytes: u64,
}

/// The call that has made a mapping.
#[derive(Clone, Copy, Debug)]
struct Maker {
    site: u32,
    /// When; a mapping that was moved or resized is as old as before.
    at_ns: u64,
    /// Its length is one of those that are counted.
    counted: bool,
    /// Only addresses were set aside: no memory is used until something changes them.
    reserved: Option<Reserved>,
    /// It is a segment of shared memory.
    attached: Option<Attached>,
    /// It grows downward by itself.
    grows: bool,
}

/// What one call has taken away.
#[derive(Debug, Default)]
struct Announced {
    at_ns: u64,
    /// First address of what the call was made for.
    start: u64,
    taken: Vec<Taken>,
}

/// A piece that was taken away, with what is needed to put it back.
#[derive(Clone, Copy, Debug)]
struct Taken {
    start: u64,
    piece: Piece,
    maker: Maker,
}

/// Which addresses are mapped by which site.
#[derive(Debug, Default)]
pub(super) struct MappedLedger {
    /// Lengths of the mappings that are counted; absent for all.
    counted_bytes: Option<RangeInclusive<u64>>,
    pieces: BTreeMap<u64, Piece>,
    origins: HashMap<u64, Origin>,
    /// What a call of a thread has taken away that may yet turn out to have failed.
    announced: HashMap<u32, Announced>,
    totals: HashMap<u32, Totals>,
    /// Bytes of mappings that only set addresses aside, of which the program has made memory since.
    committed: HashMap<u64, u64>,
    next_mapping: u64,
    /// Segments of shared memory that were attached and whose length nobody could say.
    lengths_unknown: u64,
    /// Length of the longest segment there was.
    longest_segment_bytes: u64,
    /// Ranges of which some may be gone.
    doubted: Vec<Doubted>,
    /// There was a mapping that grows by itself.
    grows: bool,
}

impl MappedLedger {
    /// A ledger that counts mappings of these lengths only. It knows of all others, too: they may cover
    /// what is counted.
    pub(super) fn counting(counted_bytes: RangeInclusive<u64>) -> Self {
        Self {
            counted_bytes: (counted_bytes != (0..=u64::MAX)).then_some(counted_bytes),
            ..Self::default()
        }
    }

    /// An empty one that counts the same.
    pub(super) fn emptied(&self) -> Self {
        Self {
            counted_bytes: self.counted_bytes.clone(),
            ..Self::default()
        }
    }

    /// Applies one event of this process.
    pub(super) fn apply(&mut self, event: &Event) {
        let length = page_align(event.size_bytes);
        let kind = event.kind;
        if kind == EventKind::Mapped as u32 {
            let reserved = match event.old_size_bytes {
                PROT_NONE => Some(Reserved::NoAccess),
                _ if event.flags & MAP_NORESERVE != 0 => Some(Reserved::NoBacking),
                _ => None,
            };
            let maker = Maker {
                site: event.site,
                at_ns: event.at_ns,
                counted: true,
                reserved: reserved.filter(|_| event.flags & MAP_STACK == 0),
                attached: None,
                grows: event.flags & MAP_GROWSDOWN != 0,
            };
            self.grows |= maker.grows;
            self.map(event.address, length, maker);
        } else if kind == EventKind::Unmapping as u32 {
            self.announce(event, length);
        } else if kind == EventKind::Remapping as u32 {
            self.announce(event, page_align(event.old_size_bytes));
        } else if kind == EventKind::StillMapped as u32 {
            for taken in self.announced.remove(&event.tid).unwrap_or_default().taken {
                self.put_back(taken);
            }
        } else if kind == EventKind::Remapped as u32 {
            self.remapped(event, length);
        } else if kind == EventKind::Attached as u32 {
            self.attach(event, length);
        } else if kind == EventKind::Detaching as u32 {
            self.detach(event);
        } else if kind == EventKind::PerhapsGone as u32 {
            self.doubt(event);
        }
    }

    /// Totals by site.
    pub(super) fn totals(&self) -> impl Iterator<Item = (u32, Totals)> + '_ {
        self.totals.iter().map(|(site, totals)| {
            let mut totals = *totals;
            totals.live_bytes = totals.allocated_bytes - totals.freed_bytes;
            totals.live_count = totals.allocated_count - totals.freed_count;
            (*site, totals)
        })
    }

    /// Ranges of addresses that are mapped, ascending.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.pieces.iter().map(|(start, piece)| (*start, piece.end))
    }

    /// Bytes and mappings that are left of what each site has made by this time.
    pub(super) fn left_by_site(&self, latest_ns: u64) -> HashMap<u32, (u64, u64)> {
        let mut left: HashMap<u32, (u64, u64)> = HashMap::new();
        for (_, origin) in self.made_by(latest_ns) {
            let site = left.entry(origin.maker.site).or_default();
            site.0 += origin.left_bytes;
            site.1 += 1;
        }
        left
    }

    /// What is left of the mappings that are counted and were made by this time, with their numbers.
    fn made_by(&self, latest_ns: u64) -> impl Iterator<Item = (u64, &Origin)> {
        let origins = self
            .origins
            .iter()
            .map(|(mapping, origin)| (*mapping, origin));
        origins.filter(move |(_, origin)| origin.maker.counted && origin.maker.at_ns <= latest_ns)
    }

    /// Forgets what is not mapped any more, after events were lost: `mapped` are the ranges that still
    /// are, ascending.
    pub(super) fn keep_only(&mut self, mapped: impl Iterator<Item = (u64, u64)>) {
        self.keep_only_in(0..u64::MAX, mapped);
    }

    /// The same within a range.
    fn keep_only_in(&mut self, range: Range<u64>, mapped: impl Iterator<Item = (u64, u64)>) {
        let mut kept_to = range.start;
        for (start, end) in mapped.chain([(range.end, range.end)]) {
            let start = start.min(range.end);
            if start > kept_to {
                self.cut(kept_to, start - kept_to);
            }
            kept_to = kept_to.max(end);
        }
    }

    fn map(&mut self, start: u64, length: u64, maker: Maker) {
        // MAP_FIXED replaces what was there.
        self.cut(start, length);
        let mapping = self.next_mapping;
        self.next_mapping += 1;
        let counted_bytes = self.counted_bytes.as_ref();
        let maker = Maker {
            counted: counted_bytes.is_none_or(|counted| counted.contains(&length)),
            ..maker
        };
        self.origins.insert(
            mapping,
            Origin {
                maker,
                left_bytes: length,
            },
        );
        self.pieces.insert(
            start,
            Piece {
                end: start + length,
                mapping,
            },
        );
        if maker.counted {
            let totals = self.totals.entry(maker.site).or_default();
            totals.allocated_bytes += length;
            totals.allocated_count += 1;
        }
    }

    /// Takes a range away, and keeps what was in it until the thread's call is known to have
    /// succeeded. Success sends no event, so what is old is dropped when it becomes much.
    fn announce(&mut self, event: &Event, length: u64) {
        let taken = self.cut(event.address, length);
        self.remember(event, taken);
    }

    fn remember(&mut self, event: &Event, taken: Vec<Taken>) {
        if self.announced.len() >= MAX_ANNOUNCED {
            let latest_ns = event.at_ns.saturating_sub(ANNOUNCED_FOR_NS);
            self.announced
                .retain(|_, announced| announced.at_ns >= latest_ns);
        }
        let announced = Announced {
            at_ns: event.at_ns,
            start: event.address,
            taken,
        };
        self.announced.insert(event.tid, announced);
    }

    /// Takes a range out of the ledger and returns the pieces that were in it.
    fn cut(&mut self, start: u64, length: u64) -> Vec<Taken> {
        if length == 0 {
            return self.owner(start).into_iter().collect();
        }
        let end = start.saturating_add(length);
        let touched: Vec<(u64, Piece)> = self
            .pieces
            .range(..end)
            .rev()
            .take_while(|(_, piece)| piece.end > start)
            .map(|(start, piece)| (*start, *piece))
            .collect();
        let mut taken = Vec::with_capacity(touched.len());
        for (piece_start, piece) in touched {
            self.pieces.remove(&piece_start);
            if piece_start < start {
                self.pieces.insert(
                    piece_start,
                    Piece {
                        end: start,
                        ..piece
                    },
                );
            }
            if piece.end > end {
                self.pieces.insert(end, piece);
            }
            let (from, to) = (piece_start.max(start), piece.end.min(end));
            let Some(origin) = self.count_taken(piece.mapping, to - from) else {
                continue;
            };
            taken.push(Taken {
                start: from,
                piece: Piece { end: to, ..piece },
                maker: origin.maker,
            });
        }
        taken
    }

    /// Nothing of the mapping at an address, with what is known of it.
    fn owner(&self, address: u64) -> Option<Taken> {
        let (_, piece) = self.pieces.range(..=address).next_back()?;
        let origin = self.origins.get(&piece.mapping)?;
        (address < piece.end).then_some(Taken {
            start: address,
            piece: Piece {
                end: address,
                ..*piece
            },
            maker: origin.maker,
        })
    }

    fn count_taken(&mut self, mapping: u64, bytes: u64) -> Option<Origin> {
        let origin = self.origins.get_mut(&mapping)?;
        origin.left_bytes -= bytes;
        let origin = *origin;
        let is_gone = origin.left_bytes == 0;
        if is_gone {
            self.origins.remove(&mapping);
        }
        if origin.maker.counted {
            let totals = self.totals.entry(origin.maker.site).or_default();
            totals.freed_bytes += bytes;
            totals.freed_count += u64::from(is_gone);
        }
        Some(origin)
    }

    fn put_back(&mut self, taken: Taken) {
        let bytes = taken.piece.end - taken.start;
        if bytes == 0 {
            return;
        }
        let was_gone = !self.origins.contains_key(&taken.piece.mapping);
        let origin = self.origins.entry(taken.piece.mapping).or_insert(Origin {
            maker: taken.maker,
            left_bytes: 0,
        });
        origin.left_bytes += bytes;
        if taken.maker.counted {
            let totals = self.totals.entry(taken.maker.site).or_default();
            totals.freed_bytes -= bytes;
            totals.freed_count -= u64::from(was_gone);
        }
        self.pieces.insert(taken.start, taken.piece);
    }
}

fn page_align(bytes: u64) -> u64 {
    bytes
        .checked_next_multiple_of(PAGE_BYTES)
        .unwrap_or(u64::MAX - PAGE_BYTES + 1)
}

#[cfg(test)]
#[path = "mapped_tests.rs"]
mod tests;

//! The ledger of mappings that one process has made itself: intervals of addresses with the site
//! that mapped them, kept exact by the ordered events. Pure.

use std::collections::{BTreeMap, HashMap};

use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::limits::PAGE_BYTES;

use crate::snapshot::Totals;

/// mremap leaves the old range mapped when this flag is given (uapi/linux/mman.h).
const MREMAP_DONTUNMAP: u64 = 4;

/// Protection that allows nothing, and the flag that asks for no backing (uapi/linux/mman.h).
const PROT_NONE: u64 = 0;
const MAP_NORESERVE: u64 = 0x4000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    end: u64,
    /// Which mmap call made it: a mapping may be cut into several pieces.
    mapping: u64,
}

#[derive(Clone, Copy, Debug)]
struct Origin {
    site: u32,
    left_bytes: u64,
    /// Only addresses were set aside: no memory is used until something changes them.
    reserved: bool,
}

/// Which addresses are mapped by which site.
#[derive(Debug, Default)]
pub(super) struct MappedLedger {
    pieces: BTreeMap<u64, Piece>,
    origins: HashMap<u64, Origin>,
    /// What a call of a thread has taken away that may yet turn out to have failed.
    announced: HashMap<u32, Vec<(u64, Piece)>>,
    totals: HashMap<u32, Totals>,
    next_mapping: u64,
}

impl MappedLedger {
    /// Applies one event of this process.
    pub(super) fn apply(&mut self, event: &Event) {
        let length = page_align(event.size_bytes);
        let kind = event.kind;
        if kind == EventKind::Mapped as u32 {
            let reserved = event.old_size_bytes == PROT_NONE || event.flags & MAP_NORESERVE != 0;
            self.map(event.address, length, event.site, reserved);
        } else if kind == EventKind::Unmapping as u32 {
            let taken = self.cut(event.address, length);
            self.announced.insert(event.tid, taken);
        } else if kind == EventKind::Remapping as u32 {
            let taken = self.cut(event.address, page_align(event.old_size_bytes));
            self.announced.insert(event.tid, taken);
        } else if kind == EventKind::StillMapped as u32 {
            for (start, piece) in self.announced.remove(&event.tid).unwrap_or_default() {
                self.put_back(start, piece);
            }
        } else if kind == EventKind::Remapped as u32 {
            self.remapped(event, length);
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

    /// Bytes of mappings that only set addresses aside.
    pub(super) fn reserved_bytes(&self) -> u64 {
        let origins = self.origins.values();
        origins
            .filter(|origin| origin.reserved)
            .map(|origin| origin.left_bytes)
            .sum()
    }

    /// Forgets what is not mapped any more, after events were lost: `mapped` says whether an
    /// address still is.
    pub(super) fn keep_only(&mut self, mapped: impl Fn(u64) -> bool) {
        let gone: Vec<(u64, u64)> = self
            .pieces
            .iter()
            .filter(|(start, _)| !mapped(**start))
            .map(|(start, piece)| (*start, piece.end - start))
            .collect();
        for (start, length) in gone {
            self.cut(start, length);
        }
    }

    fn map(&mut self, start: u64, length: u64, site: u32, reserved: bool) {
        // MAP_FIXED replaces what was there.
        self.cut(start, length);
        let mapping = self.next_mapping;
        self.next_mapping += 1;
        self.origins.insert(
            mapping,
            Origin {
                site,
                left_bytes: length,
                reserved,
            },
        );
        self.pieces.insert(
            start,
            Piece {
                end: start + length,
                mapping,
            },
        );
        let totals = self.totals.entry(site).or_default();
        totals.allocated_bytes += length;
        totals.allocated_count += 1;
    }

    /// The old range keeps its site: growing or moving a mapping is not a new one. What it has
    /// grown by counts for the same site.
    fn remapped(&mut self, event: &Event, length: u64) {
        let taken = self.announced.remove(&event.tid).unwrap_or_default();
        let old_length = page_align(event.old_size_bytes);
        let site = taken
            .first()
            .and_then(|(_, piece)| self.origins.get(&piece.mapping))
            .map(|origin| (origin.site, origin.reserved));
        if event.flags & MREMAP_DONTUNMAP != 0 || old_length == 0 {
            for (start, piece) in taken {
                self.put_back(start, piece);
            }
        }
        // A range that was mapped before the session stays out of the ledger.
        if let Some((site, reserved)) = site {
            self.map(event.address, length, site, reserved);
        }
    }

    /// Takes a range out of the ledger and returns the pieces that were in it.
    fn cut(&mut self, start: u64, length: u64) -> Vec<(u64, Piece)> {
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
            self.count_taken(piece.mapping, to - from);
            taken.push((from, Piece { end: to, ..piece }));
        }
        taken
    }

    fn count_taken(&mut self, mapping: u64, bytes: u64) {
        let Some(origin) = self.origins.get_mut(&mapping) else {
            return;
        };
        origin.left_bytes -= bytes;
        let totals = self.totals.entry(origin.site).or_default();
        totals.freed_bytes += bytes;
        if origin.left_bytes == 0 {
            totals.freed_count += 1;
        }
    }

    fn put_back(&mut self, start: u64, piece: Piece) {
        let Some(origin) = self.origins.get_mut(&piece.mapping) else {
            return;
        };
        let bytes = piece.end - start;
        let totals = self.totals.entry(origin.site).or_default();
        totals.freed_bytes -= bytes;
        if origin.left_bytes == 0 {
            totals.freed_count -= 1;
        }
        origin.left_bytes += bytes;
        self.pieces.insert(start, piece);
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

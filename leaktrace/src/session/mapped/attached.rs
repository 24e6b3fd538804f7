//! Segments of shared memory in the ledger of mappings: they come without a length among the arguments,
//! and go by the address that they were attached at, as far as they are still there.

use leaktrace_common::event::Event;
use leaktrace_common::limits::PAGE_BYTES;

use super::{Maker, MappedLedger, Piece, Taken};

/// Where a segment is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// Address of the segment's first byte, also when that is not mapped any more.
    start: u64,
    length_bytes: u64,
}

impl MappedLedger {
    /// Segments that are not in the ledger because nobody could say how long they are.
    pub(in crate::session) fn lengths_unknown(&self) -> u64 {
        self.lengths_unknown
    }

    /// Without a length, it was gone again before somebody could ask: of what it has covered (SHM_REMAP),
    /// the first page is known, and the mappings tell of the rest ([`MappedLedger::keep_only`]).
    pub(super) fn attach(&mut self, event: &Event, length_bytes: u64) {
        if length_bytes == 0 {
            self.lengths_unknown += 1;
            self.cut(event.address, PAGE_BYTES);
            return;
        }
        self.longest_segment_bytes = self.longest_segment_bytes.max(length_bytes);
        let maker = Maker {
            site: event.site,
            at_ns: event.at_ns,
            counted: true,
            reserved: None,
            attached: Some(Attached {
                start: event.address,
                length_bytes,
            }),
            grows: false,
        };
        self.map(event.address, length_bytes, maker);
    }

    /// Takes away what is left of the segment that is attached at an address.
    pub(super) fn detach(&mut self, event: &Event) {
        let address = event.address;
        let of_piece = |piece: &Piece| self.origins.get(&piece.mapping)?.maker.attached;
        // What is left of it may begin anywhere in it.
        let farthest = address.saturating_add(self.longest_segment_bytes);
        let mut here = self
            .pieces
            .range(address..farthest)
            .filter_map(|(_, piece)| of_piece(piece));
        let segment = here.find(|segment| segment.start == address);
        let mut left = Vec::new();
        if let Some(segment) = segment {
            let end = address.saturating_add(segment.length_bytes);
            let pieces = self.pieces.range(address..end);
            let own = pieces.filter(|(_, piece)| of_piece(piece) == Some(segment));
            left.extend(own.map(|(start, piece)| (*start, piece.end - start)));
        }
        let taken = left
            .into_iter()
            .flat_map(|(start, length)| self.cut(start, length))
            .collect();
        self.remember(event, taken);
    }
}

impl Taken {
    /// The call that has made it, when what begins with it has moved to an address.
    pub(super) fn moved_to(&self, address: u64) -> Maker {
        let attached = self.maker.attached.map(|segment| Attached {
            start: address.wrapping_sub(self.start - segment.start),
            ..segment
        });
        Maker {
            attached,
            ..self.maker
        }
    }
}

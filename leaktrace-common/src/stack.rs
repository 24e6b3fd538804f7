//! Call stacks: how they are stored, how they are hashed, and why they end.

mod record;

pub use record::{DeepFrames, StackRecord, WholeStack};

use crate::limits::{MAX_PAIRS, MAX_PROCESSES};

/// Sites that take allocations whose stack could not be stored: one for each process and source.
pub const SITES_WITHOUT_STACK: u32 = SOURCES * MAX_PROCESSES;

/// Index of the site of this source that takes a process's allocations whose stack could not be
/// stored. These are the first sites.
#[inline(always)]
pub const fn site_without_stack(process: u32, source: Source) -> u32 {
    SOURCES * process + source as u32
}

/// Stands in a pending call that is followed but not counted (outside the wanted sizes).
pub const SITE_NOT_COUNTED: u32 = u32::MAX;

/// What a site allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Source {
    /// Blocks of an allocator: malloc and its family.
    Heap = 0,
    /// Mappings that the program made itself: mmap and its family.
    Mmap = 1,
    /// What the first pair of functions that the user has named hands out; the others follow.
    Pair0 = 2,
    /// The second.
    Pair1 = 3,
    /// The third.
    Pair2 = 4,
    /// The fourth.
    Pair3 = 5,
    /// The fifth.
    Pair4 = 6,
    /// The sixth.
    Pair5 = 7,
    /// The seventh.
    Pair6 = 8,
    /// The last.
    Pair7 = 9,
}

const SOURCES: u32 = 2 + MAX_PAIRS;

impl Source {
    /// The source with this number; unknown numbers are heap.
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Mmap,
            2 => Self::Pair0,
            3 => Self::Pair1,
            4 => Self::Pair2,
            5 => Self::Pair3,
            6 => Self::Pair4,
            7 => Self::Pair5,
            8 => Self::Pair6,
            9 => Self::Pair7,
            _ => Self::Heap,
        }
    }

    /// What this pair of functions hands out.
    #[inline(always)]
    pub const fn of_pair(pair: u8) -> Self {
        Self::from_number(2 + pair as u32)
    }

    /// The pair of functions that it comes from.
    pub const fn pair(self) -> Option<u8> {
        (self as u8).checked_sub(2)
    }
}

/// Why a stack has no more frames. Only [`StackEnd::Complete`] is a whole stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum StackEnd {
    /// The start of the thread was reached.
    Complete = 0,
    /// More frames than a stack can hold.
    TooDeep = 1,
    /// The saved frame pointer points nowhere on the stack: the caller keeps none.
    NoFramePointer = 2,
    /// The word where a return address belongs points into no executable mapping.
    NoMapping = 3,
    /// The stack could not be read.
    Unreadable = 4,
    /// Code without unwind information, and its frame pointer leads nowhere.
    NoInfo = 5,
    /// The unwind table of the code was not ready yet.
    TableMissing = 6,
    /// The code's unwind information is of a kind that is not followed.
    RuleMissing = 7,
    /// The unwind information leads to no frame further up the stack.
    BrokenFrame = 8,
}

impl StackEnd {
    /// Every reason but [`StackEnd::Complete`], in the order of their numbers.
    pub const TRUNCATED: [Self; 8] = [
        Self::TooDeep,
        Self::NoFramePointer,
        Self::NoMapping,
        Self::Unreadable,
        Self::NoInfo,
        Self::TableMissing,
        Self::RuleMissing,
        Self::BrokenFrame,
    ];

    /// The reason with this number; unknown numbers are unreadable stacks.
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Complete,
            1 => Self::TooDeep,
            2 => Self::NoFramePointer,
            3 => Self::NoMapping,
            5 => Self::NoInfo,
            6 => Self::TableMissing,
            7 => Self::RuleMissing,
            8 => Self::BrokenFrame,
            _ => Self::Unreadable,
        }
    }

    /// The name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::TooDeep => "too_deep",
            Self::NoFramePointer => "no_frame_pointer",
            Self::NoMapping => "no_mapping",
            Self::Unreadable => "unreadable",
            Self::NoInfo => "no_unwind_info",
            Self::TableMissing => "table_not_ready",
            Self::RuleMissing => "rule_not_followed",
            Self::BrokenFrame => "broken_frame",
        }
    }
}

/// Key of a bridge: a return address in a process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BridgeKey {
    /// Return address (avma) in the bridged function.
    pub address: u64,
    /// Index of the process.
    pub process: u32,
    /// Always zero.
    pub padding: u32,
}

/// How to get from a call inside a function that is no frame of its own (`operator new`) to the
/// function's caller: what .eh_frame says for that return address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bridge {
    /// Canonical frame address less the stack pointer after the return, bytes. The caller's
    /// return address is the word below the canonical frame address.
    pub cfa_offset: u32,
    /// Distance of the saved frame pointer below the canonical frame address, bytes; 0 when the
    /// function leaves the register alone.
    pub frame_pointer_below_cfa: u32,
}

const _: () = assert!(size_of::<BridgeKey>() == 16);
const _: () = assert!(size_of::<Bridge>() == 8);

/// Start value of a stack's hash.
#[inline(always)]
pub const fn hash_start(process: u32, source: Source) -> u64 {
    hash_frame(
        0x6c65_616b_7472_6163,
        ((process as u64) << 8) | source as u64,
    )
}

/// Mixes one return address into a stack's hash: the multiply-xorshift step of MurmurHash64A,
/// which is made of operations that BPF has.
#[inline(always)]
pub const fn hash_frame(hash: u64, address: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut k = address.wrapping_mul(M);
    k ^= k >> 47;
    k = k.wrapping_mul(M);
    (hash ^ k).wrapping_mul(M)
}

/// Finishes a stack's hash; never zero, so that zero can mean "no stack".
#[inline(always)]
pub const fn hash_end(hash: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut h = hash ^ (hash >> 47);
    h = h.wrapping_mul(M);
    h ^= h >> 47;
    h | ((h == 0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(process: u32, source: Source, frames: &[u64]) -> u64 {
        hash_end(
            frames
                .iter()
                .fold(hash_start(process, source), |h, f| hash_frame(h, *f)),
        )
    }

    #[test]
    fn order_depth_process_and_source_all_change_the_hash() {
        let base = hash(0, Source::Heap, &[1, 2, 3]);
        assert_ne!(base, hash(0, Source::Heap, &[2, 1, 3]));
        assert_ne!(base, hash(0, Source::Heap, &[1, 2]));
        assert_ne!(base, hash(0, Source::Heap, &[1, 2, 3, 0]));
        assert_ne!(base, hash(1, Source::Heap, &[1, 2, 3]));
        assert_ne!(base, hash(0, Source::Mmap, &[1, 2, 3]));
        assert_eq!(base, hash(0, Source::Heap, &[1, 2, 3]));
    }

    #[test]
    fn every_reason_has_its_number_and_its_name() {
        for end in StackEnd::TRUNCATED {
            assert_eq!(StackEnd::from_number(end as u32), end);
            assert_ne!(end.name(), StackEnd::Complete.name());
        }
    }

    #[test]
    fn neighbouring_addresses_do_not_collide() {
        extern crate std;
        let mut seen = std::collections::HashSet::new();
        for a in 0..200u64 {
            for b in 0..200u64 {
                assert!(seen.insert(hash(
                    0,
                    Source::Heap,
                    &[0x40_1000 + a, 0x7f00_0000_0000 + b]
                )));
            }
        }
    }
}

//! Lanes: the calls of a thread that can be inside one another. Each lane has a pending call of its
//! own, so that calls of two lanes never swallow each other.

use crate::limits::MAX_PAIRS;
use crate::stack::Source;

/// The lane of a probed function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u8);

const FIRST_PAIR: u8 = 4;

impl Lane {
    /// malloc and its like.
    pub const MAIN: Self = Self(0);
    /// `operator new` and its like, where they allocate by themselves. They can be left by an
    /// exception, whose memory comes from malloc: a call that must not count as theirs.
    pub const OPERATORS: Self = Self(1);
    /// mmap and its like. A program's own may call malloc, and so may a signal handler that interrupts
    /// it: a call that must not count as theirs.
    pub const MAPPINGS: Self = Self(2);
    /// System calls that a program makes by itself, without a probed function around them.
    pub const SYSCALLS: Self = Self(3);
    /// How many lanes there are.
    pub const COUNT: u32 = FIRST_PAIR as u32 + MAX_PAIRS;

    /// The lane of a pair of functions that the user has named.
    pub const fn of_pair(pair: u8) -> Self {
        Self(FIRST_PAIR + pair)
    }

    /// The lane with this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The pair that it belongs to.
    #[inline(always)]
    pub const fn pair(self) -> Option<u8> {
        self.0.checked_sub(FIRST_PAIR)
    }

    /// What functions of this lane allocate.
    #[inline(always)]
    pub const fn source(self) -> Source {
        match self.pair() {
            Some(pair) => Source::of_pair(pair),
            None => Source::Heap,
        }
    }

    /// Number of the ledger that its blocks are in: 0 is the heap.
    #[inline(always)]
    pub const fn ledger(self) -> u32 {
        match self.pair() {
            Some(pair) => 1 + pair as u32,
            None => 0,
        }
    }

    /// Key of a thread's pending call in this lane. Thread ids have at most 22 bits.
    #[inline(always)]
    pub const fn slot_of(self, tid: u32) -> u32 {
        tid | (self.0 as u32) << 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_share_the_ledger_of_the_heap_and_pairs_have_their_own() {
        assert_eq!(Lane::MAIN.ledger(), Lane::OPERATORS.ledger());
        assert_eq!(Lane::OPERATORS.source(), Source::Heap);
        for pair in 0..MAX_PAIRS as u8 {
            let lane = Lane::of_pair(pair);
            assert_eq!(lane.pair(), Some(pair));
            assert_eq!(lane.source().pair(), Some(pair));
            assert_ne!(lane.ledger(), 0);
            assert!(u32::from(lane.number()) < Lane::COUNT);
        }
    }

    #[test]
    fn slots_of_threads_and_lanes_do_not_collide() {
        let largest_tid = (1 << 22) - 1;
        assert_ne!(
            Lane::MAIN.slot_of(largest_tid),
            Lane::OPERATORS.slot_of(largest_tid)
        );
        assert_ne!(Lane::OPERATORS.slot_of(1), Lane::of_pair(0).slot_of(1));
    }
}

//! The table of live blocks: key and block → the words of a slot, and back. A hash map of BPF takes
//! 110 bytes of kernel memory for an entry of 40; this table takes 25, and a map what does not fit.
//! Touches no memory but its arguments'.

use crate::birth::BIRTH_SLOTS;
use crate::ledger::{LiveBlock, LiveKey};
use crate::limits::{MAX_PAIRS, MAX_PROCESSES};

/// Slots of a bucket. With a table as full as it may be, one block in seven finds its bucket full.
pub const BUCKET_SLOTS: usize = 8;

/// Word of a slot that is being filled: no key's.
pub const SLOT_CLAIMED: u64 = 1 << 63;

const ADDRESS_BITS: u32 = 48;
const LEDGER_SHIFT: u32 = 56;
const SIZE_BITS: u32 = 48;
const SITE_BITS: u32 = 24;
/// Time is kept in units of some microsecond: 50 bits of them are 36 years.
const TIME_UNIT_SHIFT: u32 = 10;
const TIME_BITS: u32 = 50;
const BIRTH_SHIFT: u32 = 58;

/// Slots with blocks whose keys have the same hash. Programs change its words atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Blocks of this bucket that are in the map instead.
    pub spilled: u64,
    /// [`LiveKey::word`] of each block; zero where a slot is free.
    pub words: [u64; BUCKET_SLOTS],
    /// The blocks.
    pub blocks: [PackedBlock; BUCKET_SLOTS],
}

/// A [`LiveBlock`] in two words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackedBlock {
    /// Bytes that the program asked for; above them, the low 16 bits of the site.
    pub size_and_site: u64,
    /// Time of the allocation; above it, the rest of the site and the slot of its birth.
    pub time_and_site: u64,
}

impl LiveKey {
    /// The key in one word, never zero; zero if it does not fit: user space ends below 48 bits, but
    /// what a pair of functions hands out may be any number.
    #[inline(always)]
    pub const fn word(&self) -> u64 {
        if self.address >> ADDRESS_BITS != 0 {
            return 0;
        }
        self.address | (self.process as u64) << ADDRESS_BITS | (self.ledger as u64) << LEDGER_SHIFT
    }

    /// The key with this word.
    pub const fn of_word(word: u64) -> Self {
        Self {
            address: word & ((1 << ADDRESS_BITS) - 1),
            process: (word >> ADDRESS_BITS) as u8 as u32,
            ledger: (word >> LEDGER_SHIFT) as u32,
        }
    }

    /// Number of its bucket, of so many. Two rounds of multiplication, because blocks lie at regular
    /// distances.
    #[inline(always)]
    pub const fn bucket(&self, buckets: u32) -> u32 {
        let owner = (self.process as u64) << ADDRESS_BITS | (self.ledger as u64) << LEDGER_SHIFT;
        let mut hash = (self.address ^ owner).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^= hash >> 32;
        hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
        (((hash >> 32) * buckets as u64) >> 32) as u32
    }
}

impl LiveBlock {
    /// Whether the block fits into a slot.
    #[inline(always)]
    pub const fn fits(&self) -> bool {
        self.size_bytes >> SIZE_BITS == 0 && self.site >> SITE_BITS == 0
    }

    /// Whether it was allocated then or later, to a microsecond.
    #[inline(always)]
    pub const fn is_since(&self, at_ns: u64) -> bool {
        self.at_ns >> TIME_UNIT_SHIFT >= at_ns >> TIME_UNIT_SHIFT
    }

    /// The block in two words; its time is rounded down to a microsecond.
    #[inline(always)]
    pub const fn pack(&self) -> PackedBlock {
        let site = self.site as u64;
        PackedBlock {
            size_and_site: self.size_bytes | site << SIZE_BITS,
            time_and_site: self.at_ns >> TIME_UNIT_SHIFT
                | (site >> 16) << TIME_BITS
                | (self.birth as u64) << BIRTH_SHIFT,
        }
    }
}

impl PackedBlock {
    /// The block.
    #[inline(always)]
    pub const fn unpack(self) -> LiveBlock {
        let low = self.size_and_site >> SIZE_BITS;
        let high = (self.time_and_site >> TIME_BITS) & 0xff;
        LiveBlock {
            size_bytes: self.size_and_site & ((1 << SIZE_BITS) - 1),
            at_ns: (self.time_and_site & ((1 << TIME_BITS) - 1)) << TIME_UNIT_SHIFT,
            site: (low | high << 16) as u32,
            birth: (self.time_and_site >> BIRTH_SHIFT) as u32,
        }
    }
}

const _: () = assert!(size_of::<Bucket>() == 200);
const _: () = assert!(MAX_PROCESSES <= 1 << (LEDGER_SHIFT - ADDRESS_BITS));
const _: () = assert!(MAX_PAIRS + 1 < 1 << (63 - LEDGER_SHIFT));
const _: () = assert!(BIRTH_SLOTS <= 1 << (64 - BIRTH_SHIFT));
const _: () = assert!(SIZE_BITS + 16 == 64 && TIME_BITS + SITE_BITS - 16 == BIRTH_SHIFT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_comes_back_whole() {
        let block = LiveBlock {
            size_bytes: (1 << 48) - 1,
            at_ns: 0x0ab_cdef_0123_4400,
            site: 0x00ab_cdef,
            birth: 63,
        };
        assert!(block.fits());
        assert_eq!(block.pack().unpack(), block);
        let key = LiveKey::new(255, MAX_PAIRS, 0x7fff_ffff_fff0);
        assert_eq!(LiveKey::of_word(key.word()), key);
        assert!(key.word() < SLOT_CLAIMED);
    }

    #[test]
    fn what_does_not_fit_is_known() {
        assert_eq!(LiveKey::new(0, 0, 1 << 48).word(), 0);
        let block = LiveBlock::default();
        let large = LiveBlock {
            size_bytes: 1 << 48,
            ..block
        };
        let late = LiveBlock {
            site: 1 << 24,
            ..block
        };
        assert!(block.fits() && !large.fits() && !late.fits());
    }

    #[test]
    fn a_block_is_never_said_to_be_older_than_it_is() {
        for at_ns in [0, 1, 1023, 1024, 1 << 40] {
            let block = LiveBlock {
                at_ns: at_ns + 5,
                ..LiveBlock::default()
            };
            assert!(block.pack().unpack().is_since(at_ns));
            assert!(!block.pack().unpack().is_since(at_ns + 1100));
        }
    }

    #[test]
    fn blocks_at_regular_distances_spread_like_chance() {
        let buckets = 4096;
        for distance in [16, 32, 48, 1040, 4096, 65536, 1 << 20] {
            let mut held = [0_u32; 4096];
            for block in 0..u64::from(buckets) * 8 {
                let key = LiveKey::new(3, 0, 0x7f12_3400_0010 + block * distance);
                held[key.bucket(buckets) as usize] += 1;
            }
            let spilled: u32 = held.iter().map(|held| held.saturating_sub(8)).sum();
            let share = f64::from(spilled) / f64::from(buckets * 8);
            assert!(share < 0.155, "{share} of blocks {distance} apart");
        }
    }
}

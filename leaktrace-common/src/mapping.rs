//! The executable mappings of a process, sorted, as the stack walk searches them.

use crate::limits::MAX_MAPPINGS;

/// The executable mappings of one process. User space writes a whole table and then flips
/// [`crate::process::ProcessState::mapping_table`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingTable {
    /// Mappings in the table.
    pub count: u64,
    /// First address of each mapping, ascending.
    pub starts: [u64; MAX_MAPPINGS],
    /// First address behind each mapping.
    pub ends: [u64; MAX_MAPPINGS],
    /// Address of the first block of the unwind table of each mapping's object.
    pub bases: [u64; MAX_MAPPINGS],
    /// A [`TableRef`] for each mapping.
    pub tables: [u64; MAX_MAPPINGS],
}

impl MappingTable {
    /// A table without mappings.
    pub const EMPTY: Self = Self {
        count: 0,
        starts: [0; MAX_MAPPINGS],
        ends: [0; MAX_MAPPINGS],
        bases: [0; MAX_MAPPINGS],
        tables: [0; MAX_MAPPINGS],
    };
}

/// Where the unwind table of a mapping is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct TableRef(pub u64);

impl TableRef {
    /// There is no unwind information for the mapping: code made at run time, or built without.
    pub const NONE: Self = Self(0);

    /// There will be a table; it is being made.
    pub const PENDING: Self = Self(u64::MAX);

    /// A table of so many blocks whose index begins in this chunk, which is not chunk 0.
    pub const fn new(chunk: u32, blocks: u32) -> Self {
        Self(chunk as u64 | (blocks as u64) << 32)
    }

    /// First chunk of the block index.
    #[inline(always)]
    pub const fn chunk(self) -> u32 {
        self.0 as u32
    }

    /// Blocks that the table covers.
    #[inline(always)]
    pub const fn blocks(self) -> u64 {
        self.0 >> 32
    }
}

/// Index of the last mapping that starts at or below `address`; 0 when there is none, so the
/// caller has to compare with the mapping's start and end.
#[inline(always)]
pub fn search(table: &MappingTable, address: u64) -> usize {
    // Most processes have few mappings with code, and each step waits for the one before.
    match table.count > FEW_MAPPINGS {
        true => search_from(table, address, MAX_MAPPINGS as u64 / 2),
        false => search_from(table, address, FEW_MAPPINGS / 2),
    }
}

const FEW_MAPPINGS: u64 = 16;

/// Steps without a branch on data: a branch would make the verifier follow 2^10 paths. Two sign
/// bits are combined because LLVM turns the test of a single one back into a branch.
#[inline(always)]
fn search_from(table: &MappingTable, address: u64, first_step: u64) -> usize {
    // Hidden, because LLVM would see that the steps have no bit in common and turn `+` into `|`,
    // after which the verifier knows no bounds (Linux 6.1; its `|` takes constants only).
    let mut at = core::hint::black_box(0u64);
    let mut step = first_step;
    while step > 0 {
        let candidate = (at + step) & (MAX_MAPPINGS as u64 - 1);
        // Negative, top bit 1, exactly if candidate < count, and exactly if start <= address.
        let exists = candidate.wrapping_sub(table.count);
        let below = table.starts[candidate as usize]
            .wrapping_sub(address)
            .wrapping_sub(1);
        at += ((exists & below) >> 63) * step;
        step /= 2;
    }
    (at & (MAX_MAPPINGS as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(mappings: &[(u64, u64)]) -> MappingTable {
        let mut table = MappingTable::EMPTY;
        for (i, (start, end)) in mappings.iter().enumerate() {
            table.starts[i] = *start;
            table.ends[i] = *end;
        }
        table.count = mappings.len() as u64;
        table
    }

    fn contains(table: &MappingTable, address: u64) -> bool {
        let i = search(table, address);
        address >= table.starts[i] && address < table.ends[i]
    }

    #[test]
    fn finds_exactly_the_addresses_inside_for_every_table_length() {
        extern crate std;
        let all: std::vec::Vec<(u64, u64)> = (0..MAX_MAPPINGS as u64)
            .map(|i| (0x1000 + i * 0x3000, 0x2000 + i * 0x3000))
            .collect();
        for length in [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 511, 512, 513, 1023, 1024] {
            let table = table(&all[..length]);
            for (i, (start, end)) in all.iter().enumerate() {
                let inside = i < length;
                assert_eq!(contains(&table, *start), inside);
                assert_eq!(contains(&table, *end - 1), inside);
                assert!(!contains(&table, *end));
                assert!(!contains(&table, *start - 1));
            }
        }
    }

    #[test]
    fn addresses_above_the_canonical_half_are_outside() {
        let table = table(&[(0x1000, 0x2000)]);
        assert!(!contains(&table, u64::MAX));
        assert!(!contains(&table, 1 << 63));
        assert!(!contains(&table, 0));
    }
}

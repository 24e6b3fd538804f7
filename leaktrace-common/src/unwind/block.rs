//! Blocks of text, chunks of rows, and the search for the row of an address.

use super::row::Row;

/// Bytes of text that a block covers: what the place in a row can tell apart.
pub const BLOCK_BYTES: u64 = 256;

/// Bytes of a chunk, the unit in which tables lie in kernel memory.
pub const CHUNK_BYTES: usize = 1024;

/// Rows that fit into a chunk; as many as a block can have.
pub const CHUNK_ROWS: usize = CHUNK_BYTES / 4;

/// Entries of a block index that fit into a chunk.
pub const CHUNK_BLOCKS: usize = CHUNK_BYTES / 8;

/// A chunk: rows, or a piece of a block index with two halves an entry, the lower one first.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Rows.
    pub rows: [Row; CHUNK_ROWS],
}

impl Chunk {
    /// A chunk that says nothing.
    pub const EMPTY: Self = Self {
        rows: [Row::NO_INFO; CHUNK_ROWS],
    };

    /// The n-th row.
    #[inline(always)]
    pub const fn row(&self, n: u64) -> Row {
        self.rows[n as usize & (CHUNK_ROWS - 1)]
    }

    /// The n-th entry of a piece of a block index.
    #[inline(always)]
    pub const fn block(&self, n: u64) -> Block {
        let low = self.row(n * 2).0 as u64;
        let high = self.row(n * 2 + 1).0 as u64;
        Block(low | high << 32)
    }

    /// Writes the n-th entry of a piece of a block index.
    pub const fn set_block(&mut self, n: usize, block: Block) {
        self.rows[n * 2] = Row(block.0 as u32);
        self.rows[n * 2 + 1] = Row((block.0 >> 32) as u32);
    }
}

/// An entry of a block index: the block's only row, or where its rows are. Zero: no information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Block(pub u64);

const ONE_ROW: u64 = 1 << 63;

impl Block {
    /// A block with one rule.
    pub const fn of_row(row: Row) -> Self {
        Self(ONE_ROW | row.0 as u64)
    }

    /// A block whose `count` rows begin at the `first` row of a chunk.
    pub const fn of_rows(chunk: u32, first: u8, count: u16) -> Self {
        Self(chunk as u64 | (first as u64) << 32 | (count as u64) << 40)
    }

    /// Its row, if it has just one.
    #[inline(always)]
    pub const fn only_row(self) -> Option<Row> {
        if self.0 & ONE_ROW != 0 {
            return Some(Row(self.0 as u32));
        }
        None
    }

    /// Chunk that has its rows.
    #[inline(always)]
    pub const fn chunk(self) -> u32 {
        self.0 as u32
    }

    /// First of its rows in the chunk.
    #[inline(always)]
    pub const fn first(self) -> u64 {
        self.0 >> 32 & 0xff
    }

    /// How many rows it has.
    #[inline(always)]
    pub const fn count(self) -> u64 {
        self.0 >> 40 & 0x1ff
    }

    /// The same block when its chunk lies `chunks` further on.
    #[must_use]
    pub const fn moved(self, chunks: u32) -> Self {
        if self.0 == 0 || self.only_row().is_some() {
            return self;
        }
        Self(self.0 + chunks as u64)
    }
}

/// The row of a block that holds at this place (0 to 255): the last one at or before it. The first
/// row of a block is at place 0.
#[inline(always)]
pub fn find(chunk: &Chunk, block: Block, place: u32) -> Row {
    // Most blocks have few rows, and each step waits for the one before.
    match block.count() > FEW_ROWS {
        true => find_from(chunk, block, place, CHUNK_ROWS as u64 / 2),
        false => find_from(chunk, block, place, FEW_ROWS / 2),
    }
}

const FEW_ROWS: u64 = 16;

/// Steps without a branch on data, as in [`crate::mapping::search`].
#[inline(always)]
fn find_from(chunk: &Chunk, block: Block, place: u32, first_step: u64) -> Row {
    let (first, count) = (block.first(), block.count());
    let mut at = 0u64;
    let mut step = first_step;
    while step > 0 {
        let candidate = at + step;
        // Negative, top bit 1, exactly if candidate < count, and exactly if it is not behind.
        let exists = candidate.wrapping_sub(count);
        let row = chunk.row(first + candidate);
        let before = u64::from(row.place())
            .wrapping_sub(u64::from(place))
            .wrapping_sub(1);
        at += ((exists & before) >> 63) * step;
        step /= 2;
    }
    chunk.row(first + at)
}

#[cfg(test)]
mod tests {
    use super::super::row::RowKind;
    use super::*;

    fn rule(value: u32) -> Row {
        Row::new(RowKind::StackPointer, value, 0).unwrap_or_default()
    }

    #[test]
    fn every_place_finds_the_last_row_before_it() {
        for count in [1usize, 2, 3, 7, 8, 9, 15, 16, 17, 100, 128, 255, 256] {
            let gap = CHUNK_ROWS / count;
            for first in [0, (CHUNK_ROWS - count) / 2, CHUNK_ROWS - count] {
                let mut chunk = Chunk::EMPTY;
                for n in 0..CHUNK_ROWS {
                    chunk.rows[n] = rule(9999);
                }
                for n in 0..count {
                    chunk.rows[first + n] = rule(n as u32).at((n * gap) as u8);
                }
                let block = Block::of_rows(5, first as u8, count as u16);
                for place in 0..256u32 {
                    let wanted = (place as usize / gap).min(count - 1);
                    assert_eq!(find(&chunk, block, place).value(), wanted as u32);
                }
            }
        }
    }

    #[test]
    fn a_block_tells_where_its_rows_are() {
        let block = Block::of_rows(0x00ab_cdef, 255, 256);
        assert_eq!(block.only_row(), None);
        assert_eq!(
            (block.chunk(), block.first(), block.count()),
            (0x00ab_cdef, 255, 256)
        );
        assert_eq!(block.moved(1).chunk(), 0x00ab_cdf0);
        assert_eq!((block.moved(1).first(), block.moved(1).count()), (255, 256));
    }

    #[test]
    fn an_index_holds_whole_blocks() {
        let mut chunk = Chunk::EMPTY;
        let block = Block::of_rows(0x00ab_cdef, 255, 256);
        chunk.set_block(CHUNK_BLOCKS - 1, block);
        assert_eq!(chunk.block(CHUNK_BLOCKS as u64 - 1), block);
        assert_eq!(chunk.block(0), Block(0));
    }

    #[test]
    fn one_row_needs_no_chunk() {
        let block = Block::of_row(rule(3).hidden());
        assert_eq!(block.only_row(), Some(rule(3).hidden()));
        assert_eq!(block.moved(77), block);
        assert_eq!(Block(0).moved(77), Block(0));
    }
}

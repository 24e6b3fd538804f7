//! Turns rows by address into the table of an object: a block index and chunks of rows, as they
//! will lie in kernel memory but for where they begin.

use std::collections::HashSet;
use std::ops::Range;

use leaktrace_common::unwind::{
    BLOCK_BYTES, Block, CHUNK_BLOCKS, CHUNK_BYTES, CHUNK_ROWS, Chunk, Row,
};

use super::rules::{RareRules, Rules, read};

/// Code that spans more is left out: its index alone would take 32 MiB.
const MAX_SPAN_BYTES: u64 = 1 << 30;

/// The unwind table of an object.
#[derive(Clone, Debug)]
pub struct Table {
    /// Address (svma) of the first block.
    pub start: u64,
    /// One entry a block. Chunks are counted from the first one of `chunks`.
    pub index: Vec<Block>,
    /// The rows.
    pub chunks: Vec<Chunk>,
    /// Rows in them.
    pub rows: u64,
    /// Rows whose rule cannot be followed.
    pub unsupported: u64,
}

impl Table {
    /// The table for code at these addresses (svma) by this .eh_frame section, given by its
    /// address and its bytes. Functions that begin at a `hidden` address are no frames of their
    /// own. `None` when the section says nothing about the code. `rules` is memory to work in.
    pub fn new(
        section: (u64, &[u8]),
        code: &[Range<u64>],
        hidden: &HashSet<u64>,
        rare: &mut RareRules,
        rules: &mut Rules,
    ) -> Option<Self> {
        let start = code.iter().map(|code| code.start).min()? / BLOCK_BYTES * BLOCK_BYTES;
        let end = code.iter().map(|code| code.end).max()?;
        if end <= start || end - start > MAX_SPAN_BYTES {
            return None;
        }
        read(section, (start, code), hidden, rare, rules);
        if rules.rows.is_empty() {
            return None;
        }
        Some(Layout::new(start, end).table(rules))
    }

    /// Chunks that the index takes.
    pub fn index_chunks(&self) -> usize {
        self.index.len().div_ceil(CHUNK_BLOCKS)
    }

    /// Bytes of kernel memory that the table takes.
    pub fn size_bytes(&self) -> u64 {
        ((self.index_chunks() + self.chunks.len()) * CHUNK_BYTES) as u64
    }
}

struct Layout {
    start: u64,
    blocks: u64,
    index: Vec<Block>,
    chunks: Vec<Chunk>,
    /// Rows in the last chunk.
    used: usize,
    rows: u64,
}

impl Layout {
    fn new(start: u64, end: u64) -> Self {
        Self {
            start,
            blocks: (end - start).div_ceil(BLOCK_BYTES),
            index: Vec::new(),
            chunks: Vec::new(),
            used: CHUNK_ROWS,
            rows: 0,
        }
    }

    fn table(mut self, rules: &Rules) -> Table {
        let mut rest = rules.rows.iter().copied().peekable();
        let mut holds = Row::NO_INFO;
        let mut of_block: Vec<Row> = Vec::with_capacity(CHUNK_ROWS);
        for number in 0..self.blocks {
            let start = number * BLOCK_BYTES;
            let end = start + BLOCK_BYTES;
            of_block.clear();
            of_block.push(holds.at(0));
            while let Some((from, row)) = rest.next_if(|(from, _)| u64::from(*from) < end) {
                let place = u64::from(from).saturating_sub(start) as u8;
                match of_block.last_mut() {
                    Some(last) if last.at(0) == row.at(0) => {}
                    Some(last) if last.place() == u32::from(place) => *last = row.at(place),
                    _ => of_block.push(row.at(place)),
                }
                holds = row;
            }
            let block = self.place(&of_block);
            self.index.push(block);
        }
        Table {
            start: self.start,
            index: self.index,
            chunks: self.chunks,
            rows: self.rows,
            unsupported: rules.unsupported,
        }
    }

    fn place(&mut self, rows: &[Row]) -> Block {
        self.rows += rows.len() as u64;
        if let [row] = rows {
            return match *row == Row::NO_INFO {
                true => Block::default(),
                false => Block::of_row(*row),
            };
        }
        if self.used + rows.len() > CHUNK_ROWS {
            self.chunks.push(Chunk::EMPTY);
            self.used = 0;
        }
        let number = self.chunks.len() - 1;
        let first = self.used;
        for row in rows {
            self.chunks[number].rows[self.used] = *row;
            self.used += 1;
        }
        // Numbers fit: the span is limited, a chunk has 256 rows.
        Block::of_rows(number as u32, first as u8, rows.len() as u16)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "table_tests.rs"]
mod tests;

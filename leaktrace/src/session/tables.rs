//! Puts unwind tables into kernel memory, once for each object, and knows which mapping needs which.

use std::collections::HashMap;
use std::io;

use aya::maps::MapData;
use leaktrace_common::mapping::TableRef;
use leaktrace_common::unwind::{BLOCK_BYTES, Block, CHUNK_BLOCKS, Chunk, RareRule, Row, find};

use super::array::MappedArray;
use super::shards::{Shards, TableError};
use crate::target::{FileId, Mapping, Object, Segments};
use crate::unwind::{Built, identity};

/// The unwind tables of a session.
pub(super) struct Tables {
    shards: Shards,
    rare: MappedArray<RareRule>,
    /// Chunks in use. The first is none, so that its number can mean "no table".
    used: u32,
    placed: HashMap<FileId, Placed>,
    unsupported: u64,
}

/// What is known of an object.
enum Placed {
    /// Its table is being made, from a file of so many bytes.
    Pending(u64),
    /// No process could be asked for its file so far.
    Unreadable,
    /// It says nothing about its frames.
    Nothing,
    /// Its table is in place.
    Table(InPlace),
}

struct InPlace {
    segments: Segments,
    /// Address (svma) of the first block.
    start: u64,
    reference: TableRef,
    /// An inode that nobody holds open can be given to another file.
    _object: Option<Object>,
}

impl Tables {
    /// No tables, to be put into these maps.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub(super) fn new(outer: &MapData, rare: MappedArray<RareRule>) -> io::Result<Self> {
        Ok(Self {
            shards: Shards::new(outer)?,
            rare,
            used: 1,
            placed: HashMap::new(),
            unsupported: 0,
        })
    }

    /// Notes that a table is being made; `false` when that was known.
    pub(super) fn expect(&mut self, id: FileId, file_bytes: u64) -> bool {
        let is_new = matches!(self.placed.get(&id), None | Some(Placed::Unreadable));
        if is_new {
            self.placed.insert(id, Placed::Pending(file_bytes));
        }
        is_new
    }

    /// Notes that a file cannot be read: code of it is like code that was made at run time, until a
    /// table of it is there after all.
    pub(super) fn expect_nothing(&mut self, id: FileId) {
        self.placed.entry(id).or_insert(Placed::Unreadable);
    }

    /// Bytes of the smallest file of which a table is being made; absent when none is.
    pub(super) fn smallest_pending(&self) -> Option<u64> {
        let pending = self.placed.values().filter_map(|placed| match placed {
            Placed::Pending(file_bytes) => Some(*file_bytes),
            _ => None,
        });
        pending.min()
    }

    /// Bytes of kernel memory that the tables take.
    pub(super) fn size_bytes(&self) -> u64 {
        self.shards.size_bytes()
    }

    /// Rows whose rule cannot be followed.
    pub(super) fn unsupported_rows(&self) -> u64 {
        self.unsupported
    }

    /// Where the table for a mapping is, and the address of its first block in the process.
    pub(super) fn of(&self, mapping: &Mapping) -> (u64, TableRef) {
        let placed = identity(mapping).and_then(|id| self.placed.get(&id));
        match placed {
            // A file that nobody has asked for yet: code that was mapped a moment ago.
            None if mapping.file.is_some() => (0, TableRef::PENDING),
            None | Some(Placed::Nothing | Placed::Unreadable) => (0, TableRef::NONE),
            Some(Placed::Pending(_)) => (0, TableRef::PENDING),
            Some(Placed::Table(table)) => match table.segments.bias(mapping) {
                Some(bias) => (bias.wrapping_add(table.start), table.reference),
                None => (0, TableRef::NONE),
            },
        }
    }

    /// The row for an address in a process, by a table as [`Tables::of`] tells it: what the programs
    /// do with it.
    pub(super) fn row(&self, base: u64, table: TableRef, address: u64) -> Row {
        let number = address.wrapping_sub(base) / BLOCK_BYTES;
        if number >= table.blocks() {
            return Row::NO_INFO;
        }
        let in_chunk = number % CHUNK_BLOCKS as u64;
        let chunk = (number / CHUNK_BLOCKS as u64) as u32;
        let Some(index) = self.shards.read(table.chunk() + chunk) else {
            return Row::NO_INFO;
        };
        let block = index.block(in_chunk);
        if let Some(row) = block.only_row() {
            return row;
        }
        match self.shards.read(block.chunk()) {
            Some(rows) if block.count() > 0 => find(rows, block, (address % BLOCK_BYTES) as u32),
            _ => Row::NO_INFO,
        }
    }

    /// The rule that a row of kind `Rare` names.
    pub(super) fn rare_rule(&self, index: u32) -> RareRule {
        self.rare.read(index as usize)
    }

    /// Puts a table in place.
    ///
    /// # Errors
    ///
    /// When there is no room: the object then counts as one that says nothing about its frames.
    pub(super) fn place(&mut self, built: Built) -> Result<(), TableError> {
        let id = built.id;
        let placed = self.place_if_it_fits(built);
        if placed.is_err() {
            self.placed.insert(id, Placed::Nothing);
        }
        placed
    }

    fn place_if_it_fits(&mut self, built: Built) -> Result<(), TableError> {
        for (index, rule) in &built.rare {
            self.rare.update(*index as usize, |place| *place = *rule);
        }
        let Some(table) = built.table else {
            self.placed.insert(built.id, Placed::Nothing);
            return Ok(());
        };
        let first = self.used;
        let index_chunks = u32::try_from(table.index_chunks()).map_err(|_| TableError::Full)?;
        let row_chunks = u32::try_from(table.chunks.len()).map_err(|_| TableError::Full)?;
        let blocks = u32::try_from(table.index.len()).map_err(|_| TableError::Full)?;
        self.shards.reserve(first + index_chunks + row_chunks)?;
        for (number, blocks) in (first..).zip(table.index.chunks(CHUNK_BLOCKS)) {
            self.shards
                .write(number, &index_chunk(blocks, first + index_chunks));
        }
        for (number, chunk) in (first + index_chunks..).zip(&table.chunks) {
            self.shards.write(number, chunk);
        }
        self.used = first + index_chunks + row_chunks;
        self.unsupported += table.unsupported;
        let table = InPlace {
            segments: built.segments,
            start: table.start,
            reference: TableRef::new(first, blocks),
            _object: built.object,
        };
        debug_assert_eq!(table.start % BLOCK_BYTES, 0);
        self.placed.insert(built.id, Placed::Table(table));
        Ok(())
    }
}

/// A piece of a block index, with chunks counted from the first of all.
fn index_chunk(blocks: &[Block], rows_begin: u32) -> Chunk {
    let mut chunk = Chunk::EMPTY;
    for (number, block) in blocks.iter().enumerate() {
        chunk.set_block(number, block.moved(rows_begin));
    }
    chunk
}

//! Puts unwind tables into kernel memory: chunks in inner maps of a fixed size, which are created
//! as they are needed and mapped here, so that a table is copied without a system call.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use aya::maps::MapData;
use aya_obj::generated::{bpf_cmd, bpf_map_type};
use leaktrace_common::limits::{MAX_SHARDS, SHARD_CHUNKS};
use leaktrace_common::mapping::TableRef;
use leaktrace_common::unwind::{
    BLOCK_BYTES, Block, CHUNK_BLOCKS, CHUNK_BYTES, Chunk, RareRule, Row, find,
};

use super::array::MappedArray;
use super::syscall::{bpf, bpf_fd, no_attributes};
use crate::target::{FileId, Mapping, Object, Segments};
use crate::unwind::{Built, identity};

/// Inner maps that are made before they are needed.
const SPARE_SHARDS: u32 = 2;

/// Inner maps that are entered into the outer one at once; each needs a descriptor meanwhile.
const SHARDS_AT_ONCE: usize = 128;

const SHARD_BYTES: usize = SHARD_CHUNKS as usize * CHUNK_BYTES;

/// Why a table could not be put in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    /// All inner maps are in use.
    #[error("there is no room for more unwind tables")]
    Full,
    /// The kernel gave no memory.
    #[error("the kernel refused memory for unwind tables: {0}")]
    Refused(#[source] io::Error),
}

/// The unwind tables of a session.
pub(super) struct Tables {
    /// The map of the inner maps.
    outer: OwnedFd,
    rare: MappedArray<RareRule>,
    shards: Vec<Shard>,
    /// Chunks in use. The first is none, so that its number can mean "no table".
    used: u32,
    placed: HashMap<FileId, Placed>,
    unsupported: u64,
}

/// What is known of an object.
enum Placed {
    /// Its table is being made.
    Pending,
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
            outer: outer.fd().as_fd().try_clone_to_owned()?,
            rare,
            shards: Vec::new(),
            used: 1,
            placed: HashMap::new(),
            unsupported: 0,
        })
    }

    /// Notes that a table is being made; `false` when that was known.
    pub(super) fn expect(&mut self, id: FileId) -> bool {
        if self.placed.contains_key(&id) {
            return false;
        }
        self.placed.insert(id, Placed::Pending);
        true
    }

    /// Whether tables are being made.
    pub(super) fn is_waiting(&self) -> bool {
        self.placed
            .values()
            .any(|placed| matches!(placed, Placed::Pending))
    }

    /// Bytes of kernel memory that the tables take.
    pub(super) fn size_bytes(&self) -> u64 {
        (self.shards.len() * SHARD_BYTES) as u64
    }

    /// Rows whose rule cannot be followed.
    pub(super) fn unsupported_rows(&self) -> u64 {
        self.unsupported
    }

    /// Where the table for a mapping is, and the address of its first block in the process.
    pub(super) fn of(&self, mapping: &Mapping) -> (u64, TableRef) {
        let placed = identity(mapping).and_then(|id| self.placed.get(&id));
        match placed {
            None | Some(Placed::Nothing) => (0, TableRef::NONE),
            Some(Placed::Pending) => (0, TableRef::PENDING),
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
        let Some(index) = self.read(table.chunk() + chunk) else {
            return Row::NO_INFO;
        };
        let block = index.block(in_chunk);
        if let Some(row) = block.only_row() {
            return row;
        }
        match self.read(block.chunk()) {
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
    /// When there is no room: the object's table then stays missing.
    pub(super) fn place(&mut self, built: Built) -> Result<(), TableError> {
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
        self.reserve(first + index_chunks + row_chunks)?;
        for (number, blocks) in (first..).zip(table.index.chunks(CHUNK_BLOCKS)) {
            self.write(number, &index_chunk(blocks, first + index_chunks));
        }
        for (number, chunk) in (first + index_chunks..).zip(&table.chunks) {
            self.write(number, chunk);
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

    /// Makes room for chunks below `end`, and for a few more: new inner maps cost time.
    fn reserve(&mut self, end: u32) -> Result<(), TableError> {
        let there = self.shards.len() as u32;
        let needed = end.div_ceil(SHARD_CHUNKS);
        if needed > MAX_SHARDS {
            return Err(TableError::Full);
        }
        if needed <= there {
            return Ok(());
        }
        let numbers: Vec<u32> = (there..(needed + SPARE_SHARDS).min(MAX_SHARDS)).collect();
        for numbers in numbers.chunks(SHARDS_AT_ONCE) {
            let new: io::Result<Vec<_>> = numbers.iter().map(|_| Shard::create()).collect();
            let new = new.map_err(TableError::Refused)?;
            // The outer map keeps the inner ones alive without their descriptors.
            let (fds, shards): (Vec<_>, Vec<_>) = new.into_iter().unzip();
            self.publish(numbers, &fds).map_err(TableError::Refused)?;
            self.shards.extend(shards);
        }
        Ok(())
    }

    /// Enters inner maps into the outer one, all at once: each such call waits until no program
    /// runs that could use what was there before, some 10 ms.
    fn publish(&self, keys: &[u32], shards: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<u32> = shards
            .iter()
            .map(|fd| fd.as_raw_fd().cast_unsigned())
            .collect();
        let mut attributes = no_attributes();
        // SAFETY: writing one variant of a union of integer structs.
        let batch = unsafe { &mut attributes.batch };
        batch.map_fd = self.outer.as_raw_fd().cast_unsigned();
        batch.keys = keys.as_ptr() as u64;
        batch.values = fds.as_ptr() as u64;
        batch.count = keys.len() as u32;
        match bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attributes) {
            Ok(_) => Ok(()),
            // Kernels that do not know this for maps of maps.
            Err(_) => keys
                .iter()
                .zip(&fds)
                .try_for_each(|(key, fd)| self.publish_one(*key, *fd)),
        }
    }

    fn publish_one(&self, number: u32, fd: u32) -> io::Result<()> {
        let mut attributes = no_attributes();
        // SAFETY: writing one variant of a union of integer structs.
        let update = unsafe { &mut attributes.__bindgen_anon_2 };
        update.map_fd = self.outer.as_raw_fd().cast_unsigned();
        update.key = (&raw const number) as u64;
        update.__bindgen_anon_1.value = (&raw const fd) as u64;
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attributes).map(drop)
    }

    fn read(&self, number: u32) -> Option<&Chunk> {
        let shard = self.shards.get((number / SHARD_CHUNKS) as usize)?;
        let place = (number % SHARD_CHUNKS) as usize;
        // SAFETY: the place is inside the mapping; a chunk that is in use is not written any more,
        // and programs write none.
        Some(unsafe { shard.start.add(place).as_ref() })
    }

    fn write(&mut self, number: u32, chunk: &Chunk) {
        if let Some(shard) = self.shards.get_mut((number / SHARD_CHUNKS) as usize) {
            shard.write((number % SHARD_CHUNKS) as usize, chunk);
        }
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

/// An inner map, mapped.
struct Shard {
    start: NonNull<Chunk>,
}

impl Shard {
    fn create() -> io::Result<(OwnedFd, Self)> {
        const BPF_F_MMAPABLE: u32 = 1 << 10;
        let mut attributes = no_attributes();
        // SAFETY: writing one variant of a union of integer structs.
        let create = unsafe { &mut attributes.__bindgen_anon_1 };
        create.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        create.key_size = size_of::<u32>() as u32;
        create.value_size = CHUNK_BYTES as u32;
        create.max_entries = SHARD_CHUNKS;
        create.map_flags = BPF_F_MMAPABLE;
        let fd = bpf_fd(bpf_cmd::BPF_MAP_CREATE, &mut attributes)?;
        let start = map(fd.as_fd())?;
        Ok((fd, Self { start }))
    }

    fn write(&mut self, place: usize, chunk: &Chunk) {
        if place < SHARD_CHUNKS as usize {
            // SAFETY: the place is inside the mapping, which only this process writes; programs
            // read it once a mapping refers to it, which is a system call later.
            unsafe { self.start.as_ptr().add(place).write(*chunk) };
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), SHARD_BYTES) };
    }
}

fn map(fd: BorrowedFd<'_>) -> io::Result<NonNull<Chunk>> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SHARD_BYTES,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            fd.as_raw_fd(),
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)
}

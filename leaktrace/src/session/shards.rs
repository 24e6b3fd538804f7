//! Kernel memory for unwind tables: chunks in inner maps of one size, which are created as they are
//! needed and mapped here, so that a table is copied without a system call.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use aya::maps::MapData;
use aya_obj::generated::{bpf_cmd, bpf_map_type};
use leaktrace_common::limits::{MAX_SHARDS, SHARD_CHUNKS};
use leaktrace_common::unwind::{CHUNK_BYTES, Chunk};

use super::described::Described;
use super::syscall::{bpf, bpf_fd, no_attributes};

/// Inner maps that are made before they are needed.
const SPARE_SHARDS: u32 = 2;

/// Inner maps that are entered into the outer one at once; each needs a descriptor meanwhile.
const SHARDS_AT_ONCE: usize = 192;

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

/// The inner maps of a session.
pub(super) struct Shards {
    /// The map of the inner maps.
    outer: OwnedFd,
    described: Described,
    list: Vec<Shard>,
}

impl Shards {
    /// No inner maps, to be entered into this one.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left, or the kernel does not take the description of a chunk.
    pub(super) fn new(outer: &MapData) -> io::Result<Self> {
        Ok(Self {
            outer: outer.fd().as_fd().try_clone_to_owned()?,
            described: Described::load()?,
            list: Vec::new(),
        })
    }

    /// Bytes of kernel memory that they take.
    pub(super) fn size_bytes(&self) -> u64 {
        (self.list.len() * SHARD_BYTES) as u64
    }

    /// Makes room for chunks below `end`, and for a few more: new inner maps cost time.
    ///
    /// # Errors
    ///
    /// When the kernel gives no more.
    pub(super) fn reserve(&mut self, end: u32) -> Result<(), TableError> {
        let there = self.list.len() as u32;
        let needed = end.div_ceil(SHARD_CHUNKS);
        if needed > MAX_SHARDS {
            return Err(TableError::Full);
        }
        if needed <= there {
            return Ok(());
        }
        let numbers: Vec<u32> = (there..(needed + SPARE_SHARDS).min(MAX_SHARDS)).collect();
        for numbers in numbers.chunks(SHARDS_AT_ONCE) {
            let new: io::Result<Vec<_>> = numbers
                .iter()
                .map(|_| Shard::create(&self.described))
                .collect();
            let new = new.map_err(TableError::Refused)?;
            // The outer map keeps the inner ones alive without their descriptors.
            let (fds, shards): (Vec<_>, Vec<_>) = new.into_iter().unzip();
            self.publish(numbers, &fds).map_err(TableError::Refused)?;
            self.list.extend(shards);
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

    /// A chunk; `None` when there is no room for it.
    pub(super) fn read(&self, number: u32) -> Option<&Chunk> {
        let shard = self.list.get((number / SHARD_CHUNKS) as usize)?;
        let place = (number % SHARD_CHUNKS) as usize;
        // SAFETY: the place is inside the mapping; a chunk that is in use is not written any more,
        // and programs write none.
        Some(unsafe { shard.start.add(place).as_ref() })
    }

    /// Fills a chunk that is not in use yet.
    pub(super) fn write(&mut self, number: u32, chunk: &Chunk) {
        if let Some(shard) = self.list.get_mut((number / SHARD_CHUNKS) as usize) {
            shard.write((number % SHARD_CHUNKS) as usize, chunk);
        }
    }
}

/// An inner map, mapped.
struct Shard {
    start: NonNull<Chunk>,
}

impl Shard {
    fn create(described: &Described) -> io::Result<(OwnedFd, Self)> {
        const BPF_F_MMAPABLE: u32 = 1 << 10;
        let mut attributes = no_attributes();
        // SAFETY: writing one variant of a union of integer structs.
        let create = unsafe { &mut attributes.__bindgen_anon_1 };
        create.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
        create.key_size = size_of::<u32>() as u32;
        create.value_size = CHUNK_BYTES as u32;
        create.max_entries = SHARD_CHUNKS;
        create.map_flags = BPF_F_MMAPABLE;
        described.describe(&mut attributes);
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

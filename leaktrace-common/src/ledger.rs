//! The ledger of live allocations: keys and values of the maps that hold it.

use crate::birth::BIRTH_SLOTS;

/// Key of the map of live allocations: a block of one process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LiveKey {
    /// Address of the block, as the allocation function returned it.
    pub address: u64,
    /// Index of the process in the process table; addresses of two processes collide.
    pub process: u32,
    /// Number of the ledger, see [`crate::lane::Lane::ledger`]: a block can be one of the heap's
    /// and one of a pool's at the same time.
    pub ledger: u32,
}

impl LiveKey {
    /// Key of the block at `address` in this ledger of the process with this index.
    #[inline(always)]
    pub const fn new(process: u32, ledger: u32, address: u64) -> Self {
        Self {
            address,
            process,
            ledger,
        }
    }
}

/// Value of the map of live allocations.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveBlock {
    /// Bytes that the program asked for.
    pub size_bytes: u64,
    /// Time of the allocation, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Index of the site that allocated it.
    pub site: u32,
    /// Slot of its time of birth, see [`crate::birth`].
    pub birth: u32,
}

/// Live bytes of one site by time of birth; written with atomic adds only.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteBirths {
    /// By slot, see [`crate::birth`].
    pub live_bytes: [u64; BIRTH_SLOTS],
}

impl Default for SiteBirths {
    fn default() -> Self {
        Self {
            live_bytes: [0; BIRTH_SLOTS],
        }
    }
}

/// What one site has allocated and freed since the start; written with atomic adds only. Readers
/// read the freed side first, so that live (allocated - freed) is never negative.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SiteTotals {
    /// Bytes allocated since the start.
    pub allocated_bytes: u64,
    /// Blocks allocated since the start.
    pub allocated_count: u64,
    /// Bytes of these blocks that were freed again.
    pub freed_bytes: u64,
    /// Blocks of these that were freed again.
    pub freed_count: u64,
}

/// A thread's outermost allocation call that has not returned yet. One slot a thread, kept and
/// overwritten, because inserting and deleting a map entry costs eight times a look-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingCall {
    /// Stack pointer at entry: the word there was the return address. Zero when no call is under way.
    pub stack_pointer: u64,
    /// Return address that stood there, before the kernel put its trampoline in place.
    pub return_address: u64,
    /// Address of the probed instruction.
    pub instruction_pointer: u64,
    /// Bytes asked for; the new length for a mapping call.
    pub size_bytes: u64,
    /// Where the function writes the block's address (posix_memalign); the address argument of a
    /// mapping call.
    pub pointer: u64,
    /// Old length of a mapping call (mremap, munmap).
    pub old_size_bytes: u64,
    /// Attach cookie of the function, see [`crate::call::Call`].
    pub cookie: u64,
    /// Address of the block that a realloc took out of the ledger; zero when it took none.
    pub parked_address: u64,
    /// That block. A mapping call keeps its flags as the time, and as the size the address at which it
    /// replaces what is mapped.
    pub parked: LiveBlock,
    /// Site of the call.
    pub site: u32,
    /// Set when the old block of a realloc was not in the ledger.
    pub old_block_unknown: u32,
    /// Block that the thread has freed last, if the function that did it is one of several.
    pub freed_address: u64,
    /// Stack pointer at the entry of that function.
    pub freed_stack_pointer: u64,
}

const _: () = assert!(size_of::<LiveKey>() == 16);
const _: () = assert!(size_of::<SiteBirths>() == 512);
const _: () = assert!(size_of::<LiveBlock>() == 24);
const _: () = assert!(size_of::<SiteTotals>() == 32);
const _: () = assert!(size_of::<PendingCall>() == 112);

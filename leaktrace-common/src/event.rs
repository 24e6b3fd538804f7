//! Events of the ring buffer. Mappings are rare, so each change is sent on its own, in the order
//! in which it happened, and user space does the interval arithmetic.

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum EventKind {
    /// mmap returned: `address`, `size_bytes`, `site`.
    Mapped = 1,
    /// munmap is about to run: `address`, `size_bytes`. Sent at entry, so that no other thread
    /// can have the range mapped again before the event.
    Unmapping = 2,
    /// The munmap or mremap that this thread announced failed: what it took away is still there.
    StillMapped = 3,
    /// mremap is about to run on `address`, `size_bytes`.
    Remapping = 4,
    /// mremap returned: the announced range is now at `address` with `size_bytes`; `site` is the
    /// site of the mremap call.
    Remapped = 5,
    /// The table of processes has a new entry: `process`, made by a fork or an exec. Only wakes
    /// user space; the table says all.
    NewProcess = 6,
    /// The process has new code, or code was seen to run where none was known. Only wakes user
    /// space, which then reads the mappings.
    CodeMapped = 7,
    /// shmat returned: `address`, `site`, the segment's id in `flags`; `size_bytes` is zero when the
    /// program could not tell it.
    Attached = 8,
    /// shmdt is about to run: `address`. All that is left of the segment that is attached there goes.
    Detaching = 9,
    /// An mmap, mremap or shmat that replaces what is at `address`, `size_bytes` has failed: some of it may
    /// be gone. The length is not known (zero) of a segment, whose id is in `flags`.
    PerhapsGone = 10,
}

/// One event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// An [`EventKind`].
    pub kind: u32,
    /// Index of the process.
    pub process: u32,
    /// Thread that made the call.
    pub tid: u32,
    /// Site of the call.
    pub site: u32,
    /// Time, CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// Start of the range.
    pub address: u64,
    /// Length of the range as it was asked for, not rounded to pages.
    pub size_bytes: u64,
    /// Length of the old range (mremap, munmap); protection of the new one (mmap).
    pub old_size_bytes: u64,
    /// Flags of the call: those of mremap (MREMAP_DONTUNMAP keeps the old range mapped), those of
    /// mmap (MAP_NORESERVE sets only addresses aside); the id of the segment (shmat).
    pub flags: u64,
}

const _: () = assert!(size_of::<Event>() == 56);

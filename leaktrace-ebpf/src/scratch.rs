//! Working memory of the stack walk: too large for the BPF stack, and a per-CPU area alone is not
//! safe, because a uprobe handler can be preempted by another one on the same CPU. So each CPU has
//! a few areas, all CPUs share some more, and a walk takes a free one with a compare-and-exchange.

use leaktrace_common::limits::{SCRATCH_SLOTS, SHARED_SCRATCH_SLOTS, SHARED_SCRATCH_TRIES};
use leaktrace_common::stack::WholeStack;
use leaktrace_common::unwind::{Beginning, REACH_WORDS, Registers, Trail};

use crate::maps::{SCRATCH, SHARED_SCRATCH};
use crate::{atomic, pending};

/// Bytes of the stack that are read at once: most stacks need one or two reads, and copying a
/// whole page costs as much as the walk of four frames.
pub const WINDOW_BYTES: u64 = 1024;

/// One area. All state of a walk is here rather than in registers, so that the verifier does not
/// follow its values from frame to frame.
#[repr(C)]
pub struct Scratch {
    /// 1 while a walk uses the area.
    pub taken: u32,
    /// Index of the process's current mapping table.
    pub table: u32,
    /// `removals` of the process when the walk began.
    pub removals: u64,
    /// Not 0 when an address was in no mapping that is known.
    pub unknown_code: u64,
    /// The word at the stack pointer at entry.
    pub return_address: u64,
    /// Next frame pointer to follow.
    pub frame_pointer: u64,
    /// Frame pointers at or below this are not on the rest of the stack.
    pub floor: u64,
    /// Hash of the frames so far.
    pub hash: u64,
    /// The mapping of the last frame: most frames have the same as the one before.
    pub mapping_start: u64,
    /// First address behind it.
    pub mapping_end: u64,
    /// Address of the first block of its unwind table.
    pub mapping_base: u64,
    /// Where that table is, a [`leaktrace_common::mapping::TableRef`].
    pub mapping_table: u64,
    /// 0 at the entry of a function, whose return address stands at the stack pointer; else the
    /// walk starts with this address, and nothing of its own is on the stack.
    pub instruction_pointer: u64,
    /// The walk ends with the first frame whose stack pointer is above this.
    pub stop_above: u64,
    /// 1 when the walk has gone through a signal handler to the code that it has interrupted.
    pub interrupted: u64,
    /// What the walk begins with.
    pub beginning: Beginning,
    /// Place of the kept walk that is looked at, or that this one may take.
    pub memo: u32,
    /// Its site, if it is one.
    pub memo_site: u32,
    /// Kept walks that were looked at.
    pub memo_tries: u32,
    /// 1 when the mappings may have code that is not there any more.
    pub in_doubt: u32,
    /// Group of its words that is compared.
    pub group: u64,
    /// What is known of the frame that the walk by .eh_frame has come to.
    pub registers: Registers,
    /// A piece of the stack.
    pub window: Window,
    /// The stack, as it is stored.
    pub stack: WholeStack,
}

/// A piece of the stack, and what was read of it.
#[repr(C)]
pub struct Window {
    /// Address of the first word.
    pub start: u64,
    /// Words that were read.
    pub count: u64,
    /// The words.
    pub words: [u64; REACH_WORDS],
    /// Which words have decided the walk.
    pub trail: Trail,
}

/// Takes a free area; `None` when those of this CPU and the shared ones that were tried are in use.
#[inline(always)]
pub fn acquire() -> Option<*mut Scratch> {
    let mut slot = 0;
    while slot < SCRATCH_SLOTS {
        let area = SCRATCH.get_ptr_mut(slot)?;
        if take(area) {
            return Some(area);
        }
        slot += 1;
    }
    // Threads begin at different places, so that they seldom try the same ones.
    let first = pending::current_tid();
    let mut tried = 0;
    while tried < SHARED_SCRATCH_TRIES {
        let slot = first.wrapping_add(tried) % SHARED_SCRATCH_SLOTS;
        let area = SHARED_SCRATCH.get_ptr_mut(slot)?;
        if take(area) {
            return Some(area);
        }
        tried += 1;
    }
    None
}

#[inline(always)]
fn take(area: *mut Scratch) -> bool {
    // SAFETY: the pointer is a live map value.
    atomic::replace(unsafe { &raw mut (*area).taken }, 0, 1)
}

/// Gives an area back.
#[inline(always)]
pub fn release(area: *mut Scratch) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    unsafe { core::ptr::write_volatile(&raw mut (*area).taken, 0) };
}

//! Whether a call runs inside another one that is remembered, by the stack that leads to it.
//!
//! The slot of a return address keeps the kernel's trampoline after a call was left by longjmp, until
//! something else is written there. Only the frames tell whether the slot is still one of theirs.

use leaktrace_common::lane::Lane;

use crate::call::Entry;
use crate::scratch;
use crate::walk::{self, Passage};

/// Whether the stack of a call surely does not go through the slot of a return address at `outer`.
#[inline(always)]
pub fn is_past(entry: &Entry, process: u32, outer: u64) -> bool {
    let instruction_pointer = match entry.call().lane {
        Lane::SYSCALLS => entry.instruction_pointer,
        _ => 0,
    };
    goes_past(
        instruction_pointer,
        entry.stack_pointer,
        entry.frame_pointer,
        u64::from(process),
        outer,
    ) != 0
}

/// A function of its own with global linkage, so that the verifier looks at it once. It takes
/// numbers only.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn goes_past(
    instruction_pointer: u64,
    stack_pointer: u64,
    frame_pointer: u64,
    process: u64,
    outer: u64,
) -> u64 {
    let Some(area) = scratch::acquire() else {
        return 0;
    };
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    walk.instruction_pointer = instruction_pointer;
    walk.beginning.stack_pointer = stack_pointer;
    walk.beginning.frame_pointer = frame_pointer;
    walk.record.process = process as u16;
    walk.record.source = 0;
    walk::begin(area);
    let past = walk::to(area, outer) == Passage::Past;
    scratch::release(area);
    u64::from(past)
}

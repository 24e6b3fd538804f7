//! Whether a call runs inside another one that is remembered, by the stack that leads to it.
//!
//! The slot of a return address keeps the kernel's trampoline after a call was left by longjmp, until
//! something else is written there. Only the frames tell whether the slot is still one of theirs.

use leaktrace_common::stack::Source;

use crate::call::Entry;
use crate::scratch;
use crate::walk::{self, Passage};

/// Whether the stack of a call surely does not go through the slot of a return address at `outer`.
#[inline(always)]
pub fn is_past(entry: &Entry, process: u32, outer: u64) -> bool {
    goes_past(
        entry.walk_start(),
        entry.stack_pointer,
        entry.frame_pointer,
        walk::owner(process, Source::Heap),
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
    owner: u64,
    outer: u64,
) -> u64 {
    let Some(area) = scratch::acquire() else {
        return 0;
    };
    walk::begin(
        area,
        instruction_pointer,
        stack_pointer,
        frame_pointer,
        owner,
    );
    let past = walk::to(area, outer) == Passage::Past;
    scratch::release(area);
    u64::from(past)
}

//! Whether a call runs inside another one that is remembered, by the stack that leads to it.
//!
//! The slot of a return address keeps the kernel's trampoline after a call was left by longjmp, until
//! something else is written there. Only the frames tell whether the slot is still one of theirs.

use leaktrace_common::stack::Source;

use crate::call::Entry;
use crate::scratch;
use crate::walk::{self, Passage};

/// How the stack of a call relates to the slot of a return address at `outer`.
#[inline(always)]
pub fn passage(entry: &Entry, process: u32, outer: u64) -> Passage {
    let number = find_passage(
        entry.walk_start(),
        entry.stack_pointer,
        entry.frame_pointer,
        walk::owner(process, Source::Heap),
        outer,
    );
    Passage::from_number(number)
}

/// A function of its own with global linkage, so that the verifier looks at it once. It takes
/// numbers only.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn find_passage(
    instruction_pointer: u64,
    stack_pointer: u64,
    frame_pointer: u64,
    owner: u64,
    outer: u64,
) -> u64 {
    let Some(area) = scratch::acquire() else {
        return Passage::Unknown as u64;
    };
    walk::begin(
        area,
        instruction_pointer,
        stack_pointer,
        frame_pointer,
        owner,
    );
    let passage = walk::to(area, outer);
    scratch::release(area);
    passage as u64
}

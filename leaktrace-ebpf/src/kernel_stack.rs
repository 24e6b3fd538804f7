//! Keeps the programs on the stack of the thread that they run on.
//!
//! From Linux 6.13 on, x86 gives a tracing program with a deep frame a stack of its own, one a
//! CPU. That is right for kprobes, which do not nest, and wrong for uprobes, which run preemptibly:
//! a program that is preempted finds its variables overwritten by the next one on that CPU. Seen as
//! an oops in a loop's callback on 7.2. A program with a tail call anywhere is given none
//! (`check_max_stack_depth` in kernel/bpf/verifier.c), even if the call is never made.

use aya_ebpf::EbpfContext;

use crate::maps::{NEVER, NO_PROGRAMS};

/// Makes the calling program one with a tail call. To be called by the entry point of every
/// program that is attached as a uprobe; the verifier removes the call itself.
#[inline(always)]
pub fn keep(ctx: &impl EbpfContext) {
    if NEVER.load() != 0 {
        // SAFETY: the map is empty, so that even a call would come back.
        unsafe { NO_PROGRAMS.tail_call(ctx, 0) };
    }
}

//! Functions that take blocks back. The block leaves the ledger at entry, before the allocator
//! can give its address to another thread.

use aya_ebpf::programs::ProbeContext;

use crate::call::{self, Entry};
use crate::{live, pending, process};

/// Removes the block and counts it as freed by the site that allocated it.
#[inline(always)]
pub fn enter(ctx: &ProbeContext) {
    let Some(entry) = call::hit(ctx.regs) else {
        return;
    };
    let call = entry.call();
    let process = u32::from(call.process);
    let address = entry.argument(call.pointer_argument);
    if address == 0 {
        return;
    }
    match live::remove(process, address) {
        Some(block) => live::count_freed(&block),
        None => {
            // A free inside a realloc frees what the realloc has parked, or what it allocated
            // unseen: neither is missing.
            if !inside_call(process, &entry) {
                process::count_unmatched_free(process);
            }
        }
    }
}

#[inline(always)]
fn inside_call(process: u32, entry: &Entry) -> bool {
    match pending::existing() {
        // SAFETY: the slot belongs to the running thread, and nothing else writes it.
        Some(slot) => pending::encloses(unsafe { &*slot }, process, entry),
        None => false,
    }
}

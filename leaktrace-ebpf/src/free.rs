//! Functions that take blocks back. The block leaves the ledger at entry, before the allocator
//! can give its address to another thread.

use aya_ebpf::programs::ProbeContext;

use leaktrace_common::call::Nesting;
use leaktrace_common::lane::Lane;

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
    let known = match live::remove(process, call.lane, address) {
        Some(block) => {
            live::count_freed(&block);
            true
        }
        None => false,
    };
    match call.lane.pair() {
        Some(pair) if !known && !is_inside(call.lane, process, &entry) => {
            process::count_unmatched_of_pair(process, pair);
        }
        Some(_) => {}
        None => settle_heap(process, &entry, address, known),
    }
}

/// Counts a block that is not known as an unmatched free, and notes which block was freed for the
/// functions that this one may call.
#[inline(always)]
fn settle_heap(process: u32, entry: &Entry, address: u64, known: bool) {
    if !known && !is_inner(process, entry, address) && !settles_parked(process, address) {
        process::count_unmatched_free(process);
    }
    if entry.call().nesting == Nesting::None {
        return;
    }
    if let Some(slot) = pending::slot(Lane::MAIN) {
        // SAFETY: the slot belongs to the running thread, and nothing else writes it.
        let slot = unsafe { &mut *slot };
        slot.freed_address = address;
        slot.freed_stack_pointer = entry.stack_pointer;
    }
}

/// Whether this free is made by a reallocation of the same pair, for the block that it has parked.
#[inline(always)]
fn is_inside(lane: Lane, process: u32, entry: &Entry) -> bool {
    match pending::existing(lane) {
        // SAFETY: the slot belongs to the running thread, and nothing else writes it.
        Some(slot) => pending::encloses(unsafe { &*slot }, process, entry),
        None => false,
    }
}

/// Whether it frees the block that a realloc of this thread has taken out of the ledger, and then
/// never returned (longjmp): the block was still the program's, and is not any more.
#[inline(always)]
fn settles_parked(process: u32, address: u64) -> bool {
    let Some(slot) = pending::existing(Lane::MAIN) else {
        return false;
    };
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let slot = unsafe { &mut *slot };
    if slot.stack_pointer == 0 || slot.parked_address != address {
        return false;
    }
    pending::put_back(slot, process, Lane::MAIN);
    if let Some(block) = live::remove(process, Lane::MAIN, address) {
        live::count_freed(&block);
    }
    true
}

/// Whether this free is part of a call that has settled it. Inside a realloc it frees what the
/// realloc has parked, or what it allocated unseen; inside another free (operator delete) of the
/// same block, that one has taken it out of the ledger.
#[inline(always)]
fn is_inner(process: u32, entry: &Entry, address: u64) -> bool {
    let Some(slot) = pending::existing(Lane::MAIN) else {
        return false;
    };
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let slot = unsafe { &*slot };
    let inside_free =
        slot.freed_address == address && slot.freed_stack_pointer >= entry.stack_pointer;
    inside_free || pending::encloses(slot, process, entry)
}

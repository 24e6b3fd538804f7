//! Functions that hand out blocks: from the entry of the outermost call to its return.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_user};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use leaktrace_common::call::{Call, CallKind, Ending, NO_ARGUMENT};
use leaktrace_common::lane::Lane;
use leaktrace_common::ledger::{LiveBlock, PendingCall};
use leaktrace_common::loss::Loss;
use leaktrace_common::stack::SITE_NOT_COUNTED;

use crate::call::{self, Entry};
use crate::maps::{MAX_SIZE_BYTES, MIN_SIZE_BYTES};
use crate::{live, loss, pending, process, site};

/// Remembers the outermost call with its size and its stack; a realloc parks its old block.
#[inline(always)]
pub fn enter(ctx: &ProbeContext) {
    let Some(entry) = call::hit(ctx.regs) else {
        return;
    };
    let call = entry.call();
    let process = u32::from(call.process);
    let size_bytes = entry.size_bytes(call);
    let current = match pending::begin(ctx, process, &entry) {
        Ok(Some(current)) => current,
        Ok(None) => return,
        Err(pending::NoSlot) => return lose(&entry, size_bytes),
    };
    let counted = size_bytes >= MIN_SIZE_BYTES.load() && size_bytes <= MAX_SIZE_BYTES.load();
    let caller = site::of(
        &entry,
        process,
        call.lane.source(),
        counted || is_piece(call),
    );
    current.site = caller.site;
    current.return_address = caller.return_address;
    current.size_bytes = size_bytes;
    current.pointer = entry.argument(call.pointer_argument);
    current.old_block_unknown = 0;
    if call.kind.is_reallocation() {
        park(current, process, call.lane);
    } else if call.lane == Lane::OPERATORS {
        // SAFETY: the helper has no preconditions.
        current.parked.at_ns = unsafe { bpf_ktime_get_ns() };
    }
    current.stack_pointer = entry.stack_pointer;
}

/// Counts a call as lost that nobody will see return. A realloc hardly ever fails, and then the old block
/// is gone with it.
#[inline(always)]
fn lose(entry: &Entry, size_bytes: u64) {
    let call = entry.call();
    let process = u32::from(call.process);
    loss::count(process, Loss::PendingMapFull, size_bytes);
    if !call.kind.is_reallocation() {
        return;
    }
    // Not there: unknown, or what this call is made by (reallocarray) has taken it out.
    let pointer = entry.argument(call.pointer_argument);
    if let Some(block) = live::remove(process, call.lane, pointer) {
        live::count_freed(&block);
    }
}

/// Settles the outermost call: records the new block if there is one.
#[inline(always)]
pub fn leave(ctx: &RetProbeContext) {
    let lane = call::of_return(ctx).lane;
    if let Some((current, result)) = pending::returned(ctx, lane) {
        settle(current, result);
    }
}

/// The same at a `ret` instruction; or gives the call up, where it leaves for unknown code.
#[inline(always)]
pub fn leave_at_ret(ctx: &ProbeContext) {
    let Some(entry) = call::hit(ctx.regs) else {
        return;
    };
    let call = entry.call();
    let process = u32::from(call.process);
    let Some((current, result)) = pending::returning(ctx, call.lane, process) else {
        return;
    };
    if call.ending == Ending::Escape {
        loss::count(process, Loss::CallAbandoned, current.size_bytes);
        pending::put_back(current, process, call.lane);
    } else {
        settle(current, result);
    }
}

/// What has no size is counted, whatever sizes are.
#[inline(always)]
fn is_piece(call: Call) -> bool {
    call.size_argument == NO_ARGUMENT
}

#[inline(always)]
fn settle(current: &mut PendingCall, result: u64) {
    let call = Call::from_cookie(current.cookie);
    let process = u32::from(call.process);
    match call.kind {
        CallKind::Reallocate | CallKind::ReallocateOrFree => {
            settle_reallocation(current, process, result);
        }
        CallKind::AllocateInto => {
            if result == 0 {
                settle_written(current, process);
            }
        }
        _ => record(current, process, result),
    }
}

/// Takes the old block out of the ledger before the allocator can give its address to another
/// thread.
#[inline(always)]
fn park(current: &mut PendingCall, process: u32, lane: Lane) {
    if current.pointer == 0 {
        return;
    }
    match live::remove(process, lane, current.pointer) {
        Some(block) => {
            current.parked = block;
            current.parked_address = current.pointer;
        }
        None => current.old_block_unknown = 1,
    }
}

/// A realloc that returns NULL for a size above zero has failed and left the old block alone, but for
/// those functions that free it then.
#[inline(always)]
fn settle_reallocation(current: &mut PendingCall, process: u32, result: u64) {
    let failed = result == 0 && current.size_bytes != 0;
    if current.parked_address != 0 {
        let lane = Call::from_cookie(current.cookie).lane;
        let frees = Call::from_cookie(current.cookie).kind == CallKind::ReallocateOrFree;
        if failed && !frees {
            pending::put_back(current, process, lane);
        } else {
            live::count_freed(&current.parked);
        }
        current.parked_address = 0;
    } else if current.old_block_unknown != 0 && !failed {
        count_unmatched(current, process);
    }
    record(current, process, result);
}

#[inline(always)]
fn count_unmatched(current: &PendingCall, process: u32) {
    match Call::from_cookie(current.cookie).lane.pair() {
        Some(pair) => process::count_unmatched_of_pair(process, pair),
        None => process::count_unmatched_free(process),
    }
}

/// posix_memalign and its like write the address through an argument.
#[inline(always)]
fn settle_written(current: &PendingCall, process: u32) {
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(current.pointer as *const u64) } {
        Ok(address) => record(current, process, address),
        Err(_) => loss::count(process, Loss::ResultUnreadable, current.size_bytes),
    }
}

#[inline(always)]
fn record(current: &PendingCall, process: u32, address: u64) {
    if address == 0 || current.site == SITE_NOT_COUNTED {
        return;
    }
    let lane = Call::from_cookie(current.cookie).lane;
    // An operator that has called malloc returns a block that is recorded already.
    if lane == Lane::OPERATORS && live::has_since(process, lane, address, current.parked.at_ns) {
        return;
    }
    // The coarse clock is not offered to uprobe programs (6.18).
    // SAFETY: the helper has no preconditions.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    let block = LiveBlock {
        size_bytes: current.size_bytes,
        at_ns,
        site: current.site,
        birth: live::birth(at_ns),
    };
    live::record(process, lane, address, &block);
}

//! mmap, munmap and mremap: each change is sent to user space, which keeps the intervals.
//!
//! What takes an address range away is announced at entry, what gives one at return, so that the
//! order of the events is the order in which threads can have had the ranges.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use leaktrace_common::call::{Call, CallKind};
use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::lane::Lane;
use leaktrace_common::ledger::PendingCall;
use leaktrace_common::loss::Loss;
use leaktrace_common::stack::Source;

use crate::call;
use crate::{loss, maps, pending, site};

const FAILED: u64 = u64::MAX;

/// Remembers the call, unless an allocator makes it for itself, and announces what it takes away.
#[inline(always)]
pub fn enter(ctx: &ProbeContext) {
    let Some(entry) = call::hit(ctx.regs) else {
        return;
    };
    let call = entry.call();
    let process = u32::from(call.process);
    let current = match pending::begin(ctx, process, &entry) {
        Ok(Some(current)) => current,
        Ok(None) => return,
        // Not as a pending call: it may be an allocator's own, whose call is lost already.
        Err(pending::NoSlot) => {
            return loss::count(process, Loss::EventLost, entry.argument(call.size_argument));
        }
    };
    current.pointer = entry.argument(call.pointer_argument);
    current.size_bytes = entry.argument(call.size_argument);
    // Argument 1 of mremap is the old length, argument 2 of mmap the protection; argument 3 of
    // both has the flags.
    current.old_size_bytes = match call.kind {
        CallKind::Map => entry.argument(2),
        _ => entry.argument(1),
    };
    current.parked.at_ns = entry.argument(3);
    let gives = call.kind != CallKind::Unmap;
    let caller = site::of(&entry, process, Source::Mmap, gives);
    current.site = caller.site;
    current.return_address = caller.return_address;
    match call.kind {
        CallKind::Unmap => announce(current, EventKind::Unmapping, current.pointer),
        CallKind::Remap => announce(current, EventKind::Remapping, current.pointer),
        _ => {}
    }
    current.stack_pointer = entry.stack_pointer;
}

/// Sends what the call has given, or that it failed.
#[inline(always)]
pub fn leave(ctx: &RetProbeContext) {
    let Some((current, result)) = pending::returned(ctx, Lane::MAIN) else {
        return;
    };
    let call = Call::from_cookie(current.cookie);
    match (call.kind, result) {
        (CallKind::Map, FAILED) | (CallKind::Unmap, 0) => {}
        (CallKind::Map, address) => announce(current, EventKind::Mapped, address),
        (CallKind::Remap, address) if address != FAILED => {
            announce(current, EventKind::Remapped, address);
        }
        _ => announce(current, EventKind::StillMapped, current.pointer),
    }
}

#[inline(always)]
fn announce(current: &PendingCall, kind: EventKind, address: u64) {
    let call = Call::from_cookie(current.cookie);
    let event = Event {
        kind: kind as u32,
        process: u32::from(call.process),
        tid: pending::current_tid(),
        site: current.site,
        // SAFETY: the helper has no preconditions.
        at_ns: unsafe { bpf_ktime_get_ns() },
        address,
        size_bytes: current.size_bytes,
        old_size_bytes: current.old_size_bytes,
        flags: current.parked.at_ns,
    };
    if !maps::send(&event) {
        loss::count(event.process, Loss::EventLost, event.size_bytes);
    }
}

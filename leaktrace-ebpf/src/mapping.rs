//! mmap, munmap, mremap, brk, shmat and shmdt, as functions and as system calls: each change is sent to user
//! space, which keeps the intervals.
//!
//! What takes an address range away is announced at entry, what gives one at return, so that the
//! order of the events is the order in which threads can have had the ranges.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{bpf_get_current_task_btf, bpf_task_pt_regs};
use aya_ebpf::programs::{ProbeContext, RetProbeContext, TracePointContext};
use leaktrace_common::arch;
use leaktrace_common::call::{Call, CallKind};
use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::lane::Lane;
use leaktrace_common::ledger::PendingCall;
use leaktrace_common::limits::PAGE_BYTES;
use leaktrace_common::loss::Loss;
use leaktrace_common::stack::Source;

use crate::call::{self, Entry};
use crate::{loss, maps, pending, process, segment, site};

const FAILED: u64 = u64::MAX;

// What has a call replace what is mapped at the address that it names (uapi/linux/mman.h, shm.h).
const MAP_FIXED: u64 = 0x10;
const MREMAP_FIXED: u64 = 2;
const SHM_REMAP: u64 = 0o40000;

/// Results of system calls from here on are error numbers (MAX_ERRNO of linux/err.h).
const FIRST_ERROR: u64 = (-4095_i64) as u64;

// Places in the records of the kernel's events for system calls, bytes; the same for all of them
// (events/syscalls/*/format in tracefs).
const SYSCALL_NUMBER: usize = 8;
const SYSCALL_RESULT: usize = 16;

/// Remembers the call, unless an allocator makes it for itself, and announces what it takes away.
#[inline(always)]
pub fn enter(ctx: &ProbeContext) {
    let Some(entry) = call::hit(ctx.regs) else {
        return;
    };
    let call = entry.call();
    let process = u32::from(call.process);
    if pending::is_allocators_own(process, &entry) {
        return;
    }
    match pending::begin(ctx, process, &entry) {
        Ok(Some(current)) => begin(current, &entry),
        Ok(None) => {}
        // Not as a pending call: it may be an allocator's own, whose call is lost already.
        Err(pending::NoSlot) => {
            loss::count(process, Loss::EventLost, entry.argument(call.size_argument));
        }
    }
}

/// Sends what the call has given, or that it failed.
#[inline(always)]
pub fn leave(ctx: &RetProbeContext) {
    if let Some((current, result)) = pending::returned(ctx, Lane::MAPPINGS) {
        finish(current, result);
    }
}

/// The same of a system call that no probed function makes.
#[inline(always)]
pub fn enter_syscall(ctx: &TracePointContext) {
    if !call::armed() {
        return;
    }
    let Some(process) = process::of_syscall() else {
        return;
    };
    // SAFETY: the kernel checks the place against the event's record.
    let number: u32 = unsafe { ctx.read_at(SYSCALL_NUMBER) }.unwrap_or(0);
    let kind = match number {
        arch::SYSCALL_MMAP => CallKind::Map,
        arch::SYSCALL_MUNMAP => CallKind::Unmap,
        arch::SYSCALL_MREMAP => CallKind::Remap,
        arch::SYSCALL_BRK => CallKind::Break,
        arch::SYSCALL_SHMAT => CallKind::Attach,
        arch::SYSCALL_SHMDT => CallKind::Detach,
        _ => return,
    };
    // SAFETY: the helpers have no preconditions.
    let regs = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) };
    let entry = Entry::of_syscall(regs as *const _, Call::of_syscall(kind, process as u16));
    let Some(slot) = pending::slot(Lane::SYSCALLS) else {
        return loss::count(process, Loss::EventLost, 0);
    };
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let current = unsafe { &mut *slot };
    current.stack_pointer = 0;
    if pending::is_allocators_own(process, &entry)
        || pending::is_inside(Lane::MAPPINGS, process, &entry)
    {
        return;
    }
    current.cookie = entry.cookie;
    begin(current, &entry);
}

/// The same of the end of such a system call.
#[inline(always)]
pub fn leave_syscall(ctx: &TracePointContext) {
    if process::of_syscall().is_none() {
        return;
    }
    let Some(slot) = pending::existing(Lane::SYSCALLS) else {
        return;
    };
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let current = unsafe { &mut *slot };
    if current.stack_pointer == 0 {
        return;
    }
    current.stack_pointer = 0;
    // SAFETY: the kernel checks the place against the event's record.
    let result: u64 = unsafe { ctx.read_at(SYSCALL_RESULT) }.unwrap_or(FAILED);
    finish(
        current,
        if result >= FIRST_ERROR {
            FAILED
        } else {
            result
        },
    );
}

#[inline(always)]
fn begin(current: &mut PendingCall, entry: &Entry) {
    let call = entry.call();
    let process = u32::from(call.process);
    if call.kind == CallKind::Break {
        current.pointer = process::data_segment_end();
        current.old_size_bytes = PROT_READ_WRITE;
        current.parked.at_ns = 0;
    } else {
        current.pointer = entry.argument(call.pointer_argument);
        current.size_bytes = entry.argument(call.size_argument);
        // Argument 1 of mremap is the old length, argument 2 of mmap the protection; argument 3 of
        // both has the flags.
        current.old_size_bytes = match call.kind {
            CallKind::Map => entry.argument(2),
            _ => entry.argument(1),
        };
        current.parked.at_ns = entry.argument(3);
    }
    if call.kind == CallKind::Attach || call.kind == CallKind::Detach {
        // How long it is, is seen when it is there, by user space if need be: by the id.
        current.size_bytes = 0;
        current.old_size_bytes = PROT_READ_WRITE;
        current.parked.at_ns = current.pointer & 0xffff_ffff;
    }
    current.parked.size_bytes = replaced_address(entry, call.kind);
    let gives = call.kind != CallKind::Unmap && call.kind != CallKind::Detach;
    let caller = site::of(entry, process, Source::Mmap, gives);
    current.site = caller.site;
    current.return_address = caller.return_address;
    match call.kind {
        CallKind::Unmap => announce(current, EventKind::Unmapping, current.pointer),
        CallKind::Remap => announce(current, EventKind::Remapping, current.pointer),
        CallKind::Detach => announce(current, EventKind::Detaching, current.pointer),
        _ => {}
    }
    current.stack_pointer = entry.stack_pointer;
}

#[inline(always)]
fn finish(current: &mut PendingCall, result: u64) {
    let call = Call::from_cookie(current.cookie);
    match (call.kind, result) {
        (CallKind::Break, _) => finish_break(current),
        (CallKind::Map | CallKind::Attach, FAILED) => announce_replaced(current),
        (CallKind::Unmap | CallKind::Detach, 0) => {}
        (CallKind::Map, address) => announce(current, EventKind::Mapped, address),
        (CallKind::Attach, address) => {
            current.size_bytes = segment::length_at(address);
            announce(current, EventKind::Attached, address);
        }
        (CallKind::Remap, address) if address != FAILED => {
            announce(current, EventKind::Remapped, address);
        }
        (CallKind::Remap, _) => {
            announce(current, EventKind::StillMapped, current.pointer);
            announce_replaced(current);
            if current.parked.size_bytes != 0 {
                // It is cut to the new length before it is moved.
                current.size_bytes = current.old_size_bytes;
                announce(current, EventKind::PerhapsGone, current.pointer);
            }
        }
        _ => announce(current, EventKind::StillMapped, current.pointer),
    }
}

/// Address at which a call replaces what is there; 0 when it leaves alone what there is.
#[inline(always)]
fn replaced_address(entry: &Entry, kind: CallKind) -> u64 {
    let (flags, flag, address) = match kind {
        CallKind::Map => (entry.argument(3), MAP_FIXED, entry.argument(0)),
        CallKind::Remap => (entry.argument(3), MREMAP_FIXED, entry.argument(4)),
        CallKind::Attach => (entry.argument(2), SHM_REMAP, entry.argument(1)),
        _ => return 0,
    };
    if flags & flag != 0 { address } else { 0 }
}

/// A call that was to replace what is at an address has failed: the kernel may have taken that away
/// before.
#[inline(always)]
fn announce_replaced(current: &PendingCall) {
    let address = current.parked.size_bytes;
    if address != 0 {
        announce(current, EventKind::PerhapsGone, address);
    }
}

/// The data segment is mapped in whole pages, up to the one that its end is in. Whether the call
/// has moved the end is read off the end itself: brk and sbrk return different things.
#[inline(always)]
fn finish_break(current: &mut PendingCall) {
    let (before, after) = (current.pointer, process::data_segment_end());
    if before == 0 || after == 0 {
        return;
    }
    let (before, after) = (page_end(before), page_end(after));
    if after > before {
        current.size_bytes = after - before;
        announce(current, EventKind::Mapped, before);
    } else if after < before {
        current.size_bytes = before - after;
        announce(current, EventKind::Unmapping, after);
    }
}

const PROT_READ_WRITE: u64 = 3;

#[inline(always)]
const fn page_end(address: u64) -> u64 {
    address.wrapping_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
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

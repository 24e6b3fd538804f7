//! The outermost call of each thread. Only it counts: what an allocator calls inside itself
//! (mmap in malloc, malloc in realloc) is part of it.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use leaktrace_common::ledger::{LiveBlock, PendingCall};
use leaktrace_common::limits::MAX_NESTED_STACK_BYTES;
use leaktrace_common::loss::Loss;

use crate::maps::{PENDING, PROCESSES};
use crate::{live, loss};

const IDLE: PendingCall = PendingCall {
    stack_pointer: 0,
    return_address: 0,
    size_bytes: 0,
    pointer: 0,
    old_size_bytes: 0,
    cookie: 0,
    parked_address: 0,
    parked: LiveBlock { size_bytes: 0, at_ns: 0, site: 0, padding: 0 },
    site: 0,
    old_block_unknown: 0,
};

/// Thread id of the running thread, in the initial pid namespace.
#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// The running thread's slot, if it has one.
#[inline(always)]
pub fn existing() -> Option<*mut PendingCall> {
    PENDING.get_ptr_mut(current_tid())
}

/// The running thread's slot, made when this is its first call; `None` when the map is full.
#[inline(always)]
pub fn slot() -> Option<*mut PendingCall> {
    let tid = current_tid();
    if let Some(slot) = PENDING.get_ptr_mut(tid) {
        return Some(slot);
    }
    // Ignored: only this thread inserts its tid, so the look-up tells whether there was room.
    let _ = PENDING.insert(tid, IDLE, u64::from(BPF_NOEXIST));
    PENDING.get_ptr_mut(tid)
}

/// Whether a call that enters at `stack_pointer` runs inside the call of the slot.
///
/// A stack pointer above the remembered one proves that the remembered call has ended without a
/// return (longjmp, exception); so does a return address that the kernel's trampoline does not
/// cover any more. At the same stack pointer with the trampoline in place, the outer function has
/// jumped to the inner one instead of calling it (reallocarray to realloc in glibc).
#[inline(always)]
pub fn encloses(call: &PendingCall, process: u32, stack_pointer: u64) -> bool {
    let outer = call.stack_pointer;
    if outer == 0
        || stack_pointer > outer
        || outer - stack_pointer > MAX_NESTED_STACK_BYTES
    {
        return false;
    }
    // SAFETY: the helper checks the address.
    let Ok(word) = (unsafe { bpf_probe_read_user(outer as *const u64) }) else {
        return false;
    };
    match trampoline(process) {
        0 => word != call.return_address,
        known => word == known,
    }
}

/// Gives up a call that never returned: what a realloc had taken out of the ledger goes back,
/// because it is not known to be freed.
#[inline(always)]
pub fn abandon(slot: *mut PendingCall, process: u32) {
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let call = unsafe { &mut *slot };
    if call.stack_pointer == 0 {
        return;
    }
    call.stack_pointer = 0;
    loss::count(Loss::CallAbandoned, call.size_bytes);
    if call.parked_address != 0 {
        live::restore(process, call.parked_address, &call.parked);
        call.parked_address = 0;
    }
}

/// Remembers where the trampoline of this process is. The word below the stack pointer at a
/// return is the return address that was popped: the trampoline's, as the kernel had put it there.
#[inline(always)]
pub fn learn_trampoline(process: u32, stack_pointer: u64) {
    let Some(state) = PROCESSES.get_ptr_mut(process) else {
        return;
    };
    // SAFETY: the pointer is a live map value; all writers write the same value.
    unsafe {
        if (*state).trampoline == 0
            && let Ok(word) = bpf_probe_read_user((stack_pointer - 8) as *const u64)
        {
            (*state).trampoline = word;
        }
    }
}

#[inline(always)]
fn trampoline(process: u32) -> u64 {
    match PROCESSES.get_ptr(process) {
        // SAFETY: the pointer is a live map value.
        Some(state) => unsafe { (*state).trampoline },
        None => 0,
    }
}

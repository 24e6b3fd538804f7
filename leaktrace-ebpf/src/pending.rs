//! The outermost call of each thread. Only it counts: what an allocator calls inside itself
//! (mmap in malloc, malloc in realloc) is part of it.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::programs::RetProbeContext;
use aya_log_ebpf::debug;
use leaktrace_common::ledger::{LiveBlock, PendingCall};
use leaktrace_common::limits::{MAX_NESTED_STACK_BYTES, PAGE_BYTES};
use leaktrace_common::loss::Loss;

use crate::call::Entry;
use crate::maps::{PENDING, PROCESSES};
use crate::{live, loss};

/// The map of pending calls is full.
pub struct NoSlot;

const IDLE: PendingCall = PendingCall {
    stack_pointer: 0,
    return_address: 0,
    instruction_pointer: 0,
    size_bytes: 0,
    pointer: 0,
    old_size_bytes: 0,
    cookie: 0,
    parked_address: 0,
    parked: LiveBlock {
        size_bytes: 0,
        at_ns: 0,
        site: 0,
        padding: 0,
    },
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
fn slot() -> Option<*mut PendingCall> {
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
/// cover any more; so does a caller in the main program when the remembered call is one of a
/// library's functions, which do not call back. At the same stack pointer with the trampoline in place, the outer function has
/// jumped to the inner one instead of calling it (reallocarray to realloc in glibc).
#[inline(always)]
pub fn encloses(call: &PendingCall, process: u32, entry: &Entry) -> bool {
    let stack_pointer = entry.stack_pointer;
    let outer = call.stack_pointer;
    if outer == 0 || stack_pointer > outer || outer - stack_pointer > MAX_NESTED_STACK_BYTES {
        return false;
    }
    // SAFETY: the helper checks the address.
    let Ok(word) = (unsafe { bpf_probe_read_user(outer as *const u64) }) else {
        return false;
    };
    is_trampoline(process, word, outer)
        && !(stack_pointer < outer && comes_from_outside(call, process, stack_pointer))
}

/// Whether the call at `stack_pointer` is made by the main program while the remembered one is in
/// a library. Stale words on the stack can look like a live outer call; this tells most apart.
#[inline(always)]
fn comes_from_outside(call: &PendingCall, process: u32, stack_pointer: u64) -> bool {
    let Some(state) = PROCESSES.get_ptr(process) else {
        return false;
    };
    // SAFETY: the pointer is a live map value that user space wrote before the session was armed.
    let (start, end) = unsafe { ((*state).program_start, (*state).program_end) };
    if call.instruction_pointer >= start && call.instruction_pointer < end {
        return false;
    }
    // SAFETY: the helper checks the address.
    match unsafe { bpf_probe_read_user(stack_pointer as *const u64) } {
        Ok(caller) => caller >= start && caller < end,
        Err(_) => false,
    }
}

/// Begins a call: the slot to fill, unless the call runs inside another that is remembered. What
/// was remembered and never returned is given up.
///
/// # Errors
///
/// When the thread has no slot and there is no room for one.
#[inline(always)]
pub fn begin<C: EbpfContext>(
    ctx: &C,
    process: u32,
    entry: &Entry,
) -> Result<Option<&'static mut PendingCall>, NoSlot> {
    let Some(slot) = slot() else {
        debug!(ctx, "no room for the pending call of a thread");
        return Err(NoSlot);
    };
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let current = unsafe { &mut *slot };
    if current.stack_pointer != 0 {
        if encloses(current, process, entry) {
            return Ok(None);
        }
        debug!(ctx, "a call at {:x} never returned", current.stack_pointer);
        abandon(slot, process);
    }
    current.instruction_pointer = entry.instruction_pointer;
    current.cookie = entry.cookie;
    current.parked_address = 0;
    Ok(Some(current))
}

/// Ends the outermost call, if this is its return: the call and what it returned.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext) -> Option<(&'static mut PendingCall, u64)> {
    let slot = existing()?;
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let current = unsafe { &mut *slot };
    // SAFETY: the context of a uretprobe program is its register set.
    let (stack_pointer, result) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*ctx.regs).rsp),
            core::ptr::read_volatile(&raw const (*ctx.regs).rax),
        )
    };
    // The return has popped the return address. Returns of nested calls have a lower one.
    if current.stack_pointer == 0 || stack_pointer != current.stack_pointer + 8 {
        return None;
    }
    current.stack_pointer = 0;
    Some((current, result))
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
    loss::count(process, Loss::CallAbandoned, call.size_bytes);
    if call.parked_address != 0 {
        live::restore(process, call.parked_address, &call.parked);
        call.parked_address = 0;
    }
}

/// Whether a word where a return address belongs is the kernel's uretprobe trampoline.
///
/// The trampoline is the start of a page that the kernel maps into the process when a return probe
/// fires first, at the top of the address space, above every stack; nothing else that a stack slot
/// holds looks like that. Once seen, its address is known. User space enters it too, from the
/// mapping `[uprobes]`, for a process where the top was taken.
#[inline(always)]
fn is_trampoline(process: u32, word: u64, stack_pointer: u64) -> bool {
    let Some(state) = PROCESSES.get_ptr_mut(process) else {
        return false;
    };
    // SAFETY: the pointer is a live map value; all writers write the same value.
    let known = unsafe { &raw mut (*state).trampoline };
    // SAFETY: as above.
    match unsafe { known.read_volatile() } {
        0 => {
            let seen = word & (PAGE_BYTES - 1) == 0 && word > stack_pointer;
            if seen {
                // SAFETY: as above.
                unsafe { known.write_volatile(word) };
            }
            seen
        }
        known => word == known,
    }
}

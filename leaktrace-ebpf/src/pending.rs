//! The outermost call of each thread in each lane. Only it counts: what an allocator calls inside
//! itself (mmap in malloc, malloc in realloc) is part of it. What a mapping call makes of the heap is not.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use aya_log_ebpf::debug;
use leaktrace_common::arch::{self, WORD_BYTES};
use leaktrace_common::call::{Call, Ending};
use leaktrace_common::lane::Lane;
use leaktrace_common::ledger::PendingCall;
use leaktrace_common::limits::{MAX_NESTED_STACK_BYTES, PAGE_BYTES};
use leaktrace_common::loss::Loss;

use crate::call::Entry;
use crate::maps::{IDLE_CALL, PENDING, PROCESSES};
use crate::walk::Passage;
use crate::{live, loss, nesting, registers};

/// The map of pending calls is full.
pub struct NoSlot;

/// Thread id of the running thread, in the initial pid namespace.
#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// The running thread's slot in a lane, if it has one.
#[inline(always)]
pub fn existing(lane: Lane) -> Option<*mut PendingCall> {
    PENDING.get_ptr_mut(lane.slot_of(current_tid()))
}

/// The running thread's slot in a lane, made when this is its first call; `None` when the map is
/// full.
#[inline(always)]
pub fn slot(lane: Lane) -> Option<*mut PendingCall> {
    let key = lane.slot_of(current_tid());
    if let Some(slot) = PENDING.get_ptr_mut(key) {
        return Some(slot);
    }
    let idle = IDLE_CALL.get(0)?;
    // Ignored: only this thread inserts its keys, so the look-up tells whether there was room.
    let _ = PENDING.insert(key, idle, u64::from(BPF_NOEXIST));
    PENDING.get_ptr_mut(key)
}

/// Gives back the slots of a thread that has ended; a call that was under way is given up.
#[inline(always)]
pub fn forget(tid: u32, process: u32) {
    for lane in 0..Lane::COUNT {
        let key = Lane::from_number(lane as u8).slot_of(tid);
        if let Some(slot) = PENDING.get_ptr_mut(key) {
            abandon(slot, process);
            // Ignored: nobody else removes this thread's slots.
            let _ = PENDING.remove(key);
        }
    }
}

/// Whether a call that enters at `stack_pointer` runs inside the call of the slot.
///
/// A stack pointer above the remembered one proves that the remembered call has ended without a
/// return (longjmp, exception); so does a return address that is not in its place any more, or that
/// the kernel's trampoline does not cover; so does a stack that leads past it. When the stack does not
/// tell, a caller in the main program counts as proof if the remembered call is one of a library's
/// functions, which hardly ever call back. At the same stack pointer with the trampoline in place, the
/// outer function has jumped to the inner one instead of calling it (reallocarray to realloc in glibc).
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
    let remembered = Call::from_cookie(call.cookie);
    if remembered.ending == Ending::Ret {
        // Nothing marks the place on the stack. The same function at the same stack pointer was
        // called again, because an exception has ended the call that is remembered; another one
        // there was jumped to.
        let again = stack_pointer == outer && entry.call().function == remembered.function;
        return word == call.return_address
            && !again
            && (stack_pointer == outer
                || nesting::passage(entry, process, outer) != Passage::Past);
    }
    if !is_trampoline(process, word, outer) {
        return false;
    }
    if stack_pointer == outer {
        return true;
    }
    match nesting::passage(entry, process, outer) {
        Passage::Through => true,
        Passage::Past => false,
        Passage::Unknown => !comes_from_outside(call, process, entry),
    }
}

/// Whether the call at `stack_pointer` is made by the main program while the remembered one is in
/// a library. Stale words on the stack can look like a live outer call; this tells most apart.
#[inline(always)]
fn comes_from_outside(call: &PendingCall, process: u32, entry: &Entry) -> bool {
    let Some(state) = PROCESSES.get_ptr(process) else {
        return false;
    };
    // SAFETY: the pointer is a live map value that user space wrote before the session was armed.
    let (start, end) = unsafe { ((*state).program_start, (*state).program_end) };
    if call.instruction_pointer >= start && call.instruction_pointer < end {
        return false;
    }
    let caller = match entry.call().lane {
        Lane::SYSCALLS => entry.instruction_pointer,
        // SAFETY: the helper checks the address.
        _ => unsafe { bpf_probe_read_user(entry.stack_pointer as *const u64) }.unwrap_or(0),
    };
    caller >= start && caller < end
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
    let lane = entry.call().lane;
    let Some(slot) = slot(lane) else {
        debug!(ctx, "no room for the pending call of a thread");
        return Err(NoSlot);
    };
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let current = unsafe { &mut *slot };
    if current.stack_pointer != 0 {
        // Of operators that call one another the innermost counts: an exception leaves them often,
        // and then what is remembered tells nothing.
        if lane != Lane::OPERATORS && encloses(current, process, entry) {
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

/// Whether a mapping call is one that an allocator makes for itself.
#[inline(always)]
pub fn is_allocators_own(process: u32, entry: &Entry) -> bool {
    is_inside(Lane::MAIN, process, entry) || is_inside(Lane::OPERATORS, process, entry)
}

/// Whether a call runs inside the one that the thread has under way in a lane.
#[inline(always)]
pub fn is_inside(lane: Lane, process: u32, entry: &Entry) -> bool {
    match existing(lane) {
        // SAFETY: the slot belongs to the running thread, and nothing else writes it.
        Some(slot) => encloses(unsafe { &*slot }, process, entry),
        None => false,
    }
}

/// Ends the outermost call of a lane, if this `ret` instruction is its end: the call and what it
/// returns. Code that several functions jump to ends calls of all of them.
#[inline(always)]
pub fn returning(
    ctx: &ProbeContext,
    lane: Lane,
    process: u32,
) -> Option<(&'static mut PendingCall, u64)> {
    let slot = existing(lane)?;
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let current = unsafe { &mut *slot };
    // SAFETY: the context of a uprobe program is its register set.
    let (stack_pointer, result) = unsafe {
        (
            registers::stack_pointer(ctx.regs),
            registers::result(ctx.regs),
        )
    };
    if current.stack_pointer == 0 || stack_pointer != current.stack_pointer {
        return None;
    }
    // SAFETY: the helper checks the address.
    let word = unsafe { bpf_probe_read_user(stack_pointer as *const u64) }.ok()?;
    // A return probe of somebody else may have hidden the address.
    if word != current.return_address && !is_trampoline(process, word, stack_pointer) {
        return None;
    }
    current.stack_pointer = 0;
    Some((current, result))
}

/// Ends the outermost call, if this is its return: the call and what it returned.
#[inline(always)]
pub fn returned(ctx: &RetProbeContext, lane: Lane) -> Option<(&'static mut PendingCall, u64)> {
    let slot = existing(lane)?;
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    let current = unsafe { &mut *slot };
    // SAFETY: the context of a uretprobe program is its register set.
    let (stack_pointer, result) = unsafe {
        (
            registers::stack_pointer(ctx.regs),
            registers::result(ctx.regs),
        )
    };
    // The return has popped the return address. Returns of nested calls have a lower one.
    if current.stack_pointer == 0 || stack_pointer != current.stack_pointer + WORD_BYTES {
        return None;
    }
    current.stack_pointer = 0;
    Some((current, result))
}

/// Return address of the call of the running thread that has this word in its place, in this slot of the
/// stack; 0 when there is no such call. Not inlined: there is one look-up for each lane.
#[inline(never)]
pub fn covered(slot: u64, word: u64) -> u64 {
    for lane in 0..Lane::COUNT {
        let Some(call) = existing(Lane::from_number(lane as u8)) else {
            continue;
        };
        // SAFETY: the slot belongs to the running thread, and nothing else writes it.
        let call = unsafe { &*call };
        // One that was jumped to has found the trampoline there itself.
        if call.stack_pointer == slot && call.return_address != word {
            return call.return_address;
        }
    }
    0
}

/// Gives up a call that never returned: what a realloc had taken out of the ledger goes back,
/// because it is not known to be freed. An operator that did not return has thrown: nothing is
/// lost with it.
#[inline(always)]
pub fn abandon(slot: *mut PendingCall, process: u32) {
    // SAFETY: the slot belongs to the running thread, and nothing else writes it.
    unsafe { give_up(slot, u64::from(process)) };
}

/// A function of its own with global linkage: the verifier looks at it once, and not once for each of
/// the states that it leaves behind.
///
/// # Safety
///
/// `slot` is null or a slot that nothing else writes.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn give_up(slot: *mut PendingCall, process: u64) -> u64 {
    if slot.is_null() {
        return 0;
    }
    let process = process as u32;
    // SAFETY: not null, so it is a slot that may be written.
    let call = unsafe { &mut *slot };
    if call.stack_pointer == 0 {
        return 0;
    }
    call.stack_pointer = 0;
    let lane = Call::from_cookie(call.cookie).lane;
    if lane != Lane::OPERATORS {
        loss::count(process, Loss::CallAbandoned, call.size_bytes);
    }
    put_back(call, process, lane);
    0
}

/// Puts back what a realloc has taken out of the ledger.
#[inline(always)]
pub fn put_back(call: &mut PendingCall, process: u32, lane: Lane) {
    if call.parked_address != 0 {
        live::restore(process, lane, call.parked_address, &call.parked);
        call.parked_address = 0;
    }
}

/// Whether a word where a return address belongs is the kernel's uretprobe trampoline.
///
/// The trampoline is the start of a page that the kernel maps into the process when a return probe
/// fires first. It is known by its code, and from then on by its address. User space enters the
/// address too, from the mapping `[uprobes]`. Until a return has gone through the page, it cannot be
/// read from here: then it counts as the trampoline unseen, and so does code of kernels to come
/// if it lies above the stack, where the kernel puts the page unless the place is taken.
#[inline(always)]
fn is_trampoline(process: u32, word: u64, stack_pointer: u64) -> bool {
    let Some(state) = PROCESSES.get_ptr_mut(process) else {
        return false;
    };
    // SAFETY: the pointer is a live map value; all writers write the same value.
    let known = unsafe { &raw mut (*state).trampoline };
    // SAFETY: as above.
    match unsafe { known.read_volatile() } {
        0 if word & (PAGE_BYTES - 1) != 0 || word == 0 => false,
        // SAFETY: the helper checks the address.
        0 => match unsafe { bpf_probe_read_user(word as *const u64) } {
            Ok(code) if arch::is_trampoline(code) => {
                // SAFETY: as above.
                unsafe { known.write_volatile(word) };
                true
            }
            Ok(_) => word > stack_pointer,
            Err(_) => true,
        },
        known => word == known,
    }
}

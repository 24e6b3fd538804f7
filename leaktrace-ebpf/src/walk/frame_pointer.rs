//! The walk along saved frame pointers: whole stacks only for code that is built with them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use leaktrace_common::limits::{
    MAX_BRIDGE_CHAIN, MAX_FRAMES, MAX_FRAMES_WITHOUT_LOOP, MAX_STACK_SPAN_BYTES,
};
use leaktrace_common::stack::{BridgeKey, StackEnd};

use super::window::{pair, word};
use super::{CONTINUE, STOP, enter_mapping, push};
use crate::maps::{BRIDGES, HAS_LOOP, PROCESSES};
use crate::process;
use crate::scratch::Scratch;

/// Fills the record's frames and its end.
#[inline(always)]
pub(super) fn walk(area: *mut Scratch, process: u32) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    walk.frame_pointer = walk.beginning.frame_pointer;
    walk.floor = walk.beginning.stack_pointer;
    let caller = cross_bridges(walk, process, walk.return_address);
    enter_mapping(walk, caller);
    push(walk, caller);
    follow(area);
}

/// Leaves `operator new` and its like out: they are allocation functions, not frames, and they
/// keep no frame pointer, so that their caller would be lost with them.
#[inline(always)]
fn cross_bridges(walk: &mut Scratch, process: u32, caller: u64) -> u64 {
    let Some(state) = PROCESSES.get_ptr(process) else {
        return caller;
    };
    // SAFETY: the pointer is a live map value; volatile because user space writes it.
    let (start, end) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*state).bridges_start),
            core::ptr::read_volatile(&raw const (*state).bridges_end),
        )
    };
    let mut caller = caller;
    let mut crossed = 0;
    while crossed < MAX_BRIDGE_CHAIN && caller >= start && caller < end {
        match cross(walk, process, caller) {
            Some(next) => caller = next,
            None => break,
        }
        crossed += 1;
    }
    caller
}

/// The caller of the bridged function that `address` is in.
#[inline(always)]
fn cross(walk: &mut Scratch, process: u32, address: u64) -> Option<u64> {
    let key = BridgeKey {
        address,
        process: process::bridges_of(process),
        padding: 0,
    };
    let place = BRIDGES.get_ptr(key)?;
    // SAFETY: the pointer is a live map value, written before it is read.
    let bridge = unsafe { *place };
    // `floor` is where the return address stands; the stack pointer is above it after the return.
    let cfa = walk.floor + 8 + u64::from(bridge.cfa_offset);
    if bridge.frame_pointer_below_cfa != 0 {
        walk.frame_pointer = word(
            &mut walk.window,
            cfa - u64::from(bridge.frame_pointer_below_cfa),
        )?;
    }
    let next = word(&mut walk.window, cfa - 8)?;
    walk.floor = cfa - 8;
    Some(next)
}

/// Follows saved frame pointers. bpf_loop (Linux 5.17) has the verifier look at the body once;
/// a plain loop of 32 frames costs it 64,000 instructions.
#[inline(always)]
fn follow(area: *mut Scratch) {
    if HAS_LOOP.load() == 0 {
        return follow_some(area);
    }
    let mut context = area;
    // SAFETY: the callback gets the address of `context`, which outlives the call.
    unsafe {
        bpf_loop(
            MAX_FRAMES as u32,
            step as *mut c_void,
            (&raw mut context).cast(),
            0,
        );
    }
}

/// The same on kernels without bpf_loop: fewer frames, because the verifier looks at each of them.
#[inline(always)]
fn follow_some(area: *mut Scratch) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    let mut frame = 0;
    while frame < MAX_FRAMES_WITHOUT_LOOP {
        if let Some(end) = next_frame(walk) {
            walk.stack.record.end = end as u8;
            return;
        }
        frame += 1;
    }
    walk.stack.record.end = StackEnd::TooDeep as u8;
}

unsafe extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `follow` passes the address of a pointer to the area that this walk has taken.
    let walk = unsafe { &mut **context.cast::<*mut Scratch>() };
    match next_frame(walk) {
        None => CONTINUE,
        Some(end) => {
            walk.stack.record.end = end as u8;
            STOP
        }
    }
}

#[inline(always)]
fn next_frame(walk: &mut Scratch) -> Option<StackEnd> {
    let at = walk.frame_pointer;
    if at == 0 {
        // The first code of a thread clears the register, and the frames above it have saved that.
        // At the entry itself a zero is only what a caller without frame pointers left there.
        return Some(match walk.stack.record.depth {
            0 | 1 => StackEnd::NoFramePointer,
            _ => StackEnd::Complete,
        });
    }
    if at <= walk.floor || at - walk.floor > MAX_STACK_SPAN_BYTES || at & 7 != 0 {
        return Some(StackEnd::NoFramePointer);
    }
    let Some((saved, address)) = pair(&mut walk.window, at) else {
        return Some(StackEnd::Unreadable);
    };
    if address == 0 {
        return Some(StackEnd::Complete);
    }
    if !enter_mapping(walk, address) {
        return Some(StackEnd::NoMapping);
    }
    if !push(walk, address) {
        return Some(StackEnd::TooDeep);
    }
    walk.floor = at;
    walk.frame_pointer = saved;
    None
}

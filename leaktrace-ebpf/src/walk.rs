//! The stack walk at the entry of a call: the caller from [rsp], then saved frame pointers.
//!
//! At the entry of the outermost call the return address is still the caller's own; the kernel's
//! own walker (bpf_get_stackid) starts at the frame pointer and so loses the caller.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_user as read_user_bytes};
use leaktrace_common::limits::{MAX_BRIDGE_CHAIN, MAX_FRAMES, MAX_STACK_SPAN_BYTES, PAGE_BYTES};
use leaktrace_common::mapping;
use leaktrace_common::stack::{BridgeKey, Source, StackEnd, hash_end, hash_frame, hash_start};

use crate::call::Entry;
use crate::maps::{BRIDGES, MAPPINGS, PROCESSES};
use crate::process;
use crate::scratch::{Scratch, WINDOW_BYTES, WINDOW_WORDS};

const CONTINUE: i64 = 0;
const STOP: i64 = 1;

/// The word at the stack pointer, 0 when it cannot be read.
#[inline(always)]
pub fn return_address(entry: &Entry) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(entry.stack_pointer as *const u64) }.unwrap_or(0)
}

/// Fills the area's record with the stack of the call.
#[inline(always)]
pub fn take(area: *mut Scratch, entry: &Entry, process: u32, source: Source) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    walk.table = current_table(process);
    walk.frame_pointer = entry.frame_pointer;
    walk.floor = entry.stack_pointer;
    walk.hash = hash_start(process, source);
    walk.mapping_start = 0;
    walk.mapping_end = 0;
    walk.window_words = 0;
    walk.record.process = process as u16;
    walk.record.source = source as u8;
    walk.record.end = StackEnd::Unreadable as u8;
    walk.record.depth = 0;
    walk.return_address = 0;
    if let Some(caller) = word(walk, entry.stack_pointer) {
        walk.return_address = caller;
        let caller = cross_bridges(walk, process, caller);
        if !is_code(walk, caller) {
            process::note_unknown_code(process);
        }
        push(walk, caller);
        follow(area);
    }
    // SAFETY: as above.
    let walk = unsafe { &mut *area };
    walk.record.hash = hash_end(hash_frame(walk.hash, u64::from(walk.record.end)));
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
        process: process::code_of(process),
        padding: 0,
    };
    let place = BRIDGES.get_ptr(key)?;
    // SAFETY: the pointer is a live map value, written before it is read.
    let bridge = unsafe { *place };
    // `floor` is where the return address stands; the stack pointer is above it after the return.
    let cfa = walk.floor + 8 + u64::from(bridge.cfa_offset);
    if bridge.frame_pointer_below_cfa != 0 {
        walk.frame_pointer = word(walk, cfa - u64::from(bridge.frame_pointer_below_cfa))?;
    }
    let next = word(walk, cfa - 8)?;
    walk.floor = cfa - 8;
    Some(next)
}

/// Follows saved frame pointers. bpf_loop (Linux 5.17) has the verifier look at the body once;
/// a plain loop of 32 frames costs it 64,000 instructions.
#[inline(always)]
fn follow(area: *mut Scratch) {
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

unsafe extern "C" fn step(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `follow` passes the address of a pointer to the area that this walk has taken.
    let walk = unsafe { &mut **context.cast::<*mut Scratch>() };
    match next_frame(walk) {
        None => CONTINUE,
        Some(end) => {
            walk.record.end = end as u8;
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
        return Some(match walk.record.depth {
            0 | 1 => StackEnd::NoFramePointer,
            _ => StackEnd::Complete,
        });
    }
    if at <= walk.floor || at - walk.floor > MAX_STACK_SPAN_BYTES || at & 7 != 0 {
        return Some(StackEnd::NoFramePointer);
    }
    let Some((saved, address)) = pair(walk, at) else {
        return Some(StackEnd::Unreadable);
    };
    if address == 0 {
        return Some(StackEnd::Complete);
    }
    if !is_code(walk, address) {
        process::note_unknown_code(u32::from(walk.record.process));
        return Some(StackEnd::NoMapping);
    }
    if !push(walk, address) {
        return Some(StackEnd::TooDeep);
    }
    walk.floor = at;
    walk.frame_pointer = saved;
    None
}

/// Appends a frame; `false` when there is no room.
#[inline(always)]
fn push(walk: &mut Scratch, address: u64) -> bool {
    let depth = walk.record.depth as usize;
    if depth >= MAX_FRAMES {
        return false;
    }
    walk.record.frames[depth] = address;
    walk.record.depth = depth as u32 + 1;
    walk.hash = hash_frame(walk.hash, address);
    true
}

/// Whether the address lies in an executable mapping that is known.
#[inline(always)]
fn is_code(walk: &mut Scratch, address: u64) -> bool {
    if address >= walk.mapping_start && address < walk.mapping_end {
        return true;
    }
    let Some(table) = MAPPINGS.get(walk.table) else {
        return false;
    };
    let index = mapping::search(table, address);
    let (start, end) = (table.starts[index], table.ends[index]);
    if address < start || address >= end {
        return false;
    }
    walk.mapping_start = start;
    walk.mapping_end = end;
    true
}

/// The word at `address` and the one behind it: a saved frame pointer and its return address.
#[inline(always)]
fn pair(walk: &mut Scratch, address: u64) -> Option<(u64, u64)> {
    let index = address.wrapping_sub(walk.window_start) >> 3;
    if index + 1 < walk.window_words {
        let first = walk.window[(index as usize) & (WINDOW_WORDS - 1)];
        return Some((
            first,
            walk.window[(index as usize + 1) & (WINDOW_WORDS - 1)],
        ));
    }
    Some((word(walk, address)?, word(walk, address + 8)?))
}

/// One word of the stack, through the window. One read of many words costs as much as two or
/// three reads of a word; crossing into a page that is not there costs six times as much.
#[inline(always)]
fn word(walk: &mut Scratch, address: u64) -> Option<u64> {
    let mut index = address.wrapping_sub(walk.window_start) >> 3;
    if walk.window_words == 0 || index >= walk.window_words {
        let length = (PAGE_BYTES - (address & (PAGE_BYTES - 1))).min(WINDOW_BYTES);
        walk.window_words = 0;
        // SAFETY: the length is at most that of the window; the helper checks the address.
        let failed = unsafe {
            read_user_bytes(
                walk.window.as_mut_ptr().cast(),
                length as u32,
                address as *const _,
            )
        };
        if failed != 0 {
            return None;
        }
        walk.window_start = address;
        walk.window_words = length >> 3;
        index = 0;
    }
    Some(walk.window[(index as usize) & (WINDOW_WORDS - 1)])
}

#[inline(always)]
fn current_table(process: u32) -> u32 {
    let code = process::code_of(process);
    match PROCESSES.get_ptr(code) {
        // SAFETY: the pointer is a live map value; volatile because user space writes it.
        Some(state) => unsafe {
            code * 2 + (core::ptr::read_volatile(&raw const (*state).mapping_table) & 1)
        },
        None => 0,
    }
}

//! The stack walk at the entry of a call: the caller from [rsp], then by .eh_frame, or by saved
//! frame pointers alone when the user wants that.
//!
//! At the entry of the outermost call the return address is still the caller's own; the kernel's
//! own walker (bpf_get_stackid) starts at the frame pointer and so loses the caller.

mod eh_frame;
mod frame_pointer;
mod window;

use aya_ebpf::helpers::bpf_probe_read_user;
use leaktrace_common::limits::MAX_FRAMES;
use leaktrace_common::mapping;
use leaktrace_common::stack::{Source, StackEnd, hash_end, hash_frame, hash_start};
use leaktrace_common::unwind::Registers;

use crate::code;
use crate::maps::{EH_FRAME, MAPPINGS, PROCESSES};
use crate::process;
use crate::scratch::Scratch;

const CONTINUE: i64 = 0;
const STOP: i64 = 1;

/// Registers at the entry of the call.
pub struct Start {
    /// 0 at the entry of a function, whose return address stands at the stack pointer; else the
    /// walk starts with this address, and nothing of its own is on the stack.
    pub instruction_pointer: u64,
    /// Stack pointer.
    pub stack_pointer: u64,
    /// Frame pointer of the caller, if it keeps one.
    pub frame_pointer: u64,
}

/// The word at the stack pointer, 0 when it cannot be read.
#[inline(always)]
pub fn return_address(stack_pointer: u64) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(stack_pointer as *const u64) }.unwrap_or(0)
}

/// Begins a stack without frames: what is known before the walk.
#[inline(always)]
pub fn begin(area: *mut Scratch, start: &Start, process: u32, source: Source) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    walk.table = current_table(process);
    walk.hash = hash_start(process, source);
    walk.mapping_start = 0;
    walk.mapping_end = 0;
    walk.window.count = 0;
    walk.record.process = process as u16;
    walk.record.source = source as u8;
    walk.record.end = StackEnd::Unreadable as u8;
    walk.record.depth = 0;
    walk.unknown_code = 0;
    let (address, stack_pointer) = match start.instruction_pointer {
        0 => (
            window::word(&mut walk.window, start.stack_pointer).unwrap_or(0),
            start.stack_pointer.wrapping_add(8),
        ),
        address => (address, start.stack_pointer),
    };
    walk.return_address = address;
    walk.registers = Registers {
        pc: address,
        sp: stack_pointer,
        fp: start.frame_pointer,
        interrupted: 0,
    };
}

/// Fills the area's record with the stack of the call, as far as it could be followed.
#[inline(always)]
pub fn take(area: *mut Scratch, start: &Start, process: u32) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    if unsafe { (*area).return_address } != 0 {
        match EH_FRAME.load() {
            0 => frame_pointer::walk(area, start, process),
            _ => eh_frame::walk(area),
        }
    }
    // SAFETY: as above.
    let walk = unsafe { &mut *area };
    if walk.unknown_code != 0 {
        code::note_unknown(process);
    }
    walk.record.hash = hash_end(hash_frame(walk.hash, u64::from(walk.record.end)));
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

/// Makes the mapping of the address the walk's; `false` when the address lies in no executable
/// mapping that is known.
#[inline(always)]
fn enter_mapping(walk: &mut Scratch, address: u64) -> bool {
    if address >= walk.mapping_start && address < walk.mapping_end {
        return true;
    }
    let Some(table) = MAPPINGS.get(walk.table) else {
        return false;
    };
    let index = mapping::search(table, address);
    let (start, end) = (table.starts[index], table.ends[index]);
    if address < start || address >= end {
        walk.unknown_code = 1;
        return false;
    }
    walk.mapping_start = start;
    walk.mapping_end = end;
    walk.mapping_base = table.bases[index];
    walk.mapping_table = table.tables[index];
    true
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

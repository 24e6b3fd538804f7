//! The stack walk at the entry of a call: the caller from [rsp], then by .eh_frame, or by saved
//! frame pointers alone when the user wants that. A stack that was walked before is known by the
//! words that have decided that walk.
//!
//! At the entry of the outermost call the return address is still the caller's own; the kernel's
//! own walker (bpf_get_stackid) starts at the frame pointer and so loses the caller.

mod eh_frame;
mod frame_pointer;
mod memo;
mod window;

use aya_ebpf::helpers::bpf_probe_read_user;
use leaktrace_common::mapping;
use leaktrace_common::stack::{Source, StackEnd, hash_end, hash_frame, hash_start};

use crate::code::{self, Known};
use crate::maps::{EH_FRAME, MAPPINGS};
use crate::scratch::Scratch;

const CONTINUE: i64 = 0;
const STOP: i64 = 1;

/// The word at the stack pointer, 0 when it cannot be read.
#[inline(always)]
pub fn return_address(stack_pointer: u64) -> u64 {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(stack_pointer as *const u64) }.unwrap_or(0)
}

/// Process in the lower half and source in the upper one: five arguments are all that a function can
/// have.
#[inline(always)]
pub const fn owner(process: u32, source: Source) -> u64 {
    process as u64 | (source as u64) << 32
}

/// Begins a stack without frames: what is known before the walk. Not inlined: what it keeps on the
/// BPF stack would lie there below the walk, and there is no room for both (Linux 6.1).
#[inline(never)]
pub fn begin(
    area: *mut Scratch,
    instruction_pointer: u64,
    stack_pointer: u64,
    frame_pointer: u64,
    owner: u64,
) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    walk.instruction_pointer = instruction_pointer;
    walk.beginning.stack_pointer = stack_pointer;
    walk.beginning.frame_pointer = frame_pointer;
    let process = owner as u32;
    let source = Source::from_number((owner >> 32) as u32);
    walk.stack.record.process = process as u16;
    walk.stack.record.source = source as u8;
    let code = code::known(process).unwrap_or(Known::NOTHING);
    walk.removals = u64::from(code.removals);
    walk.in_doubt = u32::from(code.in_doubt);
    walk.table = code.table();
    walk.beginning.code = code.generation;
    // Not its place in the table: a child in the place of one that has ended has sites of its own.
    walk.beginning.caller = u64::from(code.serial) << 8 | source as u64;
    walk.hash = hash_start(process, source);
    walk.mapping_start = 0;
    walk.mapping_end = 0;
    walk.stack.record.end = StackEnd::Unreadable as u8;
    walk.stack.record.depth = 0;
    walk.unknown_code = 0;
    walk.stop_above = u64::MAX;
    walk.interrupted = 0;
    let (stack_pointer, frame_pointer) =
        (walk.beginning.stack_pointer, walk.beginning.frame_pointer);
    let first = window::begin(&mut walk.window, stack_pointer);
    walk.window.trail.begin(stack_pointer, frame_pointer);
    walk.memo = memo::NONE;
    walk.registers.fp = frame_pointer;
    walk.registers.interrupted = 0;
    walk.registers.pc = walk.instruction_pointer;
    walk.registers.sp = stack_pointer;
    if walk.instruction_pointer == 0 {
        walk.registers.pc = first;
        walk.registers.sp = stack_pointer.wrapping_add(8);
        if first != 0 {
            walk.window.trail.note(stack_pointer, first);
            walk.memo = memo::place(stack_pointer, first);
        }
    }
    walk.return_address = walk.registers.pc;
}

/// Fills the area's record with the stack of the call, as far as it could be followed.
#[inline(always)]
pub fn take(area: *mut Scratch, process: u32) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    if unsafe { (*area).return_address } != 0 {
        match EH_FRAME.load() {
            0 => frame_pointer::walk(area, process),
            _ => eh_frame::walk(area),
        }
    }
    // SAFETY: as above.
    let walk = unsafe { &mut *area };
    if walk.unknown_code != 0 {
        code::note_unknown(process);
    }
    walk.stack.record.hash = hash_end(hash_frame(walk.hash, u64::from(walk.stack.record.end)));
}

/// How a stack relates to a slot of a return address further up.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Passage {
    /// The stack could not be followed that far.
    Unknown = 0,
    /// The function that the slot belongs to is one of those that have led here.
    Through = 1,
    /// It is not: the slot is what a call that has ended left on the stack, or a signal handler has led
    /// here, which has interrupted the function.
    Past = 2,
}

impl Passage {
    /// The one with this number.
    #[inline(always)]
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Through,
            2 => Self::Past,
            _ => Self::Unknown,
        }
    }
}

/// Walks up to a slot, by .eh_frame alone: what is found in any other way may have missed a frame.
#[inline(always)]
pub fn to(area: *mut Scratch, slot: u64) -> Passage {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    if walk.return_address == 0 || EH_FRAME.load() == 0 {
        return Passage::Unknown;
    }
    walk.stop_above = slot;
    eh_frame::walk(area);
    // SAFETY: as above.
    let (reached, interrupted) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*area).registers.sp),
            core::ptr::read_volatile(&raw const (*area).interrupted),
        )
    };
    match reached {
        below if below <= slot => Passage::Unknown,
        behind if behind == slot.wrapping_add(8) && interrupted == 0 => Passage::Through,
        _ => Passage::Past,
    }
}

/// The site of the stack, if it was walked before.
#[inline(always)]
pub fn remembered(area: *mut Scratch) -> Option<u32> {
    match EH_FRAME.load() {
        0 => None,
        _ => memo::find(area),
    }
}

/// Has the stack's site remembered.
#[inline(always)]
pub fn remember(area: *mut Scratch, site: u32, process: u32) {
    if EH_FRAME.load() != 0 {
        memo::keep(area, site, process);
    }
}

/// Appends a frame; `false` when there is no room.
#[inline(always)]
fn push(walk: &mut Scratch, address: u64) -> bool {
    let stored = walk.stack.push(address);
    if stored {
        walk.hash = hash_frame(walk.hash, address);
    }
    stored
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

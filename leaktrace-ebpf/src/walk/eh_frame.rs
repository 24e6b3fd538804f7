//! The walk by .eh_frame: exact for all code that has it, however it was built. Code without it
//! (made at run time, or written in assembly) is crossed by its frame pointer, if it keeps one.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use leaktrace_common::arch::WORD_BYTES;
use leaktrace_common::limits::{MAX_BRIDGE_CHAIN, MAX_FRAMES, SHARD_CHUNKS};
use leaktrace_common::mapping::TableRef;
use leaktrace_common::stack::StackEnd;
use leaktrace_common::unwind::{
    BLOCK_BYTES, CHUNK_BLOCKS, Chunk, Registers, Row, RowKind, find, step, step_by_frame_pointer,
};

use super::{CONTINUE, STOP, enter_mapping, memo, push};
use crate::maps::{RARE_RULES, UNWIND};
use crate::pending;
use crate::scratch::Scratch;

/// A step for each frame, for those that are hidden, and for the one that finds no room.
const MAX_STEPS: u32 = MAX_FRAMES as u32 + MAX_BRIDGE_CHAIN + 1;

/// Fills the record's frames and its end, from the area's registers on.
#[inline(always)]
pub(super) fn walk(area: *mut Scratch) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    unsafe { walk_by_rules(area) };
}

/// A function of its own with global linkage: the verifier looks at it once, and not once for each of
/// the states in which the ways that lead here can be, which took it half of the time of an attach. It
/// therefore takes memory only.
///
/// bpf_loop (Linux 5.17) has the verifier look at the body once; a plain loop of 32 frames costs
/// it 64,000 instructions.
///
/// # Safety
///
/// `area` is null or an area that may be written.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn walk_by_rules(area: *mut Scratch) -> u64 {
    if area.is_null() {
        return 0;
    }
    let mut context = area;
    // SAFETY: the callback gets the address of `context`, which outlives the call.
    unsafe {
        bpf_loop(
            MAX_STEPS,
            one_frame as *mut c_void,
            (&raw mut context).cast(),
            0,
        );
    }
    0
}

unsafe extern "C" fn one_frame(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `walk` passes the address of a pointer to the area that this walk has taken.
    let walk = unsafe { &mut **context.cast::<*mut Scratch>() };
    match next_frame(walk) {
        Ok(up) => {
            walk.registers = up;
            walk.interrupted |= up.interrupted;
            match up.sp > walk.stop_above {
                true => STOP,
                false => CONTINUE,
            }
        }
        Err(end) => {
            walk.stack.record.end = end as u8;
            STOP
        }
    }
}

/// Stores the frame that the walk has come to, and goes to its caller.
#[inline(always)]
fn next_frame(walk: &mut Scratch) -> Result<Registers, StackEnd> {
    let mut at = walk.registers;
    let was_unknown = walk.unknown_code;
    let mut known = enter_mapping(walk, at.rule_address());
    if !known && uncover(&mut at) {
        // The words of the stack do not tell where this walk goes on.
        walk.memo = memo::NONE;
        walk.unknown_code = was_unknown;
        known = enter_mapping(walk, at.rule_address());
    }
    let address = at.rule_address();
    let row = match known {
        true => row_of(walk, address),
        false => Row::NO_INFO,
    };
    let hidden = row.is_hidden() && walk.stack.record.depth == 0;
    if !hidden && !push(walk, at.pc) {
        return Err(StackEnd::TooDeep);
    }
    if !known {
        return Err(StackEnd::NoMapping);
    }
    if row.kind() == RowKind::NoInfo {
        return without_info(walk, &at);
    }
    step(
        row,
        |index| RARE_RULES.get(index).copied(),
        &at,
        &mut walk.window,
    )
}

/// Puts the return address in place that a return probe of a call under way has covered: what runs
/// inside that call, and is none of its lane, has it on its stack.
#[inline(always)]
fn uncover(at: &mut Registers) -> bool {
    match pending::covered(at.sp.wrapping_sub(WORD_BYTES), at.pc) {
        0 => false,
        address => {
            at.pc = address;
            true
        }
    }
}

#[inline(always)]
fn without_info(walk: &mut Scratch, at: &Registers) -> Result<Registers, StackEnd> {
    if TableRef(walk.mapping_table) == TableRef::PENDING || walk.stop_above != u64::MAX {
        return Err(StackEnd::TableMissing);
    }
    let up = step_by_frame_pointer(at, &mut walk.window)?;
    // What a register held that is no frame pointer rarely leads to a word that points to code.
    if !enter_mapping(walk, up.pc.wrapping_sub(1)) {
        return Err(StackEnd::NoInfo);
    }
    Ok(up)
}

/// The rule for an address in the walk's mapping; none when its table has none.
#[inline(always)]
fn row_of(walk: &Scratch, address: u64) -> Row {
    let table = TableRef(walk.mapping_table);
    let number = address.wrapping_sub(walk.mapping_base) / BLOCK_BYTES;
    if table == TableRef::NONE || table == TableRef::PENDING || number >= table.blocks() {
        return Row::NO_INFO;
    }
    let number = number as u32;
    let Some(index) = chunk(table.chunk() + number / CHUNK_BLOCKS as u32) else {
        return Row::NO_INFO;
    };
    let block = index.block(u64::from(number) & (CHUNK_BLOCKS as u64 - 1));
    if let Some(row) = block.only_row() {
        return row;
    }
    if block.count() == 0 {
        return Row::NO_INFO;
    }
    match chunk(block.chunk()) {
        Some(rows) => find(rows, block, (address % BLOCK_BYTES) as u32),
        None => Row::NO_INFO,
    }
}

#[inline(always)]
fn chunk(number: u32) -> Option<&'static Chunk> {
    let place = number % SHARD_CHUNKS;
    UNWIND.get_value(number / SHARD_CHUNKS, &place)
}

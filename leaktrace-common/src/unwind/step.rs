//! From a frame to its caller: arithmetic over a row, registers and words of the stack.

use super::row::{RareBase, RareRule, Row, RowKind};
use crate::arch::{
    PLT_ENTRY_MASK, RETURN_ADDRESS_BELOW_CFA, SIGNAL_FRAME_POINTER, SIGNAL_PROGRAM_COUNTER,
    SIGNAL_STACK_POINTER, WORD_BYTES, return_address,
};
use crate::limits::MAX_STACK_SPAN_BYTES;
use crate::stack::StackEnd;

/// What is known of a frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Address of the code: behind a call, or where a signal came.
    pub pc: u64,
    /// Stack pointer there.
    pub sp: u64,
    /// Frame pointer register there.
    pub fp: u64,
    /// 0: `pc` is a return address, and the rule is that of the call before it. 1: `pc` was
    /// interrupted there.
    pub interrupted: u64,
}

impl Registers {
    /// The address whose rule holds.
    #[inline(always)]
    pub const fn rule_address(&self) -> u64 {
        self.pc.wrapping_sub(1 - (self.interrupted & 1))
    }
}

/// Where words of the stack come from.
pub trait StackMemory {
    /// The word at an address, which is a multiple of its size; `None` when it cannot be read.
    fn word(&mut self, address: u64) -> Option<u64>;

    /// The same for a word that is the caller's frame pointer, or whatever it keeps there.
    #[inline(always)]
    fn saved_frame_pointer(&mut self, address: u64) -> Option<u64> {
        self.word(address)
    }

    /// Told before a frame is found by the frame pointer that was read last.
    #[inline(always)]
    fn use_frame_pointer(&mut self) {}
}

/// The caller's registers, by the rule for `at`. `rare` is the rule that a row of kind
/// [`RowKind::Rare`] names, and is not looked at for other rows.
///
/// # Errors
///
/// Why the stack ends here; [`StackEnd::Complete`] when nobody called.
#[inline(always)]
pub fn step<M: StackMemory>(
    row: Row,
    rare: impl FnOnce(u32) -> Option<RareRule>,
    at: &Registers,
    memory: &mut M,
) -> Result<Registers, StackEnd> {
    let offset = u64::from(row.value()) * WORD_BYTES;
    let below = u64::from(row.saved()) * WORD_BYTES + RETURN_ADDRESS_BELOW_CFA;
    match row.kind() {
        RowKind::NoInfo => Err(StackEnd::NoInfo),
        RowKind::End => Err(StackEnd::Complete),
        RowKind::Unsupported => Err(StackEnd::RuleMissing),
        RowKind::Signal => interrupted(at, memory),
        RowKind::Rare => match rare(row.value()) {
            Some(rule) => by_rare_rule(&rule, at, memory),
            None => Err(StackEnd::RuleMissing),
        },
        RowKind::StackPointer => caller(at.sp.wrapping_add(offset), below, at, memory),
        RowKind::FramePointer => {
            memory.use_frame_pointer();
            caller(at.fp.wrapping_add(offset), below, at, memory)
        }
        RowKind::Plt => {
            let place = at.pc & PLT_ENTRY_MASK;
            let pushed = u64::from(place >= u64::from(row.value()));
            let cfa = at.sp.wrapping_add((1 + pushed) * WORD_BYTES);
            caller(cfa, below, at, memory)
        }
    }
}

/// The caller's registers by the frame pointer alone, for code without rules. The caller has to
/// make sure that the result lies in code.
///
/// # Errors
///
/// [`StackEnd::NoInfo`] when the register points to no frame above the stack pointer, which is also how a
/// chain ends: what looks like its end may be any zero that code without frame pointers works with.
#[inline(always)]
pub fn step_by_frame_pointer<M: StackMemory>(
    at: &Registers,
    memory: &mut M,
) -> Result<Registers, StackEnd> {
    memory.use_frame_pointer();
    let above = at.fp.wrapping_sub(at.sp);
    if above > MAX_STACK_SPAN_BYTES || at.fp & (WORD_BYTES - 1) != 0 {
        return Err(StackEnd::NoInfo);
    }
    let Some(fp) = memory.saved_frame_pointer(at.fp) else {
        return Err(StackEnd::Unreadable);
    };
    let Some(pc) = memory.word(at.fp + WORD_BYTES) else {
        return Err(StackEnd::Unreadable);
    };
    let pc = return_address(pc);
    if pc == 0 {
        return Err(StackEnd::NoInfo);
    }
    Ok(Registers {
        pc,
        sp: at.fp + 2 * WORD_BYTES,
        fp,
        interrupted: 0,
    })
}

/// `below` is the distance of the saved frame pointer below the CFA; that of the return address
/// itself when the register is untouched.
#[inline(always)]
fn caller<M: StackMemory>(
    cfa: u64,
    below: u64,
    at: &Registers,
    memory: &mut M,
) -> Result<Registers, StackEnd> {
    if cfa <= at.sp || cfa & (WORD_BYTES - 1) != 0 {
        return Err(StackEnd::BrokenFrame);
    }
    let Some(pc) = memory.word(cfa - RETURN_ADDRESS_BELOW_CFA) else {
        return Err(StackEnd::Unreadable);
    };
    let pc = return_address(pc);
    if pc == 0 {
        return Err(StackEnd::Complete);
    }
    let mut fp = at.fp;
    if below != RETURN_ADDRESS_BELOW_CFA {
        match memory.saved_frame_pointer(cfa - below) {
            Some(saved) => fp = saved,
            None => return Err(StackEnd::Unreadable),
        }
    }
    Ok(Registers {
        pc,
        sp: cfa,
        fp,
        interrupted: 0,
    })
}

#[inline(always)]
fn by_rare_rule<M: StackMemory>(
    rule: &RareRule,
    at: &Registers,
    memory: &mut M,
) -> Result<Registers, StackEnd> {
    if rule.cfa_base == RareBase::FramePointer as u16
        || rule.saved_base == RareBase::FramePointer as u16
    {
        memory.use_frame_pointer();
    }
    let base = match rule.cfa_base == RareBase::FramePointer as u16 {
        true => at.fp,
        false => at.sp,
    };
    let mut cfa = base.wrapping_add_signed(i64::from(rule.cfa_offset));
    if rule.cfa_loaded != 0 {
        if cfa & (WORD_BYTES - 1) != 0 {
            return Err(StackEnd::BrokenFrame);
        }
        match memory.word(cfa) {
            Some(saved) => cfa = saved,
            None => return Err(StackEnd::Unreadable),
        }
    }
    let mut up = caller(cfa, RETURN_ADDRESS_BELOW_CFA, at, memory)?;
    if rule.saved_base != RareBase::Untouched as u16 {
        let base = match rule.saved_base == RareBase::FramePointer as u16 {
            true => at.fp,
            false => cfa,
        };
        let place = base.wrapping_add_signed(i64::from(rule.saved_offset));
        if place & (WORD_BYTES - 1) != 0 {
            return Err(StackEnd::BrokenFrame);
        }
        match memory.saved_frame_pointer(place) {
            Some(saved) => up.fp = saved,
            None => return Err(StackEnd::Unreadable),
        }
    }
    Ok(up)
}

/// The registers that a signal has interrupted. Their stack may be another one (sigaltstack).
#[inline(always)]
fn interrupted<M: StackMemory>(at: &Registers, memory: &mut M) -> Result<Registers, StackEnd> {
    if at.sp & (WORD_BYTES - 1) != 0 {
        return Err(StackEnd::BrokenFrame);
    }
    // One after the other: LLVM saves a word that could not be read across the next read, and the
    // verifier (6.18) refuses that.
    let Some(fp) = memory.saved_frame_pointer(at.sp.wrapping_add(SIGNAL_FRAME_POINTER)) else {
        return Err(StackEnd::Unreadable);
    };
    let Some(sp) = memory.word(at.sp.wrapping_add(SIGNAL_STACK_POINTER)) else {
        return Err(StackEnd::Unreadable);
    };
    let Some(pc) = memory.word(at.sp.wrapping_add(SIGNAL_PROGRAM_COUNTER)) else {
        return Err(StackEnd::Unreadable);
    };
    Ok(Registers {
        pc,
        sp,
        fp,
        interrupted: 1,
    })
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;

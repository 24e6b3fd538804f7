//! Chooses the instruction of a function that a probe stands on. Pure: code bytes in,
//! [`Placement`] out.
//!
//! A uprobe on an instruction that the kernel emulates costs one exception; on any other, which it
//! executes out of line with the trap flag set, it costs two (13 times dearer on a nested
//! hypervisor, about 3 times on bare metal). And `endbr64`, the first instruction of every function
//! of a CET build, is not emulated.
//!
//! So a probe may move behind the entry, as long as everything that it looks at is as it was there:
//! the stack pointer, the arguments, and the callee-saved registers that a stack walk starts from;
//! and as long as each call passes the place exactly once. Where an indirect jump goes is not
//! known; compilers use them for switches and tail calls, never to come back into a prologue. A
//! part of the function that was split off (`.cold`) is not looked at for the same reason.

use crate::instructions::{Target, decode, is_emulated};

/// Where a probe stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Bytes behind the function's first instruction.
    pub offset: u64,
    /// What the kernel does with the instruction there.
    pub step: Step,
}

/// How the kernel gets past the instruction under a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Emulated: one exception a hit.
    Emulated,
    /// Executed out of line: a second exception.
    SingleStepped,
}

impl Placement {
    /// The function's first instruction: always right, not always cheap.
    pub fn at_entry(code: &[u8]) -> Self {
        let first = decode(code, 0).next().flatten();
        let emulated = first.is_some_and(|first| is_emulated(&code[..first.end as usize]));
        Self {
            offset: 0,
            step: if emulated {
                Step::Emulated
            } else {
                Step::SingleStepped
            },
        }
    }
}

/// The best place in the function with this whole `code` at `svma`, of which the first `arguments`
/// integer arguments are read: the first emulated instruction that every call reaches once with
/// nothing changed, else the entry.
pub fn place(code: &[u8], svma: u64, arguments: usize) -> Placement {
    match first_emulated(code, svma, arguments) {
        Some(offset) if is_passed_once(code, svma, offset) => Placement {
            offset,
            step: Step::Emulated,
        },
        _ => Placement::at_entry(code),
    }
}

/// Offset of the first emulated instruction that is reached without a branch or a change of what
/// must be kept.
fn first_emulated(code: &[u8], svma: u64, arguments: usize) -> Option<u64> {
    for instruction in decode(code, svma) {
        let instruction = instruction?;
        let [start, end] = [instruction.svma, instruction.end].map(|at| at.wrapping_sub(svma));
        if is_emulated(&code[start as usize..end as usize]) {
            return Some(start);
        }
        if !instruction.keeps_entry(arguments) {
            return None;
        }
    }
    None
}

/// No branch of the function leads behind its entry and not behind `offset`: such a loop would
/// hit the probe again. Code that cannot be decoded to its end could hide one.
fn is_passed_once(code: &[u8], svma: u64, offset: u64) -> bool {
    if offset == 0 {
        return true;
    }
    decode(code, svma).all(|instruction| match instruction.map(|known| known.target) {
        Some(Target::Address(target)) => !(1..=offset).contains(&target.wrapping_sub(svma)),
        Some(_) => true,
        None => false,
    })
}

#[cfg(test)]
mod tests;

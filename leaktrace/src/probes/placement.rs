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

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind,
    Register,
};

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
        let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
        let length = decoder.decode().len();
        let emulated = code.get(..length).is_some_and(is_emulated);
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

/// Registers of the first six integer arguments, System V ABI.
const ARGUMENTS: [Register; 6] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// The stack pointer and what a stack walk restores the caller's frames from.
const CALLEE_SAVED: [Register; 7] = [
    Register::RSP,
    Register::RBP,
    Register::RBX,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];

/// Offset of the first emulated instruction that is reached without a branch or a change of what
/// must be kept.
fn first_emulated(code: &[u8], svma: u64, arguments: usize) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    let mut information = InstructionInfoFactory::new();
    let kept = &ARGUMENTS[..arguments.min(ARGUMENTS.len())];
    while decoder.can_decode() {
        let start = decoder.position();
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        if is_emulated(&code[start..decoder.position()]) {
            return Some(start as u64);
        }
        if !can_walk_over(&instruction, &mut information, kept) {
            return None;
        }
    }
    None
}

fn can_walk_over(
    instruction: &Instruction,
    information: &mut InstructionInfoFactory,
    kept: &[Register],
) -> bool {
    if instruction.flow_control() != FlowControl::Next {
        return false;
    }
    let used = information.info(instruction);
    let clobbers = used.used_registers().iter().any(|register| {
        let full = register.register().full_register();
        writes(register.access()) && (kept.contains(&full) || CALLEE_SAVED.contains(&full))
    });
    // It could overwrite the return address.
    let writes_stack = used
        .used_memory()
        .iter()
        .any(|memory| writes(memory.access()) && memory.base() == Register::RSP);
    !clobbers && !writes_stack
}

fn writes(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// No branch of the function leads behind its entry and not behind `offset`: such a loop would
/// hit the probe again. Code that cannot be decoded to its end could hide one.
fn is_passed_once(code: &[u8], svma: u64, offset: u64) -> bool {
    if offset == 0 {
        return true;
    }
    let mut decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return false;
        }
        let target = branch_target(&instruction).map(|target| target.wrapping_sub(svma));
        if target.is_some_and(|target| (1..=offset).contains(&target)) {
            return false;
        }
    }
    true
}

fn branch_target(instruction: &Instruction) -> Option<u64> {
    let is_near = (0..instruction.op_count()).any(|operand| {
        matches!(
            instruction.op_kind(operand),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        )
    });
    is_near.then(|| instruction.near_branch_target())
}

/// Whether the kernel emulates this one whole instruction (arch/x86/kernel/uprobes.c,
/// `branch_setup_xol_ops` and `push_setup_xol_ops`): `push` of a register, `nop`, and relative
/// `jmp`, `call` and conditional jumps. By bytes, because prefixes matter: a branch or, before
/// 6.2, a `nop` with prefix 66 is refused altogether. Longer `nop`s are emulated only since 6.16.
fn is_emulated(instruction: &[u8]) -> bool {
    matches!(
        instruction,
        [0x50..=0x57]
            | [0x41, 0x50..=0x57]
            | [0x90]
            | [0xeb | 0x70..=0x7f, _]
            | [0xe8 | 0xe9, _, _, _, _]
            | [0x0f, 0x80..=0x8f, _, _, _, _]
    )
}

#[cfg(test)]
mod tests;

//! Instructions of x86-64, the System V ABI, and what Linux does with a probe on them.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, OpAccess, OpKind, Register,
};

use super::{Flow, Instruction, Target};

/// An instruction as the decoder has it.
pub(super) type Decoded = iced_x86::Instruction;

/// The instructions of a piece of code at `svma`, one behind the other; `None` where there is none.
pub fn decode(code: &[u8], svma: u64) -> impl Iterator<Item = Option<Instruction>> {
    let decoder = Decoder::with_ip(64, code, svma, DecoderOptions::NONE);
    decoder.into_iter().map(|decoded| {
        (!decoded.is_invalid()).then(|| Instruction {
            svma: decoded.ip(),
            end: decoded.next_ip(),
            flow: flow(&decoded),
            target: target(&decoded),
            is_landing_pad: decoded.code() == Code::Endbr64,
            decoded,
        })
    })
}

/// Whether the kernel emulates this one whole instruction under a probe (arch/x86/kernel/uprobes.c,
/// `branch_setup_xol_ops` and `push_setup_xol_ops`): `push` of a register, `nop`, and relative
/// `jmp`, `call` and conditional jumps. By bytes, because prefixes matter: a branch or, before
/// 6.2, a `nop` with prefix 66 is refused altogether. Longer `nop`s are emulated only since 6.16.
pub fn is_emulated(instruction: &[u8]) -> bool {
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

/// Registers of the first six integer arguments.
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

pub(super) fn keeps_entry(decoded: &Decoded, arguments: usize) -> bool {
    if decoded.flow_control() != FlowControl::Next {
        return false;
    }
    let kept = &ARGUMENTS[..arguments.min(ARGUMENTS.len())];
    let mut information = InstructionInfoFactory::new();
    let used = information.info(decoded);
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

fn flow(decoded: &Decoded) -> Flow {
    match decoded.flow_control() {
        // A transaction that is aborted goes on at a target, which is in the same function.
        FlowControl::Next | FlowControl::XbeginXabortXend => Flow::Next,
        FlowControl::ConditionalBranch => Flow::Branch,
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => Flow::Jump,
        FlowControl::Call | FlowControl::IndirectCall => Flow::Call,
        FlowControl::Return => Flow::Return,
        FlowControl::Exception | FlowControl::Interrupt => Flow::Trap,
    }
}

fn target(decoded: &Decoded) -> Target {
    match decoded.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            Target::Address(decoded.near_branch_target())
        }
        OpKind::Memory
            if decoded.memory_base() == Register::RIP
                && decoded.memory_index() == Register::None =>
        {
            Target::Through(decoded.memory_displacement64())
        }
        _ => Target::Unknown,
    }
}

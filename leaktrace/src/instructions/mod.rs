//! Turns machine code into what is asked of it: where each instruction leads, what it leaves alone, and
//! what a probe on it costs. Reads nothing and follows nothing.
//!
//! Another architecture is another file beside `x86_64.rs` with the same functions.

mod x86_64;

pub use x86_64::{decode, is_emulated};

/// Where the processor goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Next,
    /// To the next one or to its target.
    Branch,
    /// To its target.
    Jump,
    /// To its target, and from there back to the next one.
    Call,
    /// To where its function was called.
    Return,
    /// Into the kernel, which does not let the program go on here.
    Trap,
}

/// Where a jump or a call leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To this address.
    Address(u64),
    /// To the address that stands in this place of memory.
    Through(u64),
    /// Only the registers tell.
    Unknown,
}

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instruction {
    /// Its address.
    pub svma: u64,
    /// The address behind it.
    pub end: u64,
    /// What comes after it.
    pub flow: Flow,
    /// Where it leads, if it leads anywhere.
    pub target: Target,
    /// Whether it only marks where indirect jumps may lead.
    pub is_landing_pad: bool,
    decoded: x86_64::Decoded,
}

impl Instruction {
    /// Whether it leaves alone what a probe behind it looks at: the first `arguments` integer
    /// arguments of a function, the stack pointer with the return address, and the registers that
    /// a stack walk starts from.
    pub fn keeps_entry(&self, arguments: usize) -> bool {
        x86_64::keeps_entry(&self.decoded, arguments)
    }
}

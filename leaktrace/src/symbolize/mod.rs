//! Raw frames → names, for the stacks that are reported and for no others. A frame that has no
//! name stays `module+0xoffset`; nothing is guessed.

mod demangle;
mod depth;
mod elf;
mod frame;
mod held;
mod jit;
mod past_code;
mod perf_map;
mod signal_return;
mod suspect;
mod truncation;
mod wrappers;

pub use elf::ElfNaming;
pub use frame::{Frame, base_name};
pub use jit::{JitNames, WithJit};
pub use past_code::PastCode;
pub use suspect::suspect;

use crate::target::Mappings;

/// Gives names to return addresses. An interface, so that naming can move into a worker process.
pub trait Naming {
    /// The frames of each address, in the same order: inlined functions first, innermost first,
    /// then the function that contains them. Never empty for an address.
    fn name(&mut self, mappings: &Mappings, addresses: &[u64]) -> Vec<Vec<Frame>>;
}

//! What the unwind step has to know about x86-64. Another architecture is another file like this:
//! where the return address stands, and what a signal handler returns to.

/// Bytes of a word of the stack.
pub(super) const WORD_BYTES: u64 = 8;

/// Distance of the return address below the canonical frame address.
pub(super) const RETURN_ADDRESS_BELOW_CFA: u64 = 8;

/// Below this distance from the start of a 16-byte PLT entry nothing has been pushed yet comes
/// from the row; this is what the entry's address is masked with.
pub(super) const PLT_ENTRY_MASK: u64 = 15;

// A signal handler returns to code whose stack pointer is at the kernel's `struct ucontext`
// (arch/x86/include/uapi/asm/sigcontext.h): the interrupted registers from its stack pointer on.
pub(super) const SIGNAL_FRAME_POINTER: u64 = 120;
pub(super) const SIGNAL_STACK_POINTER: u64 = 160;
pub(super) const SIGNAL_PROGRAM_COUNTER: u64 = 168;

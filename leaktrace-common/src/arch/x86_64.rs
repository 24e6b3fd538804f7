//! x86-64 under Linux: the System V ABI, and what the kernel puts on the stack for a signal.

/// As people write it.
pub const NAME: &str = "x86-64";

/// As `uname -m` has it.
pub const MACHINE: &str = "x86_64";

/// `e_machine` of an ELF file.
pub const ELF_MACHINE: u16 = 62;

/// Bytes of a word of the stack.
pub const WORD_BYTES: u64 = 8;

/// Bytes of a page.
pub const PAGE_BYTES: u64 = 4096;

/// Number of the stack pointer in unwind information.
pub const STACK_POINTER: u16 = 7;

/// Number of the register that is a frame pointer by convention (rbp).
pub const FRAME_POINTER: u16 = 6;

/// Number of the column that stands for the return address.
pub const RETURN_ADDRESS: u16 = 16;

/// Distance of the return address below the canonical frame address. Code that keeps it in a register
/// needs a row of its own (arm64, in functions that call nobody).
pub const RETURN_ADDRESS_BELOW_CFA: u64 = 8;

/// Below this distance from the start of a 16-byte PLT entry nothing has been pushed yet comes
/// from the row; this is what the entry's address is masked with.
pub const PLT_ENTRY_MASK: u64 = 15;

// A signal handler returns to code whose stack pointer is at the kernel's `struct ucontext`
// (arch/x86/include/uapi/asm/sigcontext.h): the interrupted registers from its stack pointer on.

/// Where the interrupted frame pointer is.
pub const SIGNAL_FRAME_POINTER: u64 = 120;

/// Where the interrupted stack pointer is.
pub const SIGNAL_STACK_POINTER: u64 = 160;

/// Where the interrupted address is.
pub const SIGNAL_PROGRAM_COUNTER: u64 = 168;

// Numbers of system calls (asm/unistd_64.h).

/// mmap
pub const SYSCALL_MMAP: u32 = 9;

/// munmap
pub const SYSCALL_MUNMAP: u32 = 11;

/// brk
pub const SYSCALL_BRK: u32 = 12;

/// mremap
pub const SYSCALL_MREMAP: u32 = 25;

/// shmat
pub const SYSCALL_SHMAT: u32 = 30;

/// shmdt
pub const SYSCALL_SHMDT: u32 = 67;

// Relocations that fill a place with the address of a function.

/// With that of a symbol, R_X86_64_GLOB_DAT.
pub const GLOB_DAT: u32 = 6;

/// The same for a place that a stub jumps through, R_X86_64_JUMP_SLOT.
pub const JUMP_SLOT: u32 = 7;

/// With one of the object itself, R_X86_64_RELATIVE.
pub const RELATIVE: u32 = 8;

/// The longest instruction, bytes.
pub const MAX_INSTRUCTION_BYTES: u64 = 15;

/// Whether the first bytes of a page are those of the code that the kernel makes probed functions
/// return to: a breakpoint (`int3`), or the beginning of `arch_uretprobe_trampoline`
/// (arch/x86/kernel/uprobes.c, Linux 6.11 and later).
#[inline(always)]
pub const fn is_trampoline(first_bytes: u64) -> bool {
    /// push rax; push rcx; push r11; mov rax, …
    const SYSTEM_CALL: u64 = u64::from_le_bytes([0x50, 0x51, 0x41, 0x53, 0x48, 0xc7, 0xc0, 0x4f]);
    const BREAKPOINT: u8 = 0xcc;
    first_bytes == SYSTEM_CALL || first_bytes as u8 == BREAKPOINT
}

/// The address in a word that a call has stored. Processors that sign such words need a mask here.
#[inline(always)]
pub const fn return_address(word: u64) -> u64 {
    word
}

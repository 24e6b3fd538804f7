//! Which register holds what at a function's entry and return, and at a system call: x86-64 by the System
//! V ABI.
//! The one place of the programs that names registers of a processor, but for the window of the stack.
//!
//! Each register is loaded on its own: a load through a computed context address is refused by the
//! verifier on every kernel.

use aya_ebpf::bindings::pt_regs;

macro_rules! register {
    ($regs:expr, $name:ident) => {
        core::ptr::read_volatile(&raw const (*$regs).$name)
    };
}

/// The stack pointer.
///
/// # Safety
///
/// `regs` is the register set that the kernel has handed to the program.
#[inline(always)]
pub unsafe fn stack_pointer(regs: *const pt_regs) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { register!(regs, rsp) }
}

/// The address of the instruction.
///
/// # Safety
///
/// As for [`stack_pointer`].
#[inline(always)]
pub unsafe fn instruction_pointer(regs: *const pt_regs) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { register!(regs, rip) }
}

/// The frame pointer by convention.
///
/// # Safety
///
/// As for [`stack_pointer`].
#[inline(always)]
pub unsafe fn frame_pointer(regs: *const pt_regs) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { register!(regs, rbp) }
}

/// What a function has returned, at its return.
///
/// # Safety
///
/// As for [`stack_pointer`].
#[inline(always)]
pub unsafe fn result(regs: *const pt_regs) -> u64 {
    // SAFETY: as the caller promises.
    unsafe { register!(regs, rax) }
}

/// Arguments of a function at its entry.
///
/// # Safety
///
/// As for [`stack_pointer`].
#[inline(always)]
pub unsafe fn arguments(regs: *const pt_regs) -> [u64; 6] {
    // SAFETY: as the caller promises.
    unsafe {
        [
            register!(regs, rdi),
            register!(regs, rsi),
            register!(regs, rdx),
            register!(regs, rcx),
            register!(regs, r8),
            register!(regs, r9),
        ]
    }
}

/// Arguments of a system call.
///
/// # Safety
///
/// As for [`stack_pointer`].
#[inline(always)]
pub unsafe fn syscall_arguments(regs: *const pt_regs) -> [u64; 6] {
    // SAFETY: as the caller promises.
    unsafe {
        [
            register!(regs, rdi),
            register!(regs, rsi),
            register!(regs, rdx),
            register!(regs, r10),
            register!(regs, r8),
            register!(regs, r9),
        ]
    }
}

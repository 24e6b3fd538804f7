//! What the probed call is and what its arguments are, from the attach cookie and the registers.

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::programs::RetProbeContext;
use leaktrace_common::call::{Call, NO_ARGUMENT, Width, note_index};
use leaktrace_common::lane::Lane;

use crate::maps::{CONTROL, PROBE_HITS};
use crate::{process, registers};

/// What the registers hold at the entry of a function.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Attach cookie, see [`Call`].
    pub cookie: u64,
    /// Stack pointer: at a function's entry the return address is there.
    pub stack_pointer: u64,
    /// Address of the probed instruction, or behind that of the system call.
    pub instruction_pointer: u64,
    /// Frame pointer of the caller, if it keeps one.
    pub frame_pointer: u64,
    arguments: [u64; 6],
}

impl Entry {
    /// Reads the registers of a probe's context.
    #[inline(always)]
    pub fn read(regs: *mut pt_regs) -> Self {
        // SAFETY: the context of a uprobe program is its register set.
        unsafe {
            Self {
                cookie: bpf_get_attach_cookie(regs.cast::<c_void>()),
                stack_pointer: registers::stack_pointer(regs),
                instruction_pointer: registers::instruction_pointer(regs),
                frame_pointer: registers::frame_pointer(regs),
                arguments: registers::arguments(regs),
            }
        }
    }

    /// Reads the registers that a thread had when it made a system call.
    #[inline(always)]
    pub fn of_syscall(regs: *const pt_regs, call: Call) -> Self {
        // SAFETY: the kernel's own pointer to the registers of the running thread.
        unsafe {
            Self {
                cookie: call.to_cookie(),
                stack_pointer: registers::stack_pointer(regs),
                instruction_pointer: registers::instruction_pointer(regs),
                frame_pointer: registers::frame_pointer(regs),
                arguments: registers::syscall_arguments(regs),
            }
        }
    }

    /// The call that the cookie describes.
    #[inline(always)]
    pub fn call(&self) -> Call {
        Call::from_cookie(self.cookie)
    }

    /// Where the walk of its stack starts, or 0: with the return address at the stack pointer, which
    /// a system call has not.
    #[inline(always)]
    pub fn walk_start(&self) -> u64 {
        match self.call().lane {
            Lane::SYSCALLS => self.instruction_pointer,
            _ => 0,
        }
    }

    /// Argument `n`, 0 to 5.
    #[inline(always)]
    pub fn argument(&self, n: u8) -> u64 {
        // A match rather than an index: the verifier of 6.1 refuses a variable offset into the
        // BPF stack.
        match n {
            0 => self.arguments[0],
            1 => self.arguments[1],
            2 => self.arguments[2],
            3 => self.arguments[3],
            4 => self.arguments[4],
            _ => self.arguments[5],
        }
    }

    /// Bytes asked for; `u64::MAX` when size times count does not fit, which no allocator grants.
    #[inline(always)]
    pub fn size_bytes(&self, call: Call) -> u64 {
        // What has no size is counted in pieces.
        if call.size_argument == NO_ARGUMENT {
            return 1;
        }
        let size = self.number(call, call.size_argument);
        if call.count_argument == NO_ARGUMENT {
            return size;
        }
        product(size, self.number(call, call.count_argument))
    }

    #[inline(always)]
    fn number(&self, call: Call, n: u8) -> u64 {
        match call.width {
            Width::Whole => self.argument(n),
            Width::Half => self.argument(n) & 0xffff_ffff,
        }
    }
}

/// What a probe's hit is, if the session is armed and the hit counts. The cookie's process is
/// replaced by the one that the hit counts to.
#[inline(always)]
pub fn hit(regs: *mut pt_regs) -> Option<Entry> {
    if !armed() {
        return None;
    }
    let mut entry = Entry::read(regs);
    let call = entry.call();
    let process = process::of_hit(call)?;
    note_hit(call);
    entry.cookie = call.of_process(process as u16).to_cookie();
    Some(entry)
}

/// What a return probe stands on.
#[inline(always)]
pub fn of_return(ctx: &RetProbeContext) -> Call {
    // SAFETY: the helper reads the context that it is given.
    Call::from_cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
}

/// Whether user space has armed the session.
#[inline(always)]
pub fn armed() -> bool {
    match CONTROL.get_ptr(0) {
        // SAFETY: the pointer is a live map value; volatile because user space writes it.
        Some(control) => unsafe { core::ptr::read_volatile(&raw const (*control).armed) != 0 },
        None => false,
    }
}

/// Notes that the function's probe has fired. Written once, so that threads do not fight for the
/// cache line.
#[inline(always)]
fn note_hit(call: Call) {
    if let Some(hit) = PROBE_HITS.get_ptr_mut(note_index(call.process, call.function)) {
        // SAFETY: the pointer is a live map value; both writers write the same value.
        unsafe {
            if *hit == 0 {
                *hit = 1;
            }
        }
    }
}

/// `a * b`, or `u64::MAX` when that does not fit. Written with halves: LLVM turns every shorter
/// form into a 128-bit product, which BPF does not have.
#[inline(always)]
fn product(a: u64, b: u64) -> u64 {
    let (large, small) = if a > b { (a, b) } else { (b, a) };
    if large >> 32 == 0 {
        return large * small;
    }
    if small >> 32 != 0 || ((large >> 32) * small) >> 32 != 0 {
        return u64::MAX;
    }
    large.wrapping_mul(small)
}

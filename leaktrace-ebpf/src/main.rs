//! The BPF programs: entry points unpack what they were called with and call one function each.
//!
//! `allocate_enter` and `allocate_return` serve every function that hands out blocks,
//! `free_enter` every one that takes them back, `mapping_enter` and `mapping_return` the mmap
//! family; the attach cookie says which arguments mean what. Nothing here runs before
//! `CONTROL.armed` is set.

#![no_std]
#![no_main]
#![allow(
    internal_features,
    reason = "atomic read-modify-write has no stable form on BPF"
)]
#![feature(core_intrinsics)]

mod allocate;
mod atomic;
mod call;
mod code;
mod free;
mod kernel_stack;
mod ledger;
mod live;
mod loss;
mod mapping;
mod maps;
mod nesting;
mod pending;
mod process;
mod registers;
mod reuse;
mod scratch;
mod segment;
mod site;
mod unfinished;
mod walk;

use aya_ebpf::macros::{raw_tracepoint, tracepoint, uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RawTracePointContext, RetProbeContext, TracePointContext};

/// Entry of a function that hands out a block.
#[uprobe]
pub fn allocate_enter(ctx: ProbeContext) -> u32 {
    kernel_stack::keep(&ctx);
    allocate::enter(&ctx);
    0
}

/// Return from a function that hands out a block.
#[uretprobe]
pub fn allocate_return(ctx: RetProbeContext) -> u32 {
    kernel_stack::keep(&ctx);
    allocate::leave(&ctx);
    0
}

/// A `ret` instruction of a function that hands out a block and can throw.
#[uprobe]
pub fn allocate_ret(ctx: ProbeContext) -> u32 {
    kernel_stack::keep(&ctx);
    allocate::leave_at_ret(&ctx);
    0
}

/// Entry of a function that frees a block.
#[uprobe]
pub fn free_enter(ctx: ProbeContext) -> u32 {
    kernel_stack::keep(&ctx);
    free::enter(&ctx);
    0
}

/// Entry of mmap, munmap, mremap, brk and their like.
#[uprobe]
pub fn mapping_enter(ctx: ProbeContext) -> u32 {
    kernel_stack::keep(&ctx);
    mapping::enter(&ctx);
    0
}

/// Return from mmap, munmap, mremap, brk and their like.
#[uretprobe]
pub fn mapping_return(ctx: RetProbeContext) -> u32 {
    kernel_stack::keep(&ctx);
    mapping::leave(&ctx);
    0
}

/// Any process calls mmap, munmap, mremap or brk of the kernel; attached only when the functions
/// of that name do not tell enough of a traced process.
#[tracepoint]
pub fn mapping_syscall_enter(ctx: TracePointContext) -> u32 {
    mapping::enter_syscall(&ctx);
    0
}

/// Such a call ends.
#[tracepoint]
pub fn mapping_syscall_exit(ctx: TracePointContext) -> u32 {
    mapping::leave_syscall(&ctx);
    0
}

/// The dynamic linker tells debuggers that the list of objects has changed.
#[uprobe]
pub fn code_mapped(ctx: ProbeContext) -> u32 {
    kernel_stack::keep(&ctx);
    code::mapped(&ctx);
    0
}

/// Fork of any process of the system; attached only when forks are followed.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn process_fork(ctx: RawTracePointContext) -> i32 {
    process::forked(&ctx);
    0
}

/// Exec of any process of the system; those of traced processes are looked at.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    process::executed(&ctx);
    0
}

/// The kernel has chosen a process to kill because memory is out.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim(ctx: RawTracePointContext) -> i32 {
    process::chosen_as_oom_victim(&ctx);
    0
}

/// Exit of any thread of the system; those of traced processes are looked at.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn thread_exit(ctx: RawTracePointContext) -> i32 {
    process::thread_exit(&ctx);
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

//! What is kept for each traced process, and what is left to do when one of its threads exits.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::programs::RawTracePointContext;

use crate::maps::{CONTROL, PENDING, PROCESSES, TRACED};
use crate::{atomic, pending};

/// Counts a free of a block that the ledger does not have.
#[inline(always)]
pub fn count_unmatched_free(process: u32) {
    if let Some(state) = PROCESSES.get_ptr_mut(process) {
        // SAFETY: the pointer is a live map value.
        unsafe { atomic::add(&raw mut (*state).unmatched_frees, 1) };
    }
}

/// Asks user space to read the mappings again: code runs where none was known.
#[inline(always)]
pub fn note_unknown_code(process: u32) {
    if let Some(state) = PROCESSES.get_ptr_mut(process) {
        // SAFETY: the pointer is a live map value; all writers here write the same value.
        unsafe { core::ptr::write_volatile(&raw mut (*state).mapping_missed, 1) };
    }
}

/// Gives the thread's slot back and keeps the exit status; the last thread's is the process's.
#[inline(always)]
pub fn thread_exit(ctx: &RawTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let Some(process) = TRACED.get_ptr(tgid) else {
        return;
    };
    // SAFETY: the pointer is a live map value.
    let process = unsafe { *process };
    if let Some(slot) = PENDING.get_ptr_mut(tid) {
        pending::abandon(slot, process);
        // Ignored: nobody else removes this thread's slot.
        let _ = PENDING.remove(tid);
    }
    let Some(state) = PROCESSES.get_ptr_mut(process) else {
        return;
    };
    let Some(control) = CONTROL.get_ptr(0) else {
        return;
    };
    // SAFETY: the pointer is a live map value.
    let offset = unsafe { (*control).task_exit_code_offset };
    if offset == 0 {
        return;
    }
    let task: u64 = ctx.arg(0);
    let mut exit_code = 0u32;
    // SAFETY: the helper checks the address; the destination is ours.
    let failed = unsafe {
        bpf_probe_read_kernel(
            (&raw mut exit_code).cast(),
            size_of::<u32>() as u32,
            (task + u64::from(offset)) as *const _,
        )
    };
    if failed == 0 {
        // SAFETY: the pointer is a live map value.
        unsafe {
            core::ptr::write_volatile(&raw mut (*state).exit_code, exit_code);
            core::ptr::write_volatile(&raw mut (*state).exited, 1);
        }
    }
}

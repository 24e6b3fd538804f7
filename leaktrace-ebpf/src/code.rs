//! New code in a traced process: user space is woken, so that it is known before it allocates.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::programs::ProbeContext;
use leaktrace_common::event::{Event, EventKind};

use crate::maps::PROCESSES;
use crate::{call, maps, pending};

/// The dynamic linker has mapped or unmapped objects, and has not run their code yet.
#[inline(always)]
pub fn mapped(ctx: &ProbeContext) {
    if let Some(entry) = call::hit(ctx.regs) {
        announce(u32::from(entry.call().process));
    }
}

/// Asks user space to read the mappings again: code runs where none was known. Said once until
/// user space has done it.
#[inline(always)]
pub fn note_unknown(process: u32) {
    let Some(state) = PROCESSES.get_ptr_mut(process) else {
        return;
    };
    // SAFETY: the pointer is a live map value; all writers here write the same value.
    let missed = unsafe { &raw mut (*state).mapping_missed };
    // SAFETY: as above.
    if unsafe { missed.read_volatile() } == 0 {
        // SAFETY: as above.
        unsafe { missed.write_volatile(1) };
        announce(process);
    }
}

#[inline(always)]
fn announce(process: u32) {
    let event = Event {
        kind: EventKind::CodeMapped as u32,
        process,
        tid: pending::current_tid(),
        site: 0,
        // SAFETY: the helper has no preconditions.
        at_ns: unsafe { bpf_ktime_get_ns() },
        address: 0,
        size_bytes: 0,
        old_size_bytes: 0,
        flags: 0,
    };
    // Ignored: user space looks at `mapping_missed` at each of its readings anyway.
    let _ = maps::send(&event);
}

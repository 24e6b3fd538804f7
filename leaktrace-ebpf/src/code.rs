//! New code in a traced process: user space is woken, so that it is known before it allocates.

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_user};
use aya_ebpf::programs::ProbeContext;
use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::process::{LINKER_REMOVES, ProcessState};

use crate::maps::PROCESSES;
use crate::{atomic, call, maps, pending};

/// The dynamic linker has mapped objects and not run their code yet, or is about to unmap some.
#[inline(always)]
pub fn mapped(ctx: &ProbeContext) {
    let Some(entry) = call::hit(ctx.regs) else {
        return;
    };
    let process = u32::from(entry.call().process);
    if let Some(state) = PROCESSES.get_ptr_mut(process) {
        count_removal(state);
    }
    announce(process);
}

#[inline(always)]
fn count_removal(state: *mut ProcessState) {
    // SAFETY: the pointer is a live map value; volatile because user space writes it. Only the
    // thread that holds the linker's lock writes `linker_was`.
    let (place, before) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*state).linker_state),
            core::ptr::read_volatile(&raw const (*state).linker_was),
        )
    };
    // SAFETY: the helper checks the address.
    let now = unsafe { bpf_probe_read_user(place as *const u32) }.unwrap_or(LINKER_REMOVES);
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(&raw mut (*state).linker_was, now) };
    if now == LINKER_REMOVES || before == LINKER_REMOVES {
        // SAFETY: the pointer is a live map value.
        atomic::fetch_add(unsafe { &raw mut (*state).removals }, 1);
    }
}

/// What the stack walk has to know of a process's code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// How often code was removed from it.
    pub removals: u32,
    /// Whether code that was removed is still in the mappings that the walk uses: other code that
    /// has taken its place would be walked by its rules.
    pub in_doubt: bool,
    /// Number of its entry in the table of processes.
    pub serial: u32,
    /// Whose mapping tables it uses, plus one, and in the lower half how many that one was given.
    pub generation: u64,
}

impl Known {
    /// For a process that is not in the table.
    pub const NOTHING: Self = Self {
        removals: 0,
        in_doubt: false,
        serial: 0,
        generation: 1 << 32,
    };

    /// Place of the current mapping table.
    #[inline(always)]
    pub const fn table(self) -> u32 {
        ((self.generation >> 32) as u32 - 1) * 2 + (self.generation as u32 & 1)
    }
}

/// What is known now. The removals are read before the table: a table may then be newer than they
/// are, which is no harm, but never older.
#[inline(always)]
pub fn known(process: u32) -> Option<Known> {
    let own = PROCESSES.get_ptr(process)?;
    // SAFETY: the pointer is a live map value; volatile because others write it.
    let (removals, known, code_of, serial) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*own).removals),
            core::ptr::read_volatile(&raw const (*own).removals_known),
            core::ptr::read_volatile(&raw const (*own).code_of),
            core::ptr::read_volatile(&raw const (*own).serial),
        )
    };
    let origin = match code_of == process {
        true => own,
        false => PROCESSES.get_ptr(code_of)?,
    };
    // SAFETY: the pointer is a live map value; volatile because user space writes it.
    let tables = unsafe { core::ptr::read_volatile(&raw const (*origin).mapping_table) };
    Some(Known {
        removals,
        serial,
        in_doubt: removals != known,
        generation: u64::from(code_of + 1) << 32 | u64::from(tables),
    })
}

/// Asks user space to read the mappings again: code runs where none was known. Said once until
/// user space has done it. Not inlined: its event would lie on the BPF stack below the walk.
#[inline(never)]
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

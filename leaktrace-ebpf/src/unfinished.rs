//! Stacks that lead through code whose unwind table is not there yet: user space gets what it needs
//! to follow them to their end.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use leaktrace_common::limits::PAGE_BYTES;
use leaktrace_common::stack::{StackEnd, hash_end, hash_frame};
use leaktrace_common::unwind::{SAVED_PAGES, Unfinished};

use crate::maps::{CONTROL, EH_FRAME, SITE_ENTRIES, UNFINISHED};
use crate::scratch::Scratch;
use crate::site;

/// Leaves the whole walk to user space while code may be where other code was (dlclose, then
/// dlopen): its site, or `None` when that is not so, or there is no room.
#[inline(always)]
pub fn postpone(area: *mut Scratch) -> Option<u32> {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    if EH_FRAME.load() == 0 || walk.in_doubt == 0 || walk.return_address == 0 {
        return None;
    }
    walk.stack.record.frames[0] = walk.return_address;
    walk.stack.record.depth = 1;
    walk.stack.record.end = StackEnd::TableMissing as u8;
    let site = save(area);
    if site.is_none() {
        // SAFETY: as above.
        let walk = unsafe { &mut *area };
        walk.stack.record.depth = 0;
        walk.stack.record.end = StackEnd::Unreadable as u8;
    }
    site
}

/// Gives the area's stack a site of its own and sends the rest of it; `None` when the stack is not
/// one that can be followed later, or there is no room: it then is as long as it is.
#[inline(always)]
pub fn send(area: *mut Scratch) -> Option<u32> {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let end = u32::from(unsafe { (*area).stack.record.end });
    let is_new = end == StackEnd::TableMissing as u32 || end == StackEnd::NoMapping as u32;
    if EH_FRAME.load() == 0 || !is_new {
        return None;
    }
    save(area)
}

#[inline(never)]
fn save(area: *mut Scratch) -> Option<u32> {
    let control = CONTROL.get_ptr(0)?;
    // SAFETY: the pointer is a live map value; volatile because others write it.
    let (handed_out, free) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*control).next_site),
            core::ptr::read_volatile(&raw const (*control).free_sites).free(),
        )
    };
    let sites = handed_out.saturating_sub(free);
    // Sites of which no other call makes use must not take the places of those that are shared.
    if sites >= SITE_ENTRIES.load() / 2 {
        return None;
    }
    let mut entry = UNFINISHED.reserve::<Unfinished>(0)?;
    let place = entry.as_mut_ptr();
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    walk.stack.record.hash = hash_end(hash_frame(hash_frame(walk.hash, now), walk.registers.sp));
    // As the walk has left it, and not the record: user space sees by that whether it was cut.
    let depth = walk.stack.record.depth;
    let Some(site) = site::keep(area) else {
        entry.discard(0);
        return None;
    };
    // SAFETY: as above.
    let walk = unsafe { &*area };
    // SAFETY: `place` is the reserved entry, which is large enough.
    unsafe {
        (*place).site = site;
        (*place).process = u32::from(walk.stack.record.process);
        (*place).registers = walk.registers;
        (*place).removals = walk.removals;
        (*place).depth = u64::from(depth);
        (*place).length_bytes = copy_stack(place, walk.registers.sp);
    }
    entry.submit(0);
    Some(site)
}

/// Page by page: a read that meets a page that is not there fails as a whole.
#[inline(always)]
fn copy_stack(place: *mut Unfinished, stack_pointer: u64) -> u64 {
    // SAFETY: `place` is the reserved entry.
    let start = unsafe { (&raw mut (*place).stack).cast::<u8>() };
    let first = PAGE_BYTES - (stack_pointer & (PAGE_BYTES - 1));
    // SAFETY: a page fits; the helper checks the source.
    if unsafe { bpf_probe_read_user(start.cast(), first as u32, stack_pointer as *const _) } != 0 {
        return 0;
    }
    let mut pages = 0;
    while pages < SAVED_PAGES {
        let at = first + pages * PAGE_BYTES;
        // SAFETY: one page more than `SAVED_PAGES` fits; the helper checks the source.
        let failed = unsafe {
            bpf_probe_read_user(
                start.add(at as usize).cast(),
                PAGE_BYTES as u32,
                (stack_pointer + at) as *const _,
            )
        };
        if failed != 0 {
            break;
        }
        pages += 1;
    }
    first + pages * PAGE_BYTES
}

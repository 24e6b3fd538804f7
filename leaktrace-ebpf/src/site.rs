//! The site of a call: its stack, stored once by content, and the index of its totals.

use aya_ebpf::bindings::BPF_NOEXIST;
use leaktrace_common::loss::Loss;
use leaktrace_common::stack::{SITE_NOT_COUNTED, Source, site_without_stack};

use crate::call::Entry;
use crate::maps::{CONTROL, SITE_ENTRIES, STACK_SITES, STACKS};
use crate::scratch::{self, Scratch};
use crate::{atomic, loss, unfinished, walk};

/// Where a call comes from.
#[derive(Clone, Copy)]
pub struct Caller {
    /// Index of the site.
    pub site: u32,
    /// Address behind the call instruction; 0 when it could not be read.
    pub return_address: u64,
}

/// Takes the stack of a call and finds its site, or makes it. A call that is not counted needs
/// its return address alone.
#[inline(always)]
pub fn of(entry: &Entry, process: u32, source: Source, counted: bool) -> Caller {
    if !counted {
        return Caller {
            site: SITE_NOT_COUNTED,
            return_address: walk::return_address(entry),
        };
    }
    let Some(area) = scratch::acquire() else {
        loss::count(process, Loss::ScratchBusy, 0);
        return Caller {
            site: site_without_stack(process, source),
            return_address: walk::return_address(entry),
        };
    };
    walk::begin(area, entry, process, source);
    // SAFETY: the pointer is a live map value that this walk has taken.
    let return_address = unsafe { (*area).return_address };
    let site = match unfinished::postpone(area, process) {
        Some(site) => site,
        None => of_stack(area, entry, process, source),
    };
    scratch::release(area);
    Caller {
        site,
        return_address,
    }
}

#[inline(always)]
fn of_stack(area: *mut Scratch, entry: &Entry, process: u32, source: Source) -> u32 {
    walk::take(area, entry, process);
    match unfinished::send(area) {
        Some(site) => site,
        None => find_or_store(area, process, source),
    }
}

#[inline(always)]
fn find_or_store(area: *mut Scratch, process: u32, source: Source) -> u32 {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let hash = unsafe { (*area).record.hash };
    if let Some(site) = STACK_SITES.get_ptr(hash) {
        // SAFETY: the pointer is a live map value, written once.
        return unsafe { *site };
    }
    match store(area, hash) {
        Some(site) => site,
        None => {
            loss::count(process, Loss::StackMapFull, 0);
            site_without_stack(process, source)
        }
    }
}

/// Stores a stack that was not seen before. The frames are stored before the hash is, so that
/// whoever finds the site finds its frames. Two CPUs may store the same stack at once: the one
/// that loses leaves its index unused.
#[inline(never)]
fn store(area: *mut Scratch, hash: u64) -> Option<u32> {
    let site = keep(area)?;
    if STACK_SITES
        .insert(hash, site, u64::from(BPF_NOEXIST))
        .is_ok()
    {
        return Some(site);
    }
    // Ignored: the entry was inserted above.
    let _ = STACKS.remove(site);
    // SAFETY: the pointer is a live map value, written once.
    STACK_SITES.get_ptr(hash).map(|site| unsafe { *site })
}

/// Keeps the area's record as the stack of a new site.
#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value the record would be copied to the BPF stack, which has half its size"
)]
pub fn keep(area: *mut Scratch) -> Option<u32> {
    let control = CONTROL.get_ptr_mut(0)?;
    let limit = SITE_ENTRIES.load();
    // SAFETY: the pointer is a live map value.
    let next = unsafe { &raw mut (*control).next_site };
    // SAFETY: as above. Looked at first, so that a full table does not make the counter wrap.
    if unsafe { core::ptr::read_volatile(next) } >= limit {
        return None;
    }
    let site = atomic::fetch_add(next, 1);
    if site >= limit {
        return None;
    }
    // SAFETY: the pointer is a live map value that this walk has taken.
    STACKS
        .insert(site, unsafe { &(*area).record }, u64::from(BPF_NOEXIST))
        .ok()?;
    Some(site)
}

//! The site of a call: its stack, stored once by content, and the index of its totals.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use leaktrace_common::loss::Loss;
use leaktrace_common::stack::{SITE_NOT_COUNTED, Source, site_without_stack};

use crate::call::Entry;
use crate::maps::{CONTROL, DEEP_STACKS, SITE_ENTRIES, STACK_SITES, STACKS};
use crate::scratch::{self, Scratch};
use crate::{atomic, loss, reuse, unfinished, walk};

/// Where a call comes from.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Caller {
    /// Address behind the call instruction; 0 when it could not be read.
    pub return_address: u64,
    /// Index of the site.
    pub site: u32,
    /// Always zero.
    pub padding: u32,
}

/// Takes the stack of a call and finds its site, or makes it. A call that is not counted needs
/// its return address alone.
#[inline(always)]
pub fn of(entry: &Entry, process: u32, source: Source, counted: bool) -> Caller {
    let mut caller = Caller {
        return_address: 0,
        site: SITE_NOT_COUNTED,
        padding: 0,
    };
    if counted {
        // SAFETY: the function takes any numbers, and fills the place that it is given.
        unsafe {
            find_caller(
                entry.walk_start(),
                entry.stack_pointer,
                entry.frame_pointer,
                walk::owner(process, source),
                &raw mut caller,
            );
        }
    } else {
        caller.return_address = walk::return_address(entry.stack_pointer);
    }
    caller
}

/// A function of its own with global linkage: the verifier looks at it once, and not once for each
/// of the ways that lead here (a hundred, when debug messages are on: a million instructions). It
/// therefore takes numbers and memory only.
///
/// # Safety
///
/// `caller` is null or points to a caller that may be written.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn find_caller(
    instruction_pointer: u64,
    stack_pointer: u64,
    frame_pointer: u64,
    owner: u64,
    caller: *mut Caller,
) -> u64 {
    if caller.is_null() {
        return 0;
    }
    let process = owner as u32;
    let source = Source::from_number((owner >> 32) as u32);
    // SAFETY: not null, so it is a caller that may be written.
    let caller = unsafe { &mut *caller };
    let Some(area) = scratch::acquire() else {
        loss::count(process, Loss::ScratchBusy, 0);
        caller.return_address = walk::return_address(stack_pointer);
        caller.site = site_without_stack(process, source);
        return 0;
    };
    walk::begin(
        area,
        instruction_pointer,
        stack_pointer,
        frame_pointer,
        owner,
    );
    // SAFETY: the pointer is a live map value that this walk has taken.
    caller.return_address = unsafe { (*area).return_address };
    caller.site = find(area, process, source);
    scratch::release(area);
    0
}

#[inline(always)]
fn find(area: *mut Scratch, process: u32, source: Source) -> u32 {
    if let Some(site) = unfinished::postpone(area) {
        return site;
    }
    if let Some(site) = walk::remembered(area) {
        return site;
    }
    walk::take(area, process);
    if let Some(site) = unfinished::send(area) {
        return site;
    }
    find_or_store(area, process, source)
}

#[inline(always)]
fn find_or_store(area: *mut Scratch, process: u32, source: Source) -> u32 {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let hash = unsafe { (*area).stack.record.hash };
    if let Some(site) = STACK_SITES.get_ptr(hash) {
        // SAFETY: the pointer is a live map value, written once.
        let site = unsafe { *site };
        walk::remember(area, site, process);
        return site;
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
    // Ignored: most stacks have no frames there.
    let _ = DEEP_STACKS.remove(site);
    // SAFETY: the pointer is a live map value, written once.
    STACK_SITES.get_ptr(hash).map(|site| unsafe { *site })
}

/// Keeps the area's stack as that of a new site; cut, if there is room for its record alone.
#[inline(always)]
#[expect(
    clippy::needless_borrows_for_generic_args,
    reason = "by value the frames would be copied to the BPF stack, which has half their size"
)]
pub fn keep(area: *mut Scratch) -> Option<u32> {
    let site = match reuse::site() {
        Some(site) => site,
        None => unused()?,
    };
    // SAFETY: the pointer is a live map value that this walk has taken.
    let stack = unsafe { &mut (*area).stack };
    if stack.is_deep()
        && DEEP_STACKS
            .insert(site, &stack.deep, u64::from(BPF_ANY))
            .is_err()
    {
        stack.cut();
    }
    if STACKS
        .insert(site, &stack.record, u64::from(BPF_NOEXIST))
        .is_ok()
    {
        return Some(site);
    }
    // Ignored: most stacks have no frames there.
    let _ = DEEP_STACKS.remove(site);
    None
}

/// A site that was never used.
#[inline(always)]
fn unused() -> Option<u32> {
    let control = CONTROL.get_ptr_mut(0)?;
    let limit = SITE_ENTRIES.load();
    // SAFETY: the pointer is a live map value.
    let next = unsafe { &raw mut (*control).next_site };
    // SAFETY: as above. Looked at first, so that a full table does not make the counter wrap.
    if unsafe { core::ptr::read_volatile(next) } >= limit {
        return None;
    }
    let site = atomic::fetch_add(next, 1);
    (site < limit).then_some(site)
}

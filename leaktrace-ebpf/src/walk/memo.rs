//! Walks that need not be made: most calls come with a stack that was walked before, and comparing
//! the words that have decided that walk costs a tenth of looking rules up. All of them are
//! compared, so that a stack is never taken for another one.
//!
//! Kept walks form chains: what tells a stack from a kept walk says where to look next.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_loop, bpf_probe_read_kernel};
use leaktrace_common::limits::{MEMO_TRIES, MEMOS};
use leaktrace_common::stack::{StackEnd, hash_frame};
use leaktrace_common::unwind::{GROUP_WORDS, Memo, TRAIL_WORDS, Trail};

use super::{CONTINUE, STOP, window};
use crate::atomic;
use crate::code;
use crate::maps::MEMOS as PLACES;
use crate::scratch::Scratch;

/// Stands for no site, and for no place: calls that begin in another way than a function's entry
/// are rare, and all walked.
pub(super) const NONE: u32 = u32::MAX;

const MAX_GROUPS: u32 = (TRAIL_WORDS / GROUP_WORDS) as u32;

/// The site of a walk that was made with the same outcome, if one is kept.
#[inline(always)]
pub fn find(area: *mut Scratch) -> Option<u32> {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    walk.memo_site = NONE;
    walk.memo_tries = 0;
    walk.group = 0;
    let mut context = area;
    // SAFETY: the callback gets the address of `context`, which outlives the call.
    unsafe {
        bpf_loop(
            MEMO_TRIES * MAX_GROUPS,
            compare as *mut c_void,
            (&raw mut context).cast(),
            0,
        );
    }
    // SAFETY: as above.
    let site = unsafe { (*area).memo_site };
    (site != NONE).then_some(site)
}

/// Where to look first, by stack pointer and return address, or next, by place and difference.
#[inline(always)]
pub(super) const fn place(before: u64, after: u64) -> u32 {
    (hash_frame(before, after) >> 40) as u32 & (MEMOS - 1)
}

/// Compares the next group of words. One loop and not one in another: two callbacks and what calls
/// them have no room on the BPF stack of 6.1.
unsafe extern "C" fn compare(_index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `find` passes the address of a pointer to the area that this walk has taken.
    let walk = unsafe { &mut **context.cast::<*mut Scratch>() };
    let Some(memo) = PLACES.get_ptr_mut(walk.memo) else {
        return STOP;
    };
    if walk.group == 0 && !open(walk, memo) {
        return STOP;
    }
    // SAFETY: the pointer is a live map value that was taken.
    let known = unsafe { &*memo };
    let fork = known.trail.fork(walk.group, &walk.window.words);
    walk.group += 1;
    if fork == 0 && walk.group < known.trail.groups() {
        return CONTINUE;
    }
    if fork == 0 {
        walk.memo_site = known.site;
    }
    release(memo);
    walk.memo_tries += 1;
    // At the last try the place is kept: nobody would look any further.
    if fork == 0 || walk.memo_tries >= MEMO_TRIES {
        return STOP;
    }
    walk.memo = place(u64::from(walk.memo), fork);
    walk.group = 0;
    CONTINUE
}

/// Takes a kept walk that has begun like this one, and reads the stack as far as it has; `false`
/// when it is another one, or busy.
#[inline(always)]
fn open(walk: &mut Scratch, memo: *mut Memo) -> bool {
    if !take(memo) {
        walk.memo = NONE;
        return false;
    }
    // SAFETY: the pointer is a live map value that was taken.
    let known = unsafe { &*memo };
    let reach = known.trail.reach;
    if known.begins_like(&walk.beginning) {
        if walk.window.count > reach || window::extend(&mut walk.window, reach + 1) {
            return true;
        }
        walk.memo = NONE;
    }
    release(memo);
    false
}

/// Keeps a walk whose stack is stored, if it comes the second time and would go the same way again.
#[inline(always)]
pub fn keep(area: *mut Scratch, site: u32, process: u32) {
    // SAFETY: the pointer is a live map value that this walk has taken.
    let walk = unsafe { &mut *area };
    let Some(memo) = PLACES.get_ptr_mut(walk.memo) else {
        return;
    };
    if !depends_on_stack_alone(walk) || !take(memo) {
        return;
    }
    // SAFETY: the pointer is a live map value that was taken.
    let known = unsafe { &mut *memo };
    if known.wanted != walk.stack.record.hash {
        known.wanted = walk.stack.record.hash;
    } else if walk.window.trail.close() && !has_changed(walk, process) {
        known.site = site;
        known.code = walk.beginning.code;
        known.caller = walk.beginning.caller;
        // SAFETY: both are trails in live map values that were taken.
        unsafe {
            bpf_probe_read_kernel(
                (&raw mut known.trail).cast(),
                size_of::<Trail>() as u32,
                (&raw const walk.window.trail).cast(),
            );
        }
    }
    release(memo);
}

/// Whether the walk has ended for a reason that the words of the stack and the tables are.
#[inline(always)]
fn depends_on_stack_alone(walk: &Scratch) -> bool {
    let end = u32::from(walk.stack.record.end);
    end != StackEnd::Unreadable as u32 && walk.unknown_code == 0
}

/// Whether mappings or code have changed since the walk began.
#[inline(always)]
fn has_changed(walk: &Scratch, process: u32) -> bool {
    match code::known(process) {
        Some(now) => {
            now.in_doubt
                || u64::from(now.removals) != walk.removals
                || now.generation != walk.beginning.code
        }
        None => true,
    }
}

#[inline(always)]
fn take(memo: *mut Memo) -> bool {
    // SAFETY: the pointer is a live map value.
    atomic::replace(unsafe { &raw mut (*memo).taken }, 0, 1)
}

#[inline(always)]
fn release(memo: *mut Memo) {
    // SAFETY: the pointer is a live map value that was taken.
    unsafe { core::ptr::write_volatile(&raw mut (*memo).taken, 0) };
}

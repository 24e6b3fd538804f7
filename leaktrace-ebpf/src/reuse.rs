//! Takes places that user space has given back: of the table of processes, and sites. Knows nothing of
//! what stood there.

use leaktrace_common::limits::{FREE_SITES as SITE_PLACES, MAX_PROCESSES, REUSE_TRIES};
use leaktrace_common::reuse::Reuse;

use crate::atomic;
use crate::maps::{CONTROL, FREE_PROCESSES, FREE_SITES};

/// A place of the table of processes that can be used again.
#[inline(always)]
pub fn process() -> Option<u32> {
    let control = CONTROL.get_ptr_mut(0)?;
    // SAFETY: the pointer is a live map value.
    let number = take(unsafe { &raw mut (*control).free_processes })?;
    FREE_PROCESSES
        .get(Reuse::position(number, MAX_PROCESSES))
        .copied()
}

/// A site that can be used again.
#[inline(always)]
pub fn site() -> Option<u32> {
    let control = CONTROL.get_ptr_mut(0)?;
    // SAFETY: the pointer is a live map value.
    let number = take(unsafe { &raw mut (*control).free_sites })?;
    FREE_SITES
        .get(Reuse::position(number, SITE_PLACES))
        .copied()
}

/// Number of the next entry of a queue, for this caller alone. The entry is read behind it: user
/// space writes there again only when every place of the table is free, this one included.
#[inline(always)]
fn take(queue: *mut Reuse) -> Option<u32> {
    // SAFETY: the pointer is a live map value.
    let (released, taken) = unsafe { (&raw const (*queue).released, &raw mut (*queue).taken) };
    let mut tries = 0;
    while tries < REUSE_TRIES {
        // SAFETY: as above; volatile because others write both.
        let next = unsafe { core::ptr::read_volatile(taken) };
        // SAFETY: as above.
        if next == unsafe { core::ptr::read_volatile(released) } {
            return None;
        }
        if atomic::replace(taken, next, next.wrapping_add(1)) {
            return Some(next);
        }
        tries += 1;
    }
    None
}

//! Counts what was not seen.

use leaktrace_common::loss::Loss;

use crate::atomic;
use crate::maps::LOSSES;

/// Counts one occurrence and the bytes that were asked for in it.
#[inline(always)]
pub fn count(reason: Loss, bytes: u64) {
    if let Some(totals) = LOSSES.get_ptr_mut(reason as u32) {
        // SAFETY: the pointer is a live map value.
        unsafe {
            atomic::add(&raw mut (*totals).count, 1);
            atomic::add(&raw mut (*totals).bytes, bytes);
        }
    }
}

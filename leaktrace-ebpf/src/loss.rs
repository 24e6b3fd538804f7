//! Counts what was not seen.

use leaktrace_common::loss::{LOSS_REASONS, Loss};

use crate::atomic;
use crate::maps::LOSSES;

/// Counts one occurrence in a process and the bytes that were asked for in it.
#[inline(always)]
pub fn count(process: u32, reason: Loss, bytes: u64) {
    let index = process * LOSS_REASONS as u32 + reason as u32;
    if let Some(totals) = LOSSES.get_ptr_mut(index) {
        // SAFETY: the pointer is a live map value.
        unsafe {
            atomic::add(&raw mut (*totals).count, 1);
            atomic::add(&raw mut (*totals).bytes, bytes);
        }
    }
}

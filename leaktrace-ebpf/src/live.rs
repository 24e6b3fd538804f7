//! The ledger of live blocks, and the totals of the sites that allocated them. Every change of a
//! block is followed by the change of its site's totals, never preceded.

use leaktrace_common::birth::{BIRTH_SLOTS, birth_slot};
use leaktrace_common::lane::Lane;
use leaktrace_common::ledger::{LiveBlock, LiveKey};
use leaktrace_common::loss::Loss;

use crate::maps::{CONTROL, SITE_BIRTHS, SITE_TOTALS};
use crate::{atomic, ledger, loss};

/// Records a block that a program was given.
#[inline(always)]
pub fn record(process: u32, lane: Lane, address: u64, block: &LiveBlock) {
    if let Some(old) = remove(process, lane, address) {
        // The allocator hands out what is still in the ledger: its free was not seen.
        loss::count(process, Loss::FreeMissed, old.size_bytes);
        count_freed(&old);
    }
    let key = LiveKey::new(process, lane.ledger(), address);
    if !ledger::put(key, block) {
        loss::count(process, Loss::LiveMapFull, block.size_bytes);
        return;
    }
    if let Some(totals) = SITE_TOTALS.get_ptr_mut(block.site) {
        // SAFETY: the pointer is a live map value.
        unsafe {
            atomic::add(&raw mut (*totals).allocated_bytes, block.size_bytes);
            atomic::add(&raw mut (*totals).allocated_count, 1);
        }
    }
    count_birth(block, block.size_bytes);
}

/// The slot of what is born now.
#[inline(always)]
pub fn birth(at_ns: u64) -> u32 {
    match CONTROL.get_ptr(0) {
        // SAFETY: the pointer is a live map value that user space wrote before the session was armed.
        Some(control) => birth_slot(at_ns.saturating_sub(unsafe { (*control).armed_at_ns })) as u32,
        None => 0,
    }
}

/// Adds to the live bytes of those of its site that were born with it.
#[inline(always)]
fn count_birth(block: &LiveBlock, change_bytes: u64) {
    if let Some(births) = SITE_BIRTHS.get_ptr_mut(block.site) {
        let slot = block.birth as usize & (BIRTH_SLOTS - 1);
        // SAFETY: the pointer is a live map value, and the slot is below their number.
        unsafe {
            let place = (&raw mut (*births).live_bytes).cast::<u64>().add(slot);
            atomic::add(place, change_bytes);
        }
    }
}

/// Whether the ledger has this block since this time or later.
#[inline(always)]
pub fn has_since(process: u32, lane: Lane, address: u64, at_ns: u64) -> bool {
    let key = LiveKey::new(process, lane.ledger(), address);
    ledger::find(key).is_some_and(|block| block.is_since(at_ns))
}

/// Takes a block out of the ledger without counting it as freed.
#[inline(always)]
pub fn remove(process: u32, lane: Lane, address: u64) -> Option<LiveBlock> {
    ledger::take(LiveKey::new(process, lane.ledger(), address))
}

/// Counts a removed block as freed by its site.
#[inline(always)]
pub fn count_freed(block: &LiveBlock) {
    if let Some(totals) = SITE_TOTALS.get_ptr_mut(block.site) {
        // SAFETY: the pointer is a live map value.
        unsafe {
            atomic::add(&raw mut (*totals).freed_bytes, block.size_bytes);
            atomic::add(&raw mut (*totals).freed_count, 1);
        }
    }
    count_birth(block, block.size_bytes.wrapping_neg());
}

/// Puts a removed block back. It is still counted as allocated; if the map has filled up in the
/// meantime it is counted as freed and lost, so that totals and ledger stay equal.
#[inline(always)]
pub fn restore(process: u32, lane: Lane, address: u64, block: &LiveBlock) {
    let key = LiveKey::new(process, lane.ledger(), address);
    if !ledger::put(key, block) {
        loss::count(process, Loss::LiveMapFull, block.size_bytes);
        count_freed(block);
    }
}

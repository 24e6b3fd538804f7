//! How old live blocks are: by the time of their birth, which the kernel side counts, or by a walk
//! over the ledger, which costs more the more is live.

use std::collections::HashMap;
use std::time::Duration;

use leaktrace_common::birth::{BIRTH_SLOTS, birth_slot};

use super::Session;

impl Session {
    /// Bytes and blocks by site that have been live for longer than `age`.
    pub(super) fn live_older_than(
        &self,
        process: u16,
        age: Duration,
    ) -> anyhow::Result<HashMap<u32, (u64, u64)>> {
        let latest_ns = super::monotonic_ns().saturating_sub(u64::try_from(age.as_nanos())?);
        let mut sums: HashMap<u32, (u64, u64)> = HashMap::new();
        self.walk_live_while(|key, block| {
            if key.process == u32::from(process) && block.at_ns <= latest_ns {
                let sum = sums.entry(block.site).or_default();
                sum.0 += block.size_bytes;
                sum.1 += 1;
            }
            true
        })?;
        Ok(sums)
    }

    /// Birth slots up to the present one.
    pub(super) fn birth_slots(&self) -> usize {
        let armed_at_ns = self.control.read(0).armed_at_ns;
        birth_slot(super::monotonic_ns().saturating_sub(armed_at_ns)) + 1
    }

    /// Live bytes of a site in its first `slots` birth slots; absent for sites whose births are not
    /// counted.
    pub(super) fn live_by_birth(&self, site: u32, slots: usize) -> Option<Box<[u64]>> {
        let site = site as usize;
        if site >= self.births.len() {
            return None;
        }
        // SAFETY: the place is inside the mapping, of which no part is ever written from here.
        let counters = unsafe { (&raw const (*self.births.place(site)).live_bytes).cast::<u64>() };
        let live_bytes = (0..slots.min(BIRTH_SLOTS)).map(|slot| {
            // SAFETY: slots are below BIRTH_SLOTS, the length of the array.
            unsafe { counters.add(slot).read_volatile() }
        });
        Some(live_bytes.collect())
    }
}

/// Births of two sites that have the same stack; unknown if those of one are.
pub(super) fn sum_of_births(
    one: Option<Box<[u64]>>,
    other: Option<Box<[u64]>>,
) -> Option<Box<[u64]>> {
    let (mut long, mut short) = (one?, other?);
    if long.len() < short.len() {
        std::mem::swap(&mut long, &mut short);
    }
    for (sum, bytes) in long.iter_mut().zip(&short) {
        *sum += bytes;
    }
    Some(long)
}

//! How old live blocks are: the one reading that walks the ledger, in batches, and so costs more
//! the more is live.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::Context;
use aya_obj::generated::bpf_cmd;
use leaktrace_common::birth::birth_slot;
use leaktrace_common::ledger::{LiveBlock, LiveKey};

use super::Session;
use super::load::map_data;
use super::syscall::{bpf, no_attributes};

impl Session {
    /// Bytes and blocks by site that have been live for longer than `age`.
    pub(super) fn live_older_than(
        &self,
        process: u16,
        age: Duration,
    ) -> anyhow::Result<HashMap<u32, (u64, u64)>> {
        let latest_ns = super::monotonic_ns().saturating_sub(u64::try_from(age.as_nanos())?);
        let mut sums: HashMap<u32, (u64, u64)> = HashMap::new();
        self.walk_live(|key, block| {
            if key.process == u32::from(process) && block.at_ns <= latest_ns {
                let sum = sums.entry(block.site).or_default();
                sum.0 += block.size_bytes;
                sum.1 += 1;
            }
        })?;
        Ok(sums)
    }

    /// Visits every live block, in batches. Blocks that come or go meanwhile may be missed.
    pub(super) fn walk_live(
        &self,
        mut visit: impl FnMut(&LiveKey, &LiveBlock),
    ) -> anyhow::Result<()> {
        self.walk_live_while(|key, block| {
            visit(key, block);
            true
        })
    }

    /// As [`Self::walk_live`], until `visit` says that it has seen enough.
    pub(super) fn walk_live_while(
        &self,
        mut visit: impl FnMut(&LiveKey, &LiveBlock) -> bool,
    ) -> anyhow::Result<()> {
        const BATCH: usize = 16 * 1024;
        let map = self
            .ebpf
            .map("LIVE")
            .and_then(map_data)
            .context("BPF map LIVE is missing")?;
        let mut keys = vec![LiveKey::default(); BATCH];
        let mut blocks = vec![LiveBlock::default(); BATCH];
        let (mut position, mut next) = ([0u8; 16], [0u8; 16]);
        let mut first = true;
        loop {
            let mut attributes = no_attributes();
            attributes.batch.map_fd = map.fd().as_fd().as_raw_fd().cast_unsigned();
            attributes.batch.in_batch = if first {
                0
            } else {
                position.as_mut_ptr() as u64
            };
            attributes.batch.out_batch = next.as_mut_ptr() as u64;
            attributes.batch.keys = keys.as_mut_ptr() as u64;
            attributes.batch.values = blocks.as_mut_ptr() as u64;
            attributes.batch.count = u32::try_from(BATCH)?;
            let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attributes);
            // SAFETY: the kernel has written the number of entries into this variant.
            let count = unsafe { attributes.batch.count } as usize;
            let end = match result {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error).context("failed to read the live allocations"),
            };
            for (key, block) in keys.iter().zip(&blocks).take(count) {
                if !visit(key, block) {
                    return Ok(());
                }
            }
            if end {
                return Ok(());
            }
            (position, first) = (next, false);
        }
    }
}

impl Session {
    /// Live bytes of a site by birth slot up to the present one; absent for sites whose births are
    /// not counted.
    pub(super) fn live_by_birth(&self, site: u32) -> Option<Box<[u64]>> {
        let site = site as usize;
        if site >= self.births.len() {
            return None;
        }
        let armed_at_ns = self.control.read(0).armed_at_ns;
        let slots = birth_slot(super::monotonic_ns().saturating_sub(armed_at_ns)) + 1;
        // SAFETY: the place is inside the mapping, of which no part is ever written from here.
        let counters = unsafe { (&raw const (*self.births.place(site)).live_bytes).cast::<u64>() };
        let live_bytes = (0..slots).map(|slot| {
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

//! The ledger of live blocks, as the kernel side keeps it → its blocks, one by one. Takes out what
//! ended processes have left there; else changes nothing.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use aya::maps::HashMap as BpfHashMap;
use aya_obj::generated::bpf_cmd;
use leaktrace_common::bucket::{BUCKET_SLOTS, Bucket, SLOT_CLAIMED};
use leaktrace_common::ledger::{LiveBlock, LiveKey};

use super::Session;
use super::array::MappedArray;
use super::load::map_data;
use super::syscall::{bpf, no_attributes};

/// Buckets that are looked at in one go: 4 MB. So many begin a page.
const PART: usize = 20 * 1024;

const _: () = assert!((PART * size_of::<Bucket>()).is_multiple_of(4096));

/// Entries of the map that are read at once.
const BATCH: usize = 16 * 1024;

/// Keys that are taken out of a map in one go.
const DELETED_AT_ONCE: usize = 64 * 1024;

impl Session {
    /// Visits live blocks until `visit` says that it has seen enough. Blocks that come or go
    /// meanwhile may be missed.
    pub(super) fn walk_live_while(
        &self,
        mut visit: impl FnMut(&LiveKey, &LiveBlock) -> bool,
    ) -> anyhow::Result<()> {
        let buckets = self.buckets as usize;
        for first in (0..buckets).step_by(PART) {
            let part = self.part_of_buckets(first, PART.min(buckets - first))?;
            for index in 0..part.len() {
                if !visit_bucket(&part, index, &mut visit) {
                    return Ok(());
                }
            }
        }
        self.walk_spilled_while(visit)
    }

    /// Takes the blocks of processes that have ended out of the ledger. Nobody else may look for them.
    pub(super) fn forget_blocks(&self, has_ended: impl Fn(u16) -> bool) -> anyhow::Result<()> {
        let ended = |key: &LiveKey| u16::try_from(key.process).is_ok_and(&has_ended);
        let mut spilled = Vec::new();
        self.walk_spilled_while(|key, _| {
            if ended(key) {
                spilled.push(*key);
            }
            true
        })?;
        self.delete_keys("SPILLED", &mut spilled)?;
        let mut spilled: Vec<usize> = spilled
            .iter()
            .map(|key| key.bucket(self.buckets) as usize)
            .collect();
        spilled.sort_unstable();
        let buckets = self.buckets as usize;
        for first in (0..buckets).step_by(PART) {
            let part = self.part_of_buckets(first, PART.min(buckets - first))?;
            for index in 0..part.len() {
                forget_in_bucket(&part, index, ended);
            }
            let from = spilled.partition_point(|bucket| *bucket < first);
            let to = spilled.partition_point(|bucket| *bucket < first + part.len());
            for bucket in &spilled[from..to] {
                // SAFETY: the place is inside the mapping.
                let spilled = unsafe { &raw mut (*part.place(bucket - first)).spilled };
                word(spilled).fetch_sub(1, Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// Takes keys out of a hash map; those that are not there are left out.
    pub(super) fn delete_keys<K>(&self, map: &'static str, keys: &mut [K]) -> anyhow::Result<()> {
        let data = self.ebpf.map(map).and_then(map_data);
        let data = data.with_context(|| format!("BPF map {map} is missing"))?;
        let mut from = 0;
        while from < keys.len() {
            let part = &mut keys[from..];
            let count = part.len().min(DELETED_AT_ONCE);
            let mut attributes = no_attributes();
            attributes.batch.map_fd = data.fd().as_fd().as_raw_fd().cast_unsigned();
            attributes.batch.keys = part.as_mut_ptr() as u64;
            attributes.batch.count = u32::try_from(count)?;
            let result = bpf(bpf_cmd::BPF_MAP_DELETE_BATCH, &mut attributes);
            // SAFETY: the kernel has written the number of keys that are done into this variant.
            let done = unsafe { attributes.batch.count } as usize;
            from += match result {
                Ok(_) => count,
                // It stops at a key that is not there.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) && done < count => {
                    done + 1
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("failed to clear BPF map {map}"));
                }
            };
        }
        Ok(())
    }

    /// Whether the ledger has this block.
    pub(super) fn is_live(&self, key: &LiveKey) -> anyhow::Result<bool> {
        let spilled: BpfHashMap<_, LiveKey, LiveBlock> = BpfHashMap::try_from(
            self.ebpf
                .map("SPILLED")
                .context("BPF map SPILLED is missing")?,
        )?;
        let data = self.ebpf.map("LIVE").context("BPF map LIVE is missing")?;
        let live: aya::maps::Array<_, Bucket> = aya::maps::Array::try_from(data)?;
        let bucket = live.get(&key.bucket(self.buckets), 0)?;
        let word = key.word();
        Ok(word != 0 && bucket.words.contains(&word)
            || bucket.spilled != 0 && spilled.get(key, 0).is_ok())
    }

    /// A part of the table, mapped for as long as it is looked at: to map all of it takes a while,
    /// and makes leaktrace look as if it were its own.
    fn part_of_buckets(&self, first: usize, count: usize) -> anyhow::Result<MappedArray<Bucket>> {
        let map = self.ebpf.map("LIVE").and_then(map_data);
        let map = map.context("BPF map LIVE is missing")?;
        MappedArray::map_part(map, first, count).context("failed to map the live allocations")
    }

    fn walk_spilled_while(
        &self,
        mut visit: impl FnMut(&LiveKey, &LiveBlock) -> bool,
    ) -> anyhow::Result<()> {
        let map = self
            .ebpf
            .map("SPILLED")
            .and_then(map_data)
            .context("BPF map SPILLED is missing")?;
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

/// Visits the blocks of a bucket; `false` when enough was seen.
fn visit_bucket(
    buckets: &MappedArray<Bucket>,
    index: usize,
    visit: &mut impl FnMut(&LiveKey, &LiveBlock) -> bool,
) -> bool {
    let place = buckets.place(index);
    // SAFETY: the place is inside the mapping, of which no part is ever written from here.
    let words = unsafe { (&raw const (*place).words).read_volatile() };
    for (slot, word) in words.into_iter().enumerate() {
        if word == 0 || word == SLOT_CLAIMED {
            continue;
        }
        // SAFETY: as above; the slot is one of the bucket's.
        let (block, word_after) = unsafe {
            (
                (&raw const (*place).blocks[slot]).read_volatile(),
                (&raw const (*place).words[slot]).read_volatile(),
            )
        };
        if word_after == word && !visit(&LiveKey::of_word(word), &block.unpack()) {
            return false;
        }
    }
    true
}

/// Frees the slots of a bucket whose processes have ended.
fn forget_in_bucket(
    buckets: &MappedArray<Bucket>,
    index: usize,
    has_ended: impl Fn(&LiveKey) -> bool,
) {
    for slot in 0..BUCKET_SLOTS {
        // SAFETY: the place is inside the mapping, and the slot is one of the bucket's.
        let slot = word(unsafe { &raw mut (*buckets.place(index)).words[slot] });
        let held = slot.load(Ordering::Acquire);
        if held != 0 && held != SLOT_CLAIMED && has_ended(&LiveKey::of_word(held)) {
            // Fails if a program has done it at the same time.
            let _ = slot.compare_exchange(held, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// A word of the table, which programs change at the same time.
fn word<'a>(place: *mut u64) -> &'a AtomicU64 {
    // SAFETY: callers pass aligned words of a mapping that they hold on to while they use it.
    unsafe { AtomicU64::from_ptr(place) }
}

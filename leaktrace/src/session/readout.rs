//! Reads what the programs have counted. Totals are summed in the kernel, so that a reading costs
//! the same however many allocations are live.

use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use aya::maps::HashMap as BpfHashMap;
use foldhash::{HashMap, HashMapExt};
use leaktrace_common::ledger::SiteTotals;
use leaktrace_common::limits::{DEEP_FRAMES, MAX_PAIRS, RECORD_FRAMES};
use leaktrace_common::loss::{LOSS_REASONS, Loss};
use leaktrace_common::stack::{DeepFrames, Source, StackEnd, StackRecord};

use super::Session;
use super::ages::sum_of_births;
use crate::snapshot::{Losses, SiteReading, Stack, Totals};

/// A program that has taken a site stores its stack within microseconds, or gives the site up.
const STORED_WITHIN: Duration = Duration::from_secs(30);

impl Session {
    /// Whether a process has new code, or code was seen to run outside its known mappings, since
    /// this was asked last. Ask before the mappings are read that [`Session::set_mappings`] gets.
    pub fn mappings_are_old(&mut self, process: u16) -> bool {
        let place = usize::from(process);
        let state = self.processes.read(place);
        let missed = state.mapping_missed != 0;
        self.removals_seen.insert(process, state.removals);
        if missed {
            self.processes
                .update(place, |state| state.mapping_missed = 0);
        }
        self.code_changed.remove(&process) || missed
    }

    /// Whether the next call of [`Session::mappings_are_old`] will say so, for all that is known.
    pub fn has_new_code(&self, process: u16) -> bool {
        let state = self.processes.read(usize::from(process));
        self.code_changed.contains(&process) || state.mapping_missed != 0
    }

    /// Has the mappings of a process taken for old, though it has told of nothing.
    pub fn expect_new_code(&mut self, process: u16) {
        self.code_changed.insert(process);
    }

    /// Whether no code has gone from a process since its mappings were read that the session was given
    /// last: the dynamic linker says so before it removes any.
    pub fn keeps_its_code(&self, process: u16) -> bool {
        let state = self.processes.read(usize::from(process));
        state.removals == state.removals_known
    }

    /// Frees of blocks of this process that the session did not see allocated.
    pub fn unmatched_frees(&self, process: u16) -> u64 {
        self.processes.read(usize::from(process)).unmatched_frees
    }

    /// Frees of what a pair of functions did not hand out before the session's eyes.
    pub fn unmatched_of_pair(&self, process: u16, pair: u8) -> u64 {
        let place = usize::from(process) * MAX_PAIRS as usize + usize::from(pair);
        self.pair_unmatched.read(place)
    }

    /// Of what these sites have mapped by this time and hold by these totals, bytes that were only set
    /// aside (PROT_NONE, MAP_NORESERVE).
    pub fn reserved_bytes(&self, process: u16, sites: &[SiteReading], latest_ns: u64) -> u64 {
        let Some(ledger) = self.mapped.get(usize::from(process)) else {
            return 0;
        };
        let reserved = ledger.reserved_by_site(latest_ns).into_iter();
        let reserved = self.by_first_site(reserved.map(|(site, bytes)| (site, (bytes, 0))));
        sites
            .iter()
            .filter(|site| site.stack.source == Source::Mmap)
            .filter_map(|site| Some(site.totals.live_bytes.min(reserved.get(&site.index)?.0)))
            .sum()
    }

    /// What was lost of a process so far.
    pub fn losses(&self, process: u16) -> Losses {
        let first = usize::from(process) * LOSS_REASONS;
        let mut totals: Vec<_> = (first..first + LOSS_REASONS)
            .map(|reason| self.losses.read(reason))
            .collect();
        if let Some(ledger) = self.mapped.get(usize::from(process)) {
            totals[Loss::LengthUnknown as usize].count = ledger.lengths_unknown() + ledger.doubts();
        }
        Losses::new(&totals)
    }

    /// Whether a heap allocation of a process was counted.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn has_allocated(&mut self, process: u16) -> anyhow::Result<bool> {
        self.load_stacks()?;
        let mut sites = (0..).zip(&self.stacks).filter_map(|(site, known)| {
            let (owner, stack) = known.as_ref()?;
            (*owner == process && stack.source != Source::Mmap).then_some(site)
        });
        Ok(sites.any(|site| self.heap_totals(site).allocated_count > 0))
    }

    /// Every site of a process that has allocated.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn sites(&mut self, process: u16) -> anyhow::Result<Vec<SiteReading>> {
        self.finish_stacks();
        self.load_stacks()?;
        let mapped: HashMap<u32, Totals> = match self.mapped.get(usize::from(process)) {
            Some(ledger) => ledger.totals().collect(),
            None => HashMap::new(),
        };
        let birth_slots = self.birth_slots();
        let mut sites: Vec<SiteReading> = Vec::with_capacity(self.stacks.len());
        let mut places: HashMap<u32, usize> = HashMap::with_capacity(self.stacks.len());
        for (index, known) in (0u32..).zip(&self.stacks) {
            let Some((owner, stack)) = known else {
                continue;
            };
            if *owner != process {
                continue;
            }
            let totals = match stack.source {
                Source::Mmap => mapped.get(&index).copied().unwrap_or_default(),
                _ => self.heap_totals(index),
            };
            if totals.allocated_count == 0 {
                continue;
            }
            let live_by_birth = match stack.source {
                Source::Mmap => None,
                _ => self.live_by_birth(index, birth_slots),
            };
            let first = *self.first_sites.entry(stack.id).or_insert(index);
            match places.entry(first) {
                Entry::Occupied(place) => {
                    let site = &mut sites[*place.get()];
                    site.totals += totals;
                    site.live_by_birth = sum_of_births(site.live_by_birth.take(), live_by_birth);
                }
                Entry::Vacant(place) => {
                    place.insert(sites.len());
                    sites.push(SiteReading {
                        index: first,
                        stack: Arc::clone(stack),
                        totals,
                        live_by_birth,
                    });
                }
            }
        }
        Ok(sites)
    }

    /// The freed side is read first: what is freed in between was allocated before, so live is
    /// never negative.
    pub(super) fn heap_totals(&self, site: u32) -> Totals {
        let place = self.totals.place(site as usize);
        // SAFETY: `place` is inside the mapping; each word is read once, in this order.
        let totals = unsafe {
            let freed_bytes = (&raw const (*place).freed_bytes).read_volatile();
            let freed_count = (&raw const (*place).freed_count).read_volatile();
            SiteTotals {
                allocated_bytes: (&raw const (*place).allocated_bytes).read_volatile(),
                allocated_count: (&raw const (*place).allocated_count).read_volatile(),
                freed_bytes,
                freed_count,
            }
        };
        Totals {
            live_bytes: totals.allocated_bytes.saturating_sub(totals.freed_bytes),
            live_count: totals.allocated_count.saturating_sub(totals.freed_count),
            allocated_bytes: totals.allocated_bytes,
            allocated_count: totals.allocated_count,
            freed_bytes: totals.freed_bytes,
            freed_count: totals.freed_count,
        }
    }

    /// Reads the frames of sites that are new since the last reading, and of those that were being
    /// stored then.
    pub(super) fn load_stacks(&mut self) -> anyhow::Result<()> {
        let control = self.control.read(0);
        let (handed_out, free_sites) = (control.next_site as usize, control.free_sites);
        let handed_out = handed_out.min(self.totals.len());
        let records: BpfHashMap<_, u32, StackRecord> = BpfHashMap::try_from(
            self.ebpf
                .map("STACKS")
                .context("BPF map STACKS is missing")?,
        )?;
        let deep: BpfHashMap<_, u32, DeepFrames> = BpfHashMap::try_from(
            self.ebpf
                .map("DEEP_STACKS")
                .context("BPF map DEEP_STACKS is missing")?,
        )?;
        let known = self.stacks.len();
        self.stacks.resize(handed_out.max(known), None);
        self.hashes.resize(self.stacks.len(), 0);
        let now = Instant::now();
        let new = self.places.sites_taken_again(free_sites).into_iter();
        let new = new.chain(known..handed_out).map(|index| (index, now));
        let waiting = std::mem::take(&mut self.unread_stacks);
        for (index, since) in waiting.into_iter().chain(new) {
            // Absent: being stored right now, or given up by the CPU that lost a race.
            let site = u32::try_from(index)?;
            match records.get(&site, 0) {
                Ok(record) => {
                    self.hashes[index] = record.hash;
                    // Absent only when the record is of such a CPU, and was there a moment longer.
                    let stack = decode(&record, || deep.get(&site, 0).ok());
                    let stack = self.unfinished.complete(index, record.process, stack);
                    self.stacks[index] = Some((record.process, Arc::new(stack)));
                }
                Err(_) if now - since < STORED_WITHIN => self.unread_stacks.push((index, since)),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// `deep` gives the frames that the record has no room for. A stack without them is cut.
fn decode(record: &StackRecord, deep: impl FnOnce() -> Option<DeepFrames>) -> Stack {
    let depth = record.depth as usize;
    let mut end = StackEnd::from_number(u32::from(record.end));
    let mut frames = record.frames[..depth.min(RECORD_FRAMES)].to_vec();
    if depth > RECORD_FRAMES {
        match deep() {
            Some(deep) => {
                let more = (depth - RECORD_FRAMES).min(DEEP_FRAMES);
                frames.extend(&deep.frames[..more]);
            }
            None => end = StackEnd::TooDeep,
        }
    }
    Stack {
        id: record.hash,
        source: Source::from_number(u32::from(record.source)),
        end,
        frames,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(depth: usize) -> StackRecord {
        StackRecord {
            hash: 5,
            process: 0,
            source: 0,
            end: StackEnd::Complete as u8,
            depth: depth as u32,
            frames: std::array::from_fn(|n| n as u64),
        }
    }

    fn deep() -> Option<DeepFrames> {
        Some(DeepFrames {
            frames: std::array::from_fn(|n| (RECORD_FRAMES + n) as u64),
        })
    }

    #[test]
    fn frames_beyond_the_record_follow_those_in_it() {
        for depth in [127, 300, RECORD_FRAMES + DEEP_FRAMES] {
            let stack = decode(&record(depth), deep);
            assert!(stack.frames.into_iter().eq(0..depth as u64), "{depth}");
            assert_eq!(stack.end, StackEnd::Complete);
        }
    }

    #[test]
    fn nothing_is_looked_up_for_a_stack_that_its_record_holds() {
        for depth in [0, 1, RECORD_FRAMES] {
            let stack = decode(&record(depth), || panic!("looked up at {depth}"));
            assert!(stack.frames.into_iter().eq(0..depth as u64));
            assert_eq!(stack.end, StackEnd::Complete);
        }
    }

    #[test]
    fn a_stack_without_its_deep_frames_is_cut_and_not_whole() {
        let stack = decode(&record(127), || None);
        assert_eq!(stack.frames.len(), RECORD_FRAMES);
        assert_eq!(stack.end, StackEnd::TooDeep);
    }
}

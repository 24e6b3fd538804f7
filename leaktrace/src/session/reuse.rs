//! Gives the places of processes and programs that have ended to others: what they still have in the
//! ledger and among the stacks is taken out first. A place is given away only when nothing refers
//! to it: no process, no probe, and no child that has not been taken up. Reports nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Context;
use aya::maps::HashMap as BpfHashMap;
use leaktrace_common::ledger::{SiteBirths, SiteTotals};
use leaktrace_common::limits::{
    FREE_SITES, MAX_PAIRS, MAX_PROCESSES, NOTED_FUNCTIONS, RECORD_FRAMES,
};
use leaktrace_common::loss::{LOSS_REASONS, LossTotals};
use leaktrace_common::process::ProcessState;
use leaktrace_common::reuse::Reuse;
use leaktrace_common::stack::{Bridge, BridgeKey, Source, site_without_stack};

use super::Session;
use super::array::MappedArray;
use crate::target::Mappings;

/// Blocks of ended processes may fill this part of the ledger before it is walked for them: a walk
/// takes longer the more is live.
const LEDGER_PART: u64 = 8;

/// The ledger is walked too when fewer places than this are left.
const FEW_PLACES: u32 = MAX_PROCESSES / 2;

/// A walk that is made for places is made for at least as many as this part of those that are left: for
/// one at a time, the walks would take longer than the programs that come meanwhile.
const WORTH_PART: u32 = 4;

/// How much may be done to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// What comes cheap, or must be done now.
    Cheap,
    /// All that is of use when places are few.
    All,
}

/// What the session knows of places that are in use, and of those that are free again.
pub(super) struct Places {
    /// Places of the table of processes that were taken up.
    pub(super) entered: BTreeSet<u16>,
    /// Those of them that have ended, with the blocks that they have in the ledger.
    ended: BTreeMap<u16, u64>,
    free_processes: MappedArray<u32>,
    free_sites: MappedArray<u32>,
    /// Sites that were given back and not taken yet, in the order of the queue.
    sites: VecDeque<u32>,
    sites_taken: u32,
    max_live: u64,
}

impl Places {
    pub(super) fn new(
        free_processes: MappedArray<u32>,
        free_sites: MappedArray<u32>,
        max_live: u32,
    ) -> Self {
        Self {
            entered: BTreeSet::new(),
            ended: BTreeMap::new(),
            free_processes,
            free_sites,
            sites: VecDeque::new(),
            sites_taken: 0,
            max_live: u64::from(max_live),
        }
    }

    /// Sites that the programs have taken again since this was asked last.
    pub(super) fn sites_taken_again(&mut self, queue: Reuse) -> Vec<usize> {
        let count = queue.taken.wrapping_sub(self.sites_taken) as usize;
        self.sites_taken = queue.taken;
        let taken = self.sites.drain(..count.min(self.sites.len()));
        taken.map(|site| site as usize).collect()
    }
}

impl Session {
    /// A process has ended, and its last report is written: all its programs can go.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn process_ended(&mut self, process: u16) -> anyhow::Result<()> {
        let first = self.processes.read(usize::from(process)).first;
        let programs: Vec<u16> = self.places.entered.iter().copied().collect();
        for program in programs {
            if self.processes.read(usize::from(program)).first == first {
                self.program_ended(program)?;
            }
        }
        Ok(())
    }

    /// A process runs another program, and the last report of this one is written.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn program_ended(&mut self, process: u16) -> anyhow::Result<()> {
        self.finish_stacks();
        self.load_stacks()?;
        // Nobody can look at its code any more, and to try again and again takes long when many end.
        self.unfinished.forget(u32::from(process));
        let blocks = self.blocks_of(process);
        self.places.ended.insert(process, blocks);
        Ok(())
    }

    /// Gives away the places of ended processes as far as nothing refers to them, and says which.
    /// Ask after all children were taken up.
    ///
    /// # Errors
    ///
    /// When a map cannot be read or changed.
    pub fn release_ended(&mut self, release: Release) -> anyhow::Result<Vec<u16>> {
        if self.places.ended.is_empty() {
            return Ok(Vec::new());
        }
        // In this order: whoever begins a program writes its entry before it leaves its old place.
        let counted_to = self.counted_to()?;
        let mut idle = self.places.ended.clone();
        idle.retain(|place, _| !counted_to.contains(place));
        let blocks: u64 = idle.values().sum();
        let holders = idle.values().filter(|blocks| **blocks > 0).count() as u32;
        let left = self.places_left();
        let is_worth_it = match release {
            Release::Cheap => holders >= (left / WORTH_PART).max(1),
            Release::All => holders > 0,
        };
        if blocks > self.places.max_live / LEDGER_PART || left < FEW_PLACES && is_worth_it {
            self.forget_blocks(|process| idle.contains_key(&process))?;
            for (place, blocks) in &mut idle {
                *blocks = 0;
                self.places.ended.insert(*place, 0);
            }
        }
        let clean = idle.iter().filter(|(_, blocks)| **blocks == 0);
        let free = self.unreferenced(clean.map(|(place, _)| *place).collect());
        for place in &free {
            self.release(*place)?;
        }
        Ok(free.into_iter().collect())
    }

    fn places_left(&self) -> u32 {
        let control = self.control.read(0);
        MAX_PROCESSES.saturating_sub(control.next_process) + control.free_processes.free()
    }

    /// Blocks of a process that are in the ledger. Each was counted when it came, and is when it goes.
    fn blocks_of(&self, process: u16) -> u64 {
        let sites = (0u32..).zip(&self.stacks);
        sites
            .filter(|(_, known)| matches!(known, Some((owner, _)) if *owner == process))
            .map(|(site, _)| self.heap_totals(site).live_count)
            .sum()
    }

    /// Of these places, those that nothing refers to but another one of them.
    fn unreferenced(&self, mut free: BTreeSet<u16>) -> BTreeSet<u16> {
        let states: Vec<ProcessState> = (0..self.processes.len())
            .map(|place| self.processes.read(place))
            .collect();
        for (place, state) in (0u16..).zip(&states) {
            if state.tgid != 0 && !self.places.entered.contains(&place) {
                free.retain(|known| u32::from(*known) != state.parent);
            }
        }
        free.retain(|known| self.links.iter().all(|(owner, _)| owner != known));
        loop {
            let before = free.len();
            for place in &self.places.entered {
                if !free.contains(place) {
                    let state = &states[usize::from(*place)];
                    let users = [state.first, state.present, state.probes_of, state.code_of];
                    // Nobody looks for bridges where there are none.
                    let bridges_of = (state.bridges_end != 0).then_some(state.bridges_of);
                    free.retain(|known| {
                        let known = u32::from(*known);
                        !users.contains(&known) && bridges_of != Some(known)
                    });
                }
            }
            if free.len() == before {
                return free;
            }
        }
    }

    /// Places that a running process counts to: its own, or its parent's before it has executed
    /// a program.
    fn counted_to(&self) -> anyhow::Result<BTreeSet<u16>> {
        let traced: BpfHashMap<_, u32, u32> = BpfHashMap::try_from(
            self.ebpf
                .map("TRACED")
                .context("BPF map TRACED is missing")?,
        )?;
        let mut places = BTreeSet::new();
        for entry in traced.iter() {
            let (_, place) = entry.context("failed to read the table of processes")?;
            places.extend(u16::try_from(place));
        }
        Ok(places)
    }

    /// Clears all that is kept of a process, and puts its place into the queue.
    fn release(&mut self, process: u16) -> anyhow::Result<()> {
        self.release_sites(process)?;
        self.forget_counts(process);
        self.forget_code(process)?;
        let place = usize::from(process);
        self.processes.update(place, |state| {
            *state = ProcessState {
                // Goes on: kept walks are known by it.
                mapping_table: state.mapping_table,
                ..ProcessState::default()
            }
        });
        self.places.ended.remove(&process);
        self.places.entered.remove(&process);
        let number = self.control.read(0).free_processes.released;
        let position = Reuse::position(number, MAX_PROCESSES) as usize;
        self.places
            .free_processes
            .update(position, |free| *free = u32::from(process));
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.control.update(0, |control| {
            control.free_processes.released = number.wrapping_add(1);
        });
        Ok(())
    }

    /// Sites that have a stack go back; those that every process has are begun anew.
    fn release_sites(&mut self, process: u16) -> anyhow::Result<()> {
        self.unfinished.forget(u32::from(process));
        let (mut sites, mut deep) = (Vec::new(), Vec::new());
        for (site, known) in (0u32..).zip(&mut self.stacks) {
            if let Some((_, stack)) = known.take_if(|(owner, _)| *owner == process) {
                forget_first(&mut self.first_sites, stack.id, site);
                sites.push(site);
                // What was finished here may have one frame less than what was stored.
                if stack.frames.len() >= RECORD_FRAMES {
                    deep.push(site);
                }
            }
        }
        for site in &sites {
            let place = *site as usize;
            self.totals
                .update(place, |totals| *totals = SiteTotals::default());
            if place < self.births.len() {
                self.births
                    .update(place, |births| *births = SiteBirths::default());
            }
        }
        let fixed = site_without_stack(u32::from(process), Source::Heap)
            ..site_without_stack(u32::from(process) + 1, Source::Heap);
        sites.retain(|site| !fixed.contains(site));
        self.forget_stacks(&mut sites, &mut deep)?;
        for site in sites {
            self.offer_site(site);
        }
        Ok(())
    }

    /// All at once: a program that was gone before its code was known has a stack for each block. What is
    /// not there was given up by the CPU that lost a race, after it was read.
    fn forget_stacks(&mut self, sites: &mut [u32], deep: &mut [u32]) -> anyhow::Result<()> {
        // As the programs have stored it: a stack that was finished here has got another one, and is not
        // found by this any more.
        let hash = |site: &u32| self.hashes.get(*site as usize).copied();
        let mut hashes: Vec<u64> = sites.iter().filter_map(hash).collect();
        self.delete_keys("STACKS", sites)?;
        self.delete_keys("DEEP_STACKS", deep)?;
        self.delete_keys("STACK_SITES", &mut hashes)
    }

    /// Puts a site into the queue; one for which the queue has no room is not used again.
    fn offer_site(&mut self, site: u32) {
        let queue = self.control.read(0).free_sites;
        if queue.free() >= FREE_SITES {
            return;
        }
        let position = Reuse::position(queue.released, FREE_SITES) as usize;
        self.places.free_sites.update(position, |free| *free = site);
        self.places.sites.push_back(site);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        self.control.update(0, |control| {
            control.free_sites.released = queue.released.wrapping_add(1);
        });
    }

    fn forget_counts(&mut self, process: u16) {
        let place = usize::from(process);
        let lost = self.events_lost_of(place);
        self.events_lost_seen = self.events_lost_seen.saturating_sub(lost);
        for reason in place * LOSS_REASONS..(place + 1) * LOSS_REASONS {
            self.losses
                .update(reason, |losses| *losses = LossTotals::default());
        }
        let pairs = MAX_PAIRS as usize;
        for pair in place * pairs..(place + 1) * pairs {
            self.pair_unmatched.update(pair, |count| *count = 0);
        }
        let functions = NOTED_FUNCTIONS as usize;
        for function in place * functions..(place + 1) * functions {
            self.hits.update(function, |hit| *hit = 0);
        }
        if let Some(ledger) = self.mapped.get_mut(place) {
            *ledger = ledger.emptied();
        }
    }

    /// The next program in this place must not be walked by the tables of this one.
    fn forget_code(&mut self, process: u16) -> anyhow::Result<()> {
        // Most that have ended early were never described.
        if self.code.contains_key(&process) {
            self.set_mappings(process, &Mappings::default())?;
            self.code.remove(&process);
        }
        self.code_changed.remove(&process);
        self.code_in_doubt.remove(&process);
        self.removals_seen.remove(&process);
        if let Some(inherited) = &mut self.inherited {
            inherited.forget(process);
        }
        if self.processes.read(usize::from(process)).bridges_end == 0 {
            return Ok(());
        }
        let mut bridges: BpfHashMap<_, BridgeKey, Bridge> = BpfHashMap::try_from(
            self.ebpf
                .map_mut("BRIDGES")
                .context("BPF map BRIDGES is missing")?,
        )?;
        let own: Vec<BridgeKey> = bridges
            .keys()
            .filter_map(Result::ok)
            .filter(|key| key.process == u32::from(process))
            .collect();
        for key in own {
            bridges.remove(&key).context("failed to forget a bridge")?;
        }
        Ok(())
    }
}

/// A stack is not a site's any more: the next site that has it will be its first.
pub(super) fn forget_first(first_sites: &mut foldhash::HashMap<u64, u32>, id: u64, site: u32) {
    if first_sites.get(&id) == Some(&site) {
        first_sites.remove(&id);
    }
}

//! A simulated site: blocks by the time of their birth, and the readings that the kernel side
//! would give of them. Draws its noise from a seed, so that every run is the same.

use std::time::Duration;

use leaktrace::snapshot::{SiteReading, Snapshot, Totals};
use leaktrace_common::birth::birth_slot;

/// Repeatable noise.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        let mut noise = Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            noise.even();
        }
        noise
    }

    /// Evenly spread from 0 to 1.
    pub(crate) fn even(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.even() * (high - low)
    }

    pub(crate) fn chance(&mut self, of: f64) -> bool {
        self.even() < of
    }

    /// Normal with mean 0 and deviation 1, near enough.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }

    /// Exponential with this mean.
    pub(crate) fn waiting(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.even()).ln()
    }

    /// Poisson with this mean.
    pub(crate) fn arrivals(&mut self, mean: f64) -> u64 {
        if mean > 50.0 {
            return (mean + mean.sqrt() * self.normal()).max(0.0).round() as u64;
        }
        let (mut count, mut sum) = (0, self.waiting(1.0));
        while sum < mean {
            count += 1;
            sum += self.waiting(1.0);
        }
        count
    }
}

/// Blocks of the same moment that go away at the same tick, or never.
#[derive(Clone, Copy, Debug)]
struct Batch {
    born: u32,
    dies: u32,
    bytes: u64,
    count: u64,
}

/// The blocks of one site.
pub(crate) struct Site {
    tick: u32,
    tick_s: f64,
    batches: Vec<Batch>,
    totals: Totals,
    /// Freed before the behaviour began, as all that was allocated then.
    calm_bytes: u64,
}

const NEVER: u32 = u32::MAX;

impl Site {
    pub(crate) fn new(tick_s: f64) -> Self {
        Self {
            tick: 0,
            tick_s,
            batches: Vec::new(),
            totals: Totals::default(),
            calm_bytes: 0,
        }
    }

    /// Begins the next interval: what is due goes away.
    pub(crate) fn next_tick(&mut self) -> u32 {
        self.tick += 1;
        let tick = self.tick;
        self.free_where(|batch| batch.dies <= tick);
        tick
    }

    /// Allocates blocks of 64 bytes that stay until something frees them.
    pub(crate) fn allocate(&mut self, bytes: f64) {
        self.allocate_for(bytes, f64::INFINITY);
    }

    /// Allocates blocks that live for so many intervals.
    pub(crate) fn allocate_for(&mut self, bytes: f64, ticks: f64) {
        let count = (bytes / 64.0).round().max(0.0) as u64;
        self.allocate_blocks(count, 64, ticks);
    }

    /// Allocates blocks of one size.
    pub(crate) fn allocate_blocks(&mut self, count: u64, size_bytes: u64, ticks: f64) {
        if count == 0 {
            return;
        }
        let dies = match ticks.is_finite() {
            true => self.tick + ticks.ceil() as u32,
            false => NEVER,
        };
        self.totals.allocated_bytes += count * size_bytes;
        self.totals.allocated_count += count;
        self.batches.push(Batch {
            born: self.tick,
            dies,
            bytes: count * size_bytes,
            count,
        });
    }

    /// Allocates and frees at once, between two readings.
    pub(crate) fn churn(&mut self, bytes: f64) {
        let count = (bytes / 64.0) as u64;
        self.totals.allocated_bytes += count * 64;
        self.totals.allocated_count += count;
        self.totals.freed_bytes += count * 64;
        self.totals.freed_count += count;
    }

    pub(crate) fn live_bytes(&self) -> f64 {
        self.batches.iter().map(|batch| batch.bytes).sum::<u64>() as f64
    }

    pub(crate) fn free_all(&mut self) {
        self.free_where(|_| true);
    }

    /// Frees all that can die, and nothing that was allocated to stay.
    pub(crate) fn free_mortal(&mut self) {
        self.free_where(|batch| batch.dies != NEVER);
    }

    /// Frees this share of the blocks, whatever their age.
    pub(crate) fn free_any(&mut self, share: f64, noise: &mut Noise) {
        for index in 0..self.batches.len() {
            let count = noise.arrivals(self.batches[index].count as f64 * share);
            self.free_from(index, count);
        }
        self.batches.retain(|batch| batch.count > 0);
    }

    /// Frees the oldest blocks, so many bytes.
    pub(crate) fn free_oldest(&mut self, bytes: f64) {
        let mut left = bytes;
        for index in 0..self.batches.len() {
            let size = self.batches[index].bytes as f64 / self.batches[index].count as f64;
            let count = ((left / size).max(0.0) as u64).min(self.batches[index].count);
            left -= count as f64 * size;
            self.free_from(index, count);
        }
        self.batches.retain(|batch| batch.count > 0);
    }

    fn free_from(&mut self, index: usize, count: u64) {
        let batch = &mut self.batches[index];
        let count = count.min(batch.count);
        let bytes = batch.bytes / batch.count * count;
        batch.bytes -= bytes;
        batch.count -= count;
        self.totals.freed_bytes += bytes;
        self.totals.freed_count += count;
    }

    fn free_where(&mut self, is_freed: impl Fn(&Batch) -> bool) {
        for batch in self.batches.iter().filter(|batch| is_freed(batch)) {
            self.totals.freed_bytes += batch.bytes;
            self.totals.freed_count += batch.count;
        }
        self.batches.retain(|batch| !is_freed(batch));
    }

    /// What was freed by now is no part of what is told by [`Site::freed_share`].
    pub(crate) fn forget_calm(&mut self) {
        self.calm_bytes = self.totals.freed_bytes;
    }

    /// Bytes freed since the calm as a share of those allocated.
    pub(crate) fn freed_share(&self) -> f64 {
        let [allocated, freed] = [self.totals.allocated_bytes, self.totals.freed_bytes];
        let since = |bytes: u64| bytes.saturating_sub(self.calm_bytes) as f64;
        since(freed) / since(allocated).max(1.0)
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.tick) * self.tick_s)
    }

    /// The reading in the middle of this interval, when what is due is gone and nothing has come.
    pub(crate) fn snapshot_before_its_work(&self) -> Snapshot {
        self.snapshot_at((f64::from(self.tick) - 0.5) * self.tick_s, true)
    }

    /// The reading at the end of this interval, with or without births.
    pub(crate) fn snapshot(&self, births: bool) -> Snapshot {
        self.snapshot_at(f64::from(self.tick) * self.tick_s, births)
    }

    fn snapshot_at(&self, elapsed_s: f64, births: bool) -> Snapshot {
        let mut totals = self.totals;
        totals.live_bytes = totals.allocated_bytes - totals.freed_bytes;
        totals.live_count = totals.allocated_count - totals.freed_count;
        let slots = birth_slot((elapsed_s * 1e9) as u64) + 1;
        let mut live_by_birth = vec![0; slots];
        for batch in &self.batches {
            let born_s = (f64::from(batch.born) - 0.5) * self.tick_s;
            live_by_birth[birth_slot((born_s * 1e9) as u64)] += batch.bytes;
        }
        let reading =
            SiteReading::of_numbers(0, totals, births.then(|| live_by_birth.into_boxed_slice()));
        Snapshot::of_sites(Duration::from_secs_f64(elapsed_s), vec![reading])
    }
}

//! Readings of a process's mappings → who owns what the process has grown by: traced blocks and
//! mappings, the allocator, files, shared memory, or nobody who was traced. Pure.
//!
//! Which memory is the allocator's cannot be asked from outside; where blocks lie that it has handed
//! out can. A mapping in which one was seen counts as the allocator's from then on, whichever
//! allocator it is.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::target::{Area, AreaKind};

/// One mapping at a time.
#[derive(Clone, Debug)]
pub struct AreaReading {
    /// The mapping.
    pub area: Area,
    /// What of it is resident or in swap and lies in mappings whose mmap call was traced, bytes.
    pub traced_bytes: u64,
}

/// By whom the memory is held that a process has gained since the start, bytes. What is resident is
/// the sum of all, less what has gone to swap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// When it was read, since the start.
    pub at: Duration,
    /// Resident when it was read.
    pub resident_bytes: u64,
    /// Growth of what is resident.
    pub growth_bytes: i64,
    /// Traced live blocks, as the program asked for them.
    pub heap_bytes: i64,
    /// What the allocator's memory has grown by beyond that: headers and rounding, free blocks that it
    /// keeps, blocks from before the start that are touched only now. Negative when traced
    /// blocks lie in memory that was resident before, or are not touched yet.
    pub allocator_bytes: i64,
    /// What has been touched of mappings whose mmap call was traced.
    pub mapped_bytes: i64,
    /// The main stack, and data of the program and its libraries.
    pub data_bytes: i64,
    /// Other pages of mapped files.
    pub file_bytes: i64,
    /// Other shared memory.
    pub shared_bytes: i64,
    /// Anonymous memory that no traced call has asked for: mapped before the start and touched
    /// since, or mapped by raw system calls. Negative when such memory was given back.
    pub untracked_bytes: i64,
    /// Of all that, what has gone to swap.
    pub swapped_bytes: i64,
    /// The file that has grown most among `file_bytes`, and by how much.
    pub largest_file: Option<(String, i64)>,
    /// The same among `shared_bytes`.
    pub largest_shared: Option<(String, i64)>,
}

impl Owners {
    /// Part of the growth whose cause is traced, the allocator's own use included; absent when the
    /// process has not grown.
    pub fn explained_ratio(&self) -> Option<f64> {
        let explained = (self.heap_bytes + self.allocator_bytes).max(0) + self.mapped_bytes.max(0);
        let others = [
            self.data_bytes,
            self.file_bytes,
            self.shared_bytes,
            self.untracked_bytes,
        ];
        let other: i64 = others.iter().map(|bytes| bytes.max(&0)).sum();
        (self.growth_bytes > 0 && explained + other > 0)
            .then(|| explained as f64 / (explained + other) as f64)
    }
}

/// The mappings of one process over time.
#[derive(Debug, Default)]
pub struct Footprint {
    start: Vec<Area>,
    /// By area of the start: whether the allocator's memory has been seen there.
    start_is_allocators: Vec<bool>,
    /// Addresses of blocks, two in each mapping that has any.
    blocks: BTreeSet<u64>,
    latest: Option<Owners>,
}

/// Sums by class.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    resident: u64,
    swapped: u64,
    allocator: u64,
    mapped: u64,
    data: u64,
    file: u64,
    shared: u64,
    untracked: u64,
}

impl Footprint {
    /// How it was when counting began.
    pub fn begin(&mut self, areas: Vec<Area>) {
        self.start_is_allocators = vec![false; areas.len()];
        self.start = areas;
    }

    /// Whether there is a beginning to compare with.
    pub fn has_begun(&self) -> bool {
        !self.start.is_empty()
    }

    /// Whether it is known of this mapping that blocks lie in it.
    pub fn has_blocks(&self, area: &Area) -> bool {
        self.blocks.range(area.start()..area.end()).next().is_some()
    }

    /// Notes addresses of traced live blocks: some, or all.
    pub fn note_blocks(&mut self, addresses: impl IntoIterator<Item = u64>) {
        self.blocks.extend(addresses);
    }

    /// Adds a reading. `live_heap_bytes` are those of all traced live blocks.
    pub fn observe(&mut self, at: Duration, areas: &[AreaReading], live_heap_bytes: u64) {
        self.thin_out(areas);
        self.mark_start(areas);
        let (before, now) = (self.sums_at_start(areas), self.sums(areas));
        let change = |of: fn(&Sums) -> u64| of(&now).cast_signed() - of(&before).cast_signed();
        let heap_bytes = live_heap_bytes.cast_signed();
        self.latest = Some(Owners {
            at,
            resident_bytes: now.resident,
            growth_bytes: change(|sums| sums.resident),
            heap_bytes,
            allocator_bytes: change(|sums| sums.allocator) - heap_bytes,
            mapped_bytes: change(|sums| sums.mapped),
            data_bytes: change(|sums| sums.data),
            file_bytes: change(|sums| sums.file),
            shared_bytes: change(|sums| sums.shared),
            untracked_bytes: change(|sums| sums.untracked),
            swapped_bytes: change(|sums| sums.swapped),
            largest_file: self.largest(areas, AreaKind::File),
            largest_shared: self.largest(areas, AreaKind::Shared),
        });
    }

    /// What was found at the last reading.
    pub fn owners(&self) -> Option<&Owners> {
        self.latest.as_ref()
    }

    /// Keeps the first and the last block of each mapping: enough to know it again when it is cut
    /// or joined.
    fn thin_out(&mut self, areas: &[AreaReading]) {
        let ends = areas
            .iter()
            .filter(|reading| reading.area.kind == AreaKind::Anonymous)
            .flat_map(|reading| {
                let mut inside = self.blocks.range(reading.area.start()..reading.area.end());
                [inside.next().copied(), inside.next_back().copied()]
            });
        self.blocks = ends.flatten().collect();
    }

    /// What has joined the allocator's memory was the allocator's.
    fn mark_start(&mut self, areas: &[AreaReading]) {
        let own: Vec<&Area> = areas
            .iter()
            .map(|reading| &reading.area)
            .filter(|area| area.kind == AreaKind::Anonymous && self.has_blocks(area))
            .collect();
        for (area, is_allocators) in self.start.iter().zip(&mut self.start_is_allocators) {
            let after = own.partition_point(|own| own.end() <= area.start());
            *is_allocators |= own.get(after).is_some_and(|own| own.start() < area.end());
        }
    }

    fn sums_at_start(&self, now: &[AreaReading]) -> Sums {
        let mut sums = Sums::default();
        let mut last_file_end = None;
        for (area, is_allocators) in self.start.iter().zip(&self.start_is_allocators) {
            let same = || now.iter().any(|reading| is_same(&reading.area, area));
            let is_data = last_file_end == Some(area.start()) && same();
            sums.add(area, 0, *is_allocators, is_data);
            last_file_end = (area.kind == AreaKind::File).then(|| area.end());
        }
        sums
    }

    fn sums(&self, areas: &[AreaReading]) -> Sums {
        let mut sums = Sums::default();
        let mut last_file_end = None;
        for AreaReading { area, traced_bytes } in areas {
            let same = || self.start.iter().any(|start| is_same(start, area));
            // Zeroed data of an object follows its file; anything may have been mapped behind it.
            let is_data = last_file_end == Some(area.start()) && same();
            sums.add(area, *traced_bytes, self.has_blocks(area), is_data);
            last_file_end = (area.kind == AreaKind::File).then(|| area.end());
        }
        sums
    }

    /// The file or the shared memory that has grown most, with its growth.
    fn largest(&self, areas: &[AreaReading], kind: AreaKind) -> Option<(String, i64)> {
        let mut by_path = std::collections::HashMap::new();
        let now = areas.iter().map(|reading| (&reading.area, 1));
        let start = self.start.iter().map(|area| (area, -1));
        for (area, sign) in now.chain(start).filter(|(area, _)| area.kind == kind) {
            let bytes = area.resident_bytes.saturating_sub(area.anonymous_bytes);
            *by_path.entry(&area.mapping.path).or_insert(0) += sign * bytes.cast_signed();
        }
        let largest = by_path
            .into_iter()
            .max_by(|one, other| one.1.cmp(&other.1).then(other.0.cmp(one.0)))?;
        (largest.1 > 0).then(|| (largest.0.to_string_lossy().into_owned(), largest.1))
    }
}

impl Sums {
    fn add(&mut self, area: &Area, traced_bytes: u64, has_blocks: bool, is_data: bool) {
        self.resident += area.resident_bytes;
        self.swapped += area.swapped_bytes;
        let of_file = area.resident_bytes.saturating_sub(area.anonymous_bytes);
        let anonymous = area.held_bytes() - of_file;
        self.mapped += traced_bytes.min(area.held_bytes());
        // What is traced of a mapped file is its pages before it is copies of them.
        let file_rest = of_file.saturating_sub(traced_bytes);
        let rest = anonymous.saturating_sub(traced_bytes.saturating_sub(of_file));
        match area.kind {
            AreaKind::File => {
                self.file += file_rest;
                self.data += rest;
            }
            AreaKind::Shared => self.shared += file_rest + rest,
            AreaKind::Stack => self.data += file_rest + rest,
            AreaKind::Anonymous if has_blocks => self.allocator += file_rest + rest,
            AreaKind::Anonymous if is_data => self.data += file_rest + rest,
            AreaKind::Anonymous => self.untracked += file_rest + rest,
        }
    }
}

fn is_same(one: &Area, other: &Area) -> bool {
    one.start() == other.start() && one.end() == other.end()
}

#[cfg(test)]
#[path = "footprint_tests.rs"]
mod tests;

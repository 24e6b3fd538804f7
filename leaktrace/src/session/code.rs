//! Tells the stack walk what it has to know of a process's code: where it is mapped, which unwind
//! table belongs to it, and which functions are no frames.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use aya::maps::{HashMap as BpfHashMap, MapData};
use leaktrace_common::limits::MAX_MAPPINGS;
use leaktrace_common::mapping::{MappingTable, TableRef};
use leaktrace_common::stack::{Bridge, BridgeKey};

use super::Session;
use super::tables::Tables;
use crate::target::{FileId, Mappings, Object};
use crate::unwind::Built;

/// The table of a file of this size is made in a few milliseconds.
const SMALL_FILE_BYTES: u64 = 16 << 20;

/// Then the machine is too busy for anything.
const LONGEST_WAIT_FOR_SMALL_FILES: Duration = Duration::from_secs(5);

impl Session {
    /// Gives the stack walk the executable mappings of a process.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_mappings(&mut self, process: u16, mappings: &Mappings) -> anyhow::Result<()> {
        self.write_mappings(process, mappings)?;
        self.mappings_written(process, mappings);
        Ok(())
    }

    /// Stacks can be followed by the mappings that the programs have now, their own ones, and not those of
    /// a parent.
    pub(super) fn mappings_written(&mut self, process: u16, mappings: &Mappings) {
        self.code.insert(process, mappings.clone());
        if let Some(seen) = self.removals_seen.remove(&process) {
            let now = self.processes.read(usize::from(process)).removals;
            // Read while code went: they may be those of a later time.
            match now == seen {
                true => self.code_in_doubt.remove(&process),
                false => self.code_in_doubt.insert(process),
            };
            self.processes
                .update(usize::from(process), |state| state.removals_known = seen);
        }
        self.unfinished.note_news();
        self.finish_stacks();
    }

    /// Where a process's dynamic linker says what it is doing, once that was told.
    pub fn linker_state(&self, process: u16) -> Option<u64> {
        let address = self.processes.read(usize::from(process)).linker_state;
        (address != 0).then_some(address)
    }

    /// Tells where a process's dynamic linker says what it is doing; see [`Process::linker`].
    ///
    /// [`Process::linker`]: crate::target::Process::linker
    pub fn set_linker_state(&mut self, process: u16, address: u64) {
        self.processes
            .update(usize::from(process), |state| state.linker_state = address);
    }

    /// Children that are walked by the tables of this process get what it had: what it maps from now on is not
    /// theirs.
    pub(super) fn leave_code_to_children(
        &mut self,
        process: u16,
        now: &Mappings,
    ) -> anyhow::Result<()> {
        let before = match self.code.get(&process) {
            Some(before) if !before.executable().eq(now.executable()) => before.clone(),
            _ => return Ok(()),
        };
        let in_doubt = self.code_in_doubt.contains(&process);
        for child in 0..self.processes_made() {
            let state = self.processes.read(usize::from(child));
            if child == process || state.tgid == 0 || state.code_of != u32::from(process) {
                continue;
            }
            self.write_mappings(child, &before)?;
            self.processes
                .update(usize::from(child), |state| state.code_of = u32::from(child));
            self.code.insert(child, before.clone());
            // One that was forked after the change has what came with it.
            self.code_changed.insert(child);
            if in_doubt {
                self.code_in_doubt.insert(child);
            }
            if !self.places.entered.contains(&child) {
                self.parted.insert(child);
            }
        }
        Ok(())
    }

    /// The half of the table that is not in use is written, then the halves are swapped.
    pub(super) fn write_mappings(
        &mut self,
        process: u16,
        mappings: &Mappings,
    ) -> anyhow::Result<()> {
        let mut table = Box::new(MappingTable::EMPTY);
        fill(&mut table, mappings, &self.tables);
        let trampoline = mappings
            .iter()
            .find(|mapping| mapping.path == Path::new("[uprobes]"))
            .map(|m| m.start);
        let before = self.processes.read(usize::from(process)).mapping_table;
        let next = before.wrapping_add(1);
        let mut tables: aya::maps::Array<_, MappingTable> = aya::maps::Array::try_from(
            self.ebpf
                .map_mut("MAPPINGS")
                .context("BPF map MAPPINGS is missing")?,
        )?;
        tables.set(u32::from(process) * 2 + (next & 1), *table, 0)?;
        self.processes.update(usize::from(process), |state| {
            if let Some(trampoline) = trampoline {
                state.trampoline = trampoline;
            }
            state.mapping_table = next;
        });
        Ok(())
    }

    /// Has the unwind table of an object made, once, and put in place when it is finished.
    pub fn request_table(&mut self, object: &Object) {
        let Some(builder) = &mut self.builder else {
            return;
        };
        if self.tables.expect(object.file_id(), object.size_bytes()) {
            builder.request(object.clone());
        }
    }

    /// Notes files with code that cannot be opened. Tell before the mappings are described in which they
    /// are.
    pub fn expect_no_tables(&mut self, files: impl IntoIterator<Item = FileId>) {
        for file in files {
            self.tables.expect_nothing(file);
        }
    }

    /// Puts the tables in place that are finished by now.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the mappings that refer to them.
    pub fn take_tables(&mut self) -> anyhow::Result<()> {
        let mut placed = false;
        while let Some(built) = self.builder.as_ref().and_then(|builder| builder.take()) {
            self.place(built);
            placed = true;
        }
        match placed {
            true => self.refer_to_tables(),
            false => Ok(()),
        }
    }

    /// Puts tables in place until every one that was asked for is there, or this time is over. Those
    /// of small files are waited for in any case: they take milliseconds, and if the machine is so
    /// busy that they do not come, more and more stacks would wait for them.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the mappings that refer to them.
    pub fn wait_for_tables(&mut self, limit: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        while let Some(file_bytes) = self.tables.smallest_pending() {
            let limit = match file_bytes <= SMALL_FILE_BYTES {
                true => LONGEST_WAIT_FOR_SMALL_FILES,
                false => limit,
            };
            let left = limit.saturating_sub(begun.elapsed());
            let Some(built) = self.builder.as_ref().and_then(|builder| builder.wait(left)) else {
                break;
            };
            self.place(built);
        }
        log::info!(
            "unwind tables take {} KiB of kernel memory; {} rows of them cannot be followed",
            self.tables.size_bytes() / 1024,
            self.tables.unsupported_rows(),
        );
        self.refer_to_tables()
    }

    fn place(&mut self, built: Built) {
        let name = built
            .object
            .as_ref()
            .map(|object| object.path().to_owned())
            .unwrap_or_default();
        if let Err(error) = self.tables.place(built) {
            log::warn!("stacks through {} are cut: {error}", name.display());
        }
    }

    /// Lets the mappings of every process refer to the tables that are in place.
    fn refer_to_tables(&mut self) -> anyhow::Result<()> {
        let processes: Vec<_> = self.code.clone().into_iter().collect();
        for (process, mappings) in processes {
            self.write_mappings(process, &mappings)?;
        }
        self.unfinished.note_news();
        self.finish_stacks();
        Ok(())
    }

    /// Lets the stack walk by frame pointers cross functions that are no frames: return addresses
    /// (avma) in them, with the way to their caller.
    ///
    /// # Errors
    ///
    /// When there are more than fit; calls in the rest show the bridged function as a frame.
    pub fn add_bridges(&mut self, process: u16, bridges: &[(u64, Bridge)]) -> anyhow::Result<()> {
        let mut map: BpfHashMap<_, BridgeKey, Bridge> = BpfHashMap::try_from(
            self.ebpf
                .map_mut("BRIDGES")
                .context("BPF map BRIDGES is missing")?,
        )?;
        let place = usize::from(process);
        let owner = self.processes.read(place).bridges_of;
        let inherited = match bridges.is_empty() || owner == u32::from(process) {
            true => Vec::new(),
            false => bridges_in(&map, owner)?,
        };
        for (address, bridge) in inherited.iter().chain(bridges) {
            let key = BridgeKey {
                address: *address,
                process: u32::from(process),
                padding: 0,
            };
            map.insert(key, *bridge, 0)
                .context("too many calls inside operator new")?;
            self.processes.update(place, |state| {
                state.bridges_end = state.bridges_end.max(address + 1);
                state.bridges_start = match state.bridges_start {
                    0 => *address,
                    start => start.min(*address),
                };
            });
        }
        if !bridges.is_empty() {
            self.processes
                .update(place, |state| state.bridges_of = u32::from(process));
        }
        Ok(())
    }
}

/// The bridges of a process.
fn bridges_in(
    map: &BpfHashMap<&mut MapData, BridgeKey, Bridge>,
    process: u32,
) -> anyhow::Result<Vec<(u64, Bridge)>> {
    let all = map.iter().filter(|entry| {
        let of_process = |(key, _): &(BridgeKey, Bridge)| key.process == process;
        entry.as_ref().map_or(true, of_process)
    });
    let found = all.map(|entry| entry.map(|(key, bridge)| (key.address, bridge)));
    found
        .collect::<Result<_, _>>()
        .context("failed to read the bridges of a parent")
}

/// Code of a process that the stack walk tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    start: u64,
    end: u64,
    of_file: bool,
    base: u64,
    table: TableRef,
}

/// Neighbours with one table become one range; if there are still too many, ranges of files come
/// first, because code that was made at run time is rarely what allocates.
fn fill(table: &mut MappingTable, mappings: &Mappings, tables: &Tables) {
    // The vsyscall page lies in the upper half; the search wants addresses below 2^63.
    let user = mappings
        .executable()
        .filter(|mapping| mapping.end < 1 << 63);
    let mut ranges: Vec<Stretch> = Vec::new();
    for mapping in user {
        let (base, reference) = tables.of(mapping);
        let of_file = mapping.file.is_some();
        match ranges.last_mut() {
            Some(last)
                if last.end == mapping.start && (last.base, last.table) == (base, reference) =>
            {
                last.end = mapping.end;
                last.of_file |= of_file;
            }
            _ => ranges.push(Stretch {
                start: mapping.start,
                end: mapping.end,
                of_file,
                base,
                table: reference,
            }),
        }
    }
    if ranges.len() > MAX_MAPPINGS {
        log::warn!(
            "{} ranges of code, more than the {MAX_MAPPINGS} that are known to the stack walk: \
             stacks through the others are cut",
            ranges.len(),
        );
        ranges.sort_by_key(|range| (!range.of_file, range.start));
        ranges.truncate(MAX_MAPPINGS);
        ranges.sort_by_key(|range| range.start);
    }
    for (index, range) in ranges.into_iter().enumerate() {
        table.starts[index] = range.start;
        table.ends[index] = range.end;
        table.bases[index] = range.base;
        table.tables[index] = range.table.0;
        table.count += 1;
    }
}

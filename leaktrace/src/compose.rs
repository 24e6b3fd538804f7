//! Snapshot, growth and names → [`Report`]. Decides what a report says; reads nothing and writes
//! nothing.

mod grouping;
mod nothing_seen;
mod pairs;
mod process;
mod unseen;
mod watched;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use leaktrace_common::birth::birth_slot_start_ns;
use leaktrace_common::loss::Loss;
use leaktrace_common::stack::{Source, StackEnd};

use crate::analysis::{
    Alerted, ChurnOrder, Growth, MemoryTracker, Order, Owners, Temporaries, Tracker,
};
use crate::report::{MappedLine, Report, Site, TotalsLine};
use crate::snapshot::{SiteReading, Snapshot};
use crate::symbolize::{Frame, Naming, PastCode, suspect};
use crate::units;

pub use grouping::GroupBy;
pub use pairs::PairReading;
pub use unseen::Unseen;

/// What a report is made of besides names.
pub struct Material<'a> {
    /// Number of the report, from 1.
    pub seq: u64,
    /// Whether it is the last one.
    pub is_final: bool,
    /// Process id.
    pub pid: u32,
    /// Name of the process.
    pub comm: &'a str,
    /// Which of the process's programs it is, from 1.
    pub epoch: u32,
    /// Process that it was forked from under trace.
    pub parent_pid: Option<u32>,
    /// When the reading was taken.
    pub time: SystemTime,
    /// The reading.
    pub snapshot: &'a Snapshot,
    /// Code that was replaced by other code.
    pub past_code: &'a PastCode,
    /// The readings before it.
    pub tracker: &'a Tracker,
    /// Conditions that hold, and those that have begun or ceased to.
    pub alerts: &'a Alerted,
    /// In which order the busiest sites are listed, if they are, and what is known of what they free soon.
    pub churn: Option<(ChurnOrder, &'a Temporaries)>,
    /// The memory of the whole process.
    pub memory: &'a MemoryTracker,
    /// Who holds what the process has grown by; absent when its mappings could not be read.
    pub owners: Option<&'a Owners>,
    /// What makes two sites one.
    pub group_by: GroupBy,
    /// Resident set when the session was armed, bytes.
    pub rss_at_start_bytes: Option<u64>,
    /// Whether mappings are traced.
    pub mappings_traced: bool,
    /// What of the program was not counted, for how long.
    pub unseen: Option<Unseen>,
    /// When it was counted first, on the clock of the readings.
    pub begun: Duration,
    /// Age from which on live blocks are counted.
    pub older: Duration,
    /// The age from which on they really are, where not each was looked at; then their number is unknown.
    pub older_by_slots: Option<Duration>,
    /// Whether other processes allocate in its memory, which is not counted.
    pub has_sharers: bool,
    /// Whether any allocation function is probed.
    pub heap_traced: bool,
    /// Whether the main thread has ended and others run on.
    pub main_thread_ended: bool,
    /// Whether the kernel takes all probes of a process out when its main thread ends.
    pub main_thread_holds_probes: bool,
    /// Whether only some sizes are counted.
    pub sizes_filtered: bool,
    /// Sites that could not be named because their object could not be read.
    pub naming_failures: u64,
    /// The pairs of functions that the user has named.
    pub pairs: &'a [PairReading],
}

impl Material<'_> {
    /// A number of live blocks, unless it is only the most that it can be.
    fn known_count(&self, live_count: u64) -> Option<u64> {
        (self.older_by_slots.is_none() || live_count == 0).then_some(live_count)
    }
}

/// Makes a report that lists `top` sites (0: all).
pub fn report(
    material: &Material<'_>,
    order: Order,
    top: usize,
    naming: &mut dyn Naming,
) -> Report {
    let without_pairs;
    let snapshot = if material.pairs.is_empty() {
        material.snapshot
    } else {
        without_pairs = material.snapshot.of_pair(None);
        &without_pairs
    };
    let heap = snapshot.totals(Source::Heap);
    let mapped = snapshot.totals(Source::Mmap);
    // What is merged has to be named before it is ranked.
    let candidates = match material.group_by {
        GroupBy::Stack => top,
        _ => 0,
    };
    let top_sites = material.tracker.top(snapshot, order, candidates);
    let unlisted_growth_bytes_per_s = match material.group_by {
        GroupBy::Stack => material.tracker.fastest_but(snapshot, &top_sites),
        _ => None,
    };
    let sites: Vec<Site> = match material.group_by {
        GroupBy::Stack => top_sites
            .into_iter()
            .map(|reading| site(material, reading, naming))
            .collect(),
        by => {
            let members = grouping::with_empty(top_sites, snapshot);
            let named = members.map(|reading| (reading.index, member(material, reading, naming)));
            grouping::group(named, by, order, top, |members| {
                material.tracker.growth_together(members)
            })
        }
    };
    let live = snapshot
        .sites
        .iter()
        .filter(|site| site.totals.live_count > 0)
        .count();
    Report {
        seq: material.seq,
        is_final: material.is_final,
        time: material.time,
        elapsed_s: snapshot.elapsed.as_secs_f64(),
        pid: material.pid,
        comm: material.comm.to_owned(),
        parent_pid: material.parent_pid,
        epoch: (material.epoch > 1).then_some(material.epoch),
        unseen_s: material.unseen.map(|unseen| unseen.time.as_secs_f64()),
        older_s: (!material.older.is_zero()).then_some(material.older.as_secs_f64()),
        older_counted_s: material.older_by_slots.map(|age| age.as_secs_f64()),
        process: process::line(material),
        limits: process::limits(material),
        time_left: process::time_left(material),
        totals: TotalsLine {
            live_bytes: heap.live_bytes,
            live_count: material.known_count(heap.live_count),
            allocated_bytes: heap.allocated_bytes,
            allocated_count: heap.allocated_count,
            freed_bytes: heap.freed_bytes,
            freed_count: heap.freed_count,
            // Of sizes that are not counted, too.
            unmatched_frees: (!material.sizes_filtered).then_some(snapshot.unmatched_frees),
        },
        mapped: material.mappings_traced.then_some(MappedLine {
            live_bytes: mapped.live_bytes,
            live_count: mapped.live_count,
            reserved_bytes: snapshot.reserved_bytes,
        }),
        losses: losses(snapshot),
        truncated_stacks: snapshot
            .truncated_stacks()
            .into_iter()
            .map(|(end, count)| (end.name(), count))
            .collect(),
        lost_bytes: lost_bytes(snapshot),
        unwind_table_bytes: snapshot.unwind_table_bytes,
        sites,
        site_count: live as u64,
        unlisted_growth_bytes_per_s,
        pairs: pairs::lines(material, order, top, naming),
        churn: watched::churn(material, snapshot, top, naming),
        alerts: watched::alerts(material, naming),
        alert_changes: watched::alert_changes(material, naming),
        notices: notices(material),
    }
}

fn site(material: &Material<'_>, reading: &SiteReading, naming: &mut dyn Naming) -> Site {
    let growth = material.tracker.growth(reading.index);
    site_that_grows(growth, material, reading, naming)
}

/// A site that is merged with others. There can be very many that are empty, and to judge each takes long:
/// none of these is shown.
fn member(material: &Material<'_>, reading: &SiteReading, naming: &mut dyn Naming) -> Site {
    let growth = match reading.totals.live_count {
        0 => Growth::UNKNOWN,
        _ => material.tracker.growth(reading.index),
    };
    site_that_grows(growth, material, reading, naming)
}

fn site_that_grows(
    growth: Growth,
    material: &Material<'_>,
    reading: &SiteReading,
    naming: &mut dyn Naming,
) -> Site {
    let stack = &reading.stack;
    let frames: Vec<Frame> = material
        .past_code
        .name(naming, &material.snapshot.mappings, reading)
        .into_iter()
        .flatten()
        .collect();
    Site {
        id: format!("{:016x}", stack.id),
        source: match stack.source {
            Source::Heap => "heap",
            Source::Mmap => "mmap",
            _ => "pair",
        },
        live_bytes: reading.totals.live_bytes,
        live_count: match stack.source {
            Source::Mmap => Some(reading.totals.live_count),
            _ => material.known_count(reading.totals.live_count),
        },
        allocated_count: reading.totals.allocated_count,
        allocated_bytes: reading.totals.allocated_bytes,
        live_bytes_since_s: reading.live_by_birth.as_deref().map(ages),
        growth_bytes_per_s: growth.bytes_per_s,
        growth_interval_bytes_per_s: growth.interval_bytes_per_s,
        verdict: growth.verdict,
        reason: growth.words(),
        complete: stack.end == StackEnd::Complete,
        truncated: truncation(stack.end, stack.frames.is_empty()),
        suspect_frame: suspect(&frames),
        stacks: 1,
        empty_stacks: u64::from(reading.totals.live_count == 0),
        frames,
    }
}

/// Live bytes by the time of their birth, seconds.
fn ages(live_by_birth: &[u64]) -> Vec<(f64, u64)> {
    let held = live_by_birth.iter().enumerate().filter(|held| *held.1 > 0);
    held.map(|(slot, bytes)| (birth_slot_start_ns(slot) as f64 / 1e9, *bytes))
        .collect()
}

const fn truncation(end: StackEnd, no_frames: bool) -> Option<&'static str> {
    if no_frames {
        return Some("the stack was not stored");
    }
    match end {
        StackEnd::Complete => None,
        StackEnd::TooDeep => Some("more frames than are stored"),
        StackEnd::NoFramePointer => Some("code without frame pointers"),
        StackEnd::NoMapping => Some("unknown code"),
        StackEnd::Unreadable => Some("the stack could not be read"),
        StackEnd::NoInfo => Some("code without unwind information"),
        StackEnd::TableMissing => Some("its unwind information was not read yet"),
        StackEnd::RuleMissing => Some("unwind information of an unusual kind"),
        StackEnd::BrokenFrame => Some("its unwind information leads nowhere"),
    }
}

/// Occurrences by reason. Truncated stacks are summed from the sites: counting them where they
/// happen would cost every allocation.
fn losses(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    let mut losses: BTreeMap<String, u64> = snapshot
        .losses
        .iter()
        .map(|(reason, totals)| (reason.name().to_owned(), totals.count))
        .collect();
    let truncated = snapshot.truncated_stacks().values().sum();
    losses.insert("stack_truncated".to_owned(), truncated);
    losses
}

/// Losses of which the bytes are known.
const LOSSES_WITH_BYTES: [Loss; 4] = [
    Loss::LiveMapFull,
    Loss::PendingMapFull,
    Loss::ResultUnreadable,
    Loss::CallAbandoned,
];

fn lost_bytes(snapshot: &Snapshot) -> BTreeMap<String, u64> {
    LOSSES_WITH_BYTES
        .iter()
        .map(|reason| (reason.name().to_owned(), snapshot.losses.get(*reason).bytes))
        .collect()
}

fn notices(material: &Material<'_>) -> Vec<String> {
    let snapshot = material.snapshot;
    let heap = snapshot.totals(Source::Heap);
    let mut notices = Vec::new();
    let lost = [Loss::LiveMapFull, Loss::PendingMapFull]
        .iter()
        .any(|reason| snapshot.losses.get(*reason).count > 0);
    let is_unseen = material.unseen.is_some_and(Unseen::is_all);
    if is_unseen {
        // What there is to say is said below.
    } else if !material.heap_traced {
        let counted = match material.mappings_traced {
            true => "only its mappings are counted",
            false => "nothing of it is counted",
        };
        notices.push(format!(
            "no allocation functions were found in the process: {counted}"
        ));
    } else if heap.allocated_count == 0 && !material.sizes_filtered && !lost {
        notices.push(nothing_seen::allocated(
            snapshot,
            snapshot.elapsed.saturating_sub(material.begun),
            material.rss_at_start_bytes,
        ));
    } else if let Some(notice) = nothing_seen::freed(snapshot).filter(|_| !material.sizes_filtered)
    {
        notices.push(notice);
    }
    if let Some(unseen) = material.unseen {
        notices.extend(unseen.notices(material.pid));
    }
    if material.main_thread_ended && material.main_thread_holds_probes {
        notices.push(
            "nothing is counted any more: the main thread of the process has ended, and kernels \
             before 6.10 take the probes out with it"
                .to_owned(),
        );
    } else if material.main_thread_ended {
        notices.push(
            "the main thread of the process has ended: the kernel puts no probe into code that it \
             loads from now on"
                .to_owned(),
        );
    }
    if material.sizes_filtered {
        notices.push("only allocations and mappings of the sizes asked for are counted".to_owned());
    }
    if let Some(age) = material.older_by_slots {
        notices.push(format!(
            "more is live than can be asked for its age one by one: blocks are listed that are at least {} \
             old, which is the next age above {} that the counters know; how many they are is not known",
            units::elapsed(age.as_secs_f64()),
            units::elapsed(material.older.as_secs_f64()),
        ));
    }
    if snapshot.losses.get(Loss::LiveMapFull).count > 0 {
        notices.push(
            "the map of live allocations is full; start again with a larger --max-live".to_owned(),
        );
    }
    if snapshot.losses.get(Loss::StackMapFull).count > 0 {
        notices
            .push("the map of stacks is full; start again with a larger --max-stacks".to_owned());
    }
    if snapshot.losses.get(Loss::PendingMapFull).count > 0 {
        notices.push(
            "more threads allocate than are followed; start again with a larger --max-pending"
                .to_owned(),
        );
    }
    if snapshot.losses.get(Loss::EventLost).count > 0 {
        notices.push(
            "mapping events were lost: the mmap sites may be short or long; start again with a larger \
             --event-buffer"
                .to_owned(),
        );
    }
    if snapshot.losses.get(Loss::LengthUnknown).count > 0 {
        notices.push(
            "segments of shared memory were gone before their length could be read, or the process before \
             it could be seen what a failed call had left of its mappings: the mmap sites do not count that \
             (lengths of segments are known at once on kernels from 5.17 on)"
                .to_owned(),
        );
    }
    if material.naming_failures > 0 {
        notices.push(format!(
            "{} frames have no name because their file could not be read",
            material.naming_failures,
        ));
    }
    notices
}

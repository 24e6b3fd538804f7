//! The memory of a whole process → the lines of a report about it. Reads nothing.

use leaktrace_common::loss::Loss;

use super::{LOSSES_WITH_BYTES, Material};
use crate::analysis::{MemoryGrowth, Owners};
use crate::report::{GrownFile, KindsLine, LimitLine, OwnersLine, ProcessLine, TimeLeftLine};
use crate::snapshot::Losses;
use crate::target::{MemoryUse, Runtime};

/// Less growth than this is not worth another tool.
const WORTH_BYTES: i64 = 1 << 20;

/// Part of the growth from which on it is worth one.
const WORTH_SHARE: f64 = 0.2;

/// Part of the growth that calls of unknown outcome may have asked for without a share of the growth
/// being wrong.
const LOST_SHARE: f64 = 0.01;

/// The process as a whole.
pub(super) fn line(material: &Material<'_>) -> ProcessLine {
    let snapshot = material.snapshot;
    let owners = material.owners;
    // Two ways of asking the kernel give two figures; those of one report are of one kind.
    let fresh =
        owners.filter(|owners| snapshot.rss_bytes.is_some() && owners.at >= snapshot.elapsed);
    let rss_bytes = fresh.map_or(snapshot.rss_bytes, |owners| Some(owners.resident_bytes));
    let growth = match fresh {
        Some(owners) => Some(owners.growth_bytes),
        None => rss_bytes
            .zip(material.rss_at_start_bytes)
            .map(|(now, start)| now.cast_signed() - start.cast_signed()),
    };
    let runtime = Runtime::find(&snapshot.mappings);
    ProcessLine {
        rss_bytes,
        rss_at_start_bytes: match fresh {
            Some(owners) => owners
                .resident_bytes
                .checked_add_signed(-owners.growth_bytes),
            None => material.rss_at_start_bytes,
        },
        rss_growth_bytes: growth,
        explained_ratio: owners
            .filter(|owners| is_all_counted(material, owners))
            .and_then(Owners::explained_ratio),
        rss_pattern: material.memory.pattern(),
        growth_by_kind: material.memory.growth().map(kinds),
        growth_by_owner: owners.map(owners_line),
        runtime: runtime.map(Runtime::word),
        next_tool: owners
            .filter(|owners| tells_of_now(material, owners))
            .and_then(|owners| next_tool(owners, runtime, material.pid)),
    }
}

/// Whether what the allocator holds beyond the live blocks is its own use, and not also blocks that
/// were left out or lost.
fn is_all_counted(material: &Material<'_>, owners: &Owners) -> bool {
    let probes_gone = material.main_thread_ended && material.main_thread_holds_probes;
    let left_out = material.sizes_filtered
        || !material.mappings_traced
        || material.has_sharers
        || material.unseen.is_some();
    !left_out && !probes_gone && is_little(&material.snapshot.losses, owners.growth_bytes)
}

/// Whether what was lost is known to come to next to nothing of the growth. Losses of stacks lose no
/// byte, and a child that is not followed is not this process.
fn is_little(losses: &Losses, growth_bytes: i64) -> bool {
    // How much these come to, nobody knows.
    let boundless = [Loss::FreeMissed, Loss::EventLost, Loss::LengthUnknown];
    let bounded = LOSSES_WITH_BYTES.iter();
    let lost_bytes: u64 = bounded.map(|reason| losses.get(*reason).bytes).sum();
    boundless
        .iter()
        .all(|reason| losses.get(*reason).count == 0)
        && lost_bytes as f64 <= LOST_SHARE * growth_bytes.max(0) as f64
}

/// Whether what the look found says where the memory is now: that look was not long ago, and what was not
/// tracked then is not what the user wanted left out.
fn tells_of_now(material: &Material<'_>, owners: &Owners) -> bool {
    !material.sizes_filtered && owners.at * 2 >= material.snapshot.elapsed
}

fn kinds(growth: MemoryGrowth) -> KindsLine {
    KindsLine {
        anonymous_bytes: growth.anonymous_bytes,
        file_bytes: growth.file_bytes,
        shared_bytes: growth.shared_bytes,
        swapped_bytes: growth.swapped_bytes,
        major_faults: growth.major_faults,
        untracked_anonymous_bytes: growth.untracked_anonymous_bytes,
    }
}

fn owners_line(owners: &Owners) -> OwnersLine {
    let grown = |largest: &Option<(String, i64)>| {
        let (path, bytes) = largest.clone()?;
        Some(GrownFile { path, bytes })
    };
    OwnersLine {
        at_s: owners.at.as_secs_f64(),
        heap_bytes: owners.heap_bytes,
        allocator_bytes: owners.allocator_bytes,
        mapped_bytes: owners.mapped_bytes,
        data_bytes: owners.data_bytes,
        file_bytes: owners.file_bytes,
        shared_bytes: owners.shared_bytes,
        untracked_bytes: owners.untracked_bytes,
        swapped_bytes: owners.swapped_bytes,
        largest_file: grown(&owners.largest_file),
        largest_shared: grown(&owners.largest_shared),
    }
}

/// What to look with, where the growth is.
fn next_tool(owners: &Owners, runtime: Option<Runtime>, pid: u32) -> Option<String> {
    let held_bytes = owners.growth_bytes + owners.swapped_bytes;
    let least_bytes = WORTH_BYTES.max((held_bytes as f64 * WORTH_SHARE) as i64);
    let is_worth = |bytes: i64| bytes >= least_bytes;
    if let Some(runtime) = runtime
        && is_worth(owners.untracked_bytes.max(0) + owners.mapped_bytes.max(0))
    {
        return Some(runtime.next_tool().replace("PID", &pid.to_string()));
    }
    if is_worth(owners.untracked_bytes) {
        return Some(format!(
            "it touches memory that it had mapped before, or maps by raw system calls: perf record \
             -g -e page-faults -p {pid} shows the code that touches it"
        ));
    }
    if is_worth(owners.shared_bytes) {
        return Some(format!(
            "shared memory has grown: ls -l /dev/shm /proc/{pid}/map_files, ipcs -m and lsof say \
             who else has it"
        ));
    }
    is_worth(owners.file_bytes).then(|| {
        "pages of mapped files have grown: the kernel takes them back when memory is short"
            .to_owned()
    })
}

/// What bounds the process.
pub(super) fn limits(material: &Material<'_>) -> Vec<LimitLine> {
    let bounds = material.memory.latest().map(MemoryUse::nearest_bounds);
    let bounds = bounds.into_iter().flatten();
    bounds
        .map(|bound| LimitLine {
            kind: bound.kind.word(),
            limit_bytes: bound.limit_bytes,
            used_bytes: bound.used_bytes,
        })
        .collect()
}

/// When the first bound is reached; what has ended reaches none.
pub(super) fn time_left(material: &Material<'_>) -> TimeLeftLine {
    let left = material.snapshot.rss_bytes;
    let left = left.and_then(|_| material.memory.time_left());
    TimeLeftLine {
        time_left_s: left.map(|left| left.seconds),
        time_left_until: left.map(|left| left.kind.word()),
    }
}

#[cfg(test)]
mod tests {
    use leaktrace_common::loss::LossTotals;

    use super::*;

    /// Losses of one reason.
    fn lost(reason: Loss, count: u64, bytes: u64) -> Losses {
        let totals = Loss::ALL.map(|each| match each == reason {
            true => LossTotals { count, bytes },
            false => LossTotals::default(),
        });
        Losses::new(&totals)
    }

    #[test]
    fn growth_is_not_said_to_be_explained_where_bytes_were_lost() {
        assert!(is_little(&Losses::default(), 1 << 20));
        for reason in Loss::ALL {
            let loses_no_bytes = matches!(
                reason,
                Loss::StackMapFull | Loss::ScratchBusy | Loss::ProcessTableFull
            );
            let much = lost(reason, 3, 1 << 16);
            assert_eq!(is_little(&much, 1 << 20), loses_no_bytes, "{reason:?}");
        }
    }

    #[test]
    fn a_few_calls_that_were_abandoned_spoil_no_ratio() {
        let few = lost(Loss::CallAbandoned, 3, 300);
        assert!(is_little(&few, 1 << 20));
        assert!(!is_little(&few, 10_000));
        assert!(!is_little(&few, -5));
        assert!(!is_little(&lost(Loss::FreeMissed, 1, 8), 1 << 30));
    }
}

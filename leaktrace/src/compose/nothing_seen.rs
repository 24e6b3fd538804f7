//! A reading in which something is missing that should be there → what it can mean, and what to do.

use std::time::Duration;

use leaktrace_common::stack::Source;

use crate::snapshot::Snapshot;
use crate::units;

/// Less growth than this is noise: stacks, page tables, the target's files.
const GROWTH_BYTES: u64 = 1 << 20;

/// As many frees as this are no accident.
const FREES: u64 = 1000;

/// No allocation was seen in all this time.
pub(super) fn allocated(
    snapshot: &Snapshot,
    counted: Duration,
    rss_at_start_bytes: Option<u64>,
) -> String {
    let seconds = counted.as_secs_f64();
    let growth = snapshot
        .rss_bytes
        .zip(rss_at_start_bytes)
        .map_or(0, |(now, start)| now.saturating_sub(start));
    let live = snapshot.totals(Source::Mmap).live_bytes;
    let mapped = live.saturating_sub(snapshot.reserved_bytes);
    match snapshot.unmatched_frees {
        0 if growth.saturating_sub(mapped) > GROWTH_BYTES => format!(
            "no allocation was seen in {seconds:.1} s, and yet the process has grown by {}: it uses \
             memory that it had before, or allocates with functions that are not probed; -v lists \
             the probes, and --pair adds functions to them",
            units::bytes(growth),
        ),
        0 if growth > GROWTH_BYTES => format!(
            "no allocation was seen in {seconds:.1} s: the process has grown by {} in what it maps itself",
            units::bytes(growth),
        ),
        0 => format!(
            "no allocation was seen in {seconds:.1} s: the process is idle, or it allocates with \
             functions that are not probed (-v lists the probes)"
        ),
        frees => format!(
            "{frees} blocks were freed and no allocation was seen in {seconds:.1} s: they were \
             allocated before leaktrace was started, or by functions that are not probed (-v lists \
             the probes)"
        ),
    }
}

/// Allocations and frees were seen, but none of a block that was seen allocated.
pub(super) fn freed(snapshot: &Snapshot) -> Option<String> {
    let heap = snapshot.totals(Source::Heap);
    let suspicious =
        heap.freed_count == 0 && heap.allocated_count > 0 && snapshot.unmatched_frees >= FREES;
    suspicious.then(|| {
        format!(
            "all {} frees so far are of blocks from before leaktrace was started: what lives long \
             looks like growth until it is freed for the first time; let it run longer",
            units::count(snapshot.unmatched_frees),
        )
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leaktrace_common::stack::StackEnd;

    use super::*;
    use crate::snapshot::{Losses, SiteReading, Stack, Totals};
    use crate::target::Mappings;

    fn snapshot(rss_bytes: u64, unmatched_frees: u64, allocated: u64, freed: u64) -> Snapshot {
        let stack = Stack {
            id: 1,
            source: Source::Heap,
            end: StackEnd::Complete,
            frames: Vec::new(),
        };
        let totals = Totals {
            allocated_count: allocated,
            freed_count: freed,
            ..Totals::default()
        };
        Snapshot {
            elapsed: Duration::from_secs(10),
            sites: vec![SiteReading {
                index: 0,
                stack: Arc::new(stack),
                totals,
                live_by_birth: None,
            }],
            unmatched_frees,
            reserved_bytes: 0,
            losses: Losses::default(),
            unwind_table_bytes: 0,
            rss_bytes: Some(rss_bytes),
            mappings: Arc::new(Mappings::default()),
        }
    }

    #[test]
    fn growth_without_allocations_is_told_from_an_idle_process() {
        let start = Some(100 << 20);
        let counted = Duration::from_secs(4);
        let idle = allocated(&snapshot(100 << 20, 0, 0, 0), counted, start);
        assert!(
            idle.contains("is idle") && idle.contains("in 4.0 s"),
            "{idle}"
        );
        let grown = allocated(&snapshot(150 << 20, 0, 0, 0), counted, start);
        assert!(
            grown.contains("50.0 MiB") && grown.contains("--pair"),
            "{grown}"
        );
        let late = allocated(&snapshot(100 << 20, 7, 0, 0), counted, start);
        assert!(late.starts_with("7 blocks were freed"), "{late}");
    }

    #[test]
    fn frees_of_old_blocks_alone_are_said_to_be_that() {
        let all_old = freed(&snapshot(0, 5000, 100, 0));
        assert!(all_old.is_some_and(|notice| notice.contains("all 5,000 frees")));
        assert_eq!(freed(&snapshot(0, 5000, 100, 1)), None);
        assert_eq!(freed(&snapshot(0, 3, 100, 0)), None);
    }
}

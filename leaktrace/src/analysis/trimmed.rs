//! The totals of a site → those that its verdict is made from. Changes no number that a report prints.

use leaktrace_common::stack::Source;

use crate::snapshot::{SiteReading, Totals};

/// Of mappings only what is wholly gone counts as freed: V8, the JVM, jemalloc and mimalloc map about twice as
/// much as they want and unmap the ends at once, which gives nothing of it back. Each that is gone is taken to
/// have been as large as those that are left are on the average.
pub(super) fn judged_totals(site: &SiteReading) -> Totals {
    let totals = site.totals;
    if site.stack.source != Source::Mmap || totals.live_count == 0 {
        return totals;
    }
    let mapping_bytes = totals.live_bytes / totals.live_count;
    let gone_bytes = totals.freed_count.saturating_mul(mapping_bytes);
    Totals {
        freed_bytes: totals.freed_bytes.min(gone_bytes),
        ..totals
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use leaktrace_common::stack::StackEnd;

    use super::*;
    use crate::analysis::{Tracker, Verdict};
    use crate::snapshot::{Snapshot, Stack};

    /// A site that maps 512 KiB a second and unmaps half of it at once, and of each `gone`-th mapping all.
    fn judged(source: Source, gone: u64) -> Verdict {
        let mut tracker = Tracker::new();
        for second in 0..60 {
            let live_count = second - second / gone;
            let allocated_bytes = second * 524_288;
            let live_bytes = live_count * 262_144;
            let totals = Totals {
                live_bytes,
                live_count,
                allocated_bytes,
                allocated_count: second,
                freed_bytes: allocated_bytes - live_bytes,
                freed_count: second / gone,
            };
            let site = SiteReading {
                stack: Arc::new(Stack {
                    id: 1,
                    source,
                    end: StackEnd::Complete,
                    frames: Vec::new(),
                }),
                ..SiteReading::of_numbers(0, totals, None)
            };
            tracker.observe(&Snapshot::of_sites(Duration::from_secs(second), vec![site]));
        }
        tracker.growth(0).verdict
    }

    #[test]
    fn the_ends_that_are_cut_off_a_mapping_are_no_frees_of_it() {
        assert_eq!(judged(Source::Mmap, 1000), Verdict::Leaking);
        assert_eq!(judged(Source::Mmap, 40), Verdict::Leaking);
        assert_eq!(judged(Source::Mmap, 3), Verdict::Growing);
        assert_eq!(judged(Source::Heap, 1000), Verdict::Growing);
    }
}

//! Sites of a snapshot → the ones that a report lists, in their order. Decides no verdict.

use std::cmp::Reverse;

use crate::snapshot::{SiteReading, Snapshot};

use super::Tracker;
use super::verdict::Verdict;

/// What "top" means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What is judged leaking before all else, and of each the fastest growth first; sites of which it is
    /// not known that they grow rank as if they did not, and equals by their live bytes.
    #[default]
    Growth,
    /// Most live bytes first.
    Bytes,
    /// Most live blocks first.
    Count,
}

/// The sites that hold something, the top one first: `count` of them, all for zero.
pub(super) fn top<'a>(
    tracker: &Tracker,
    snapshot: &'a Snapshot,
    order: Order,
    count: usize,
) -> Vec<&'a SiteReading> {
    let mut sites: Vec<&SiteReading> = snapshot
        .sites
        .iter()
        .filter(|site| site.totals.live_count > 0)
        .collect();
    let count = if count == 0 { sites.len() } else { count };
    match order {
        Order::Bytes => sites.sort_by_key(|site| by_bytes(site)),
        Order::Count => sites.sort_by_key(|site| (Reverse(site.totals.live_count), by_bytes(site))),
        Order::Growth => {
            // The exact slope costs thousands of divisions a site: only for sites that can win.
            let candidates = count.saturating_mul(4).saturating_add(64);
            if candidates < sites.len() {
                sort_by_growth(&mut sites, |site| (false, tracker.rough_growth(site.index)));
                sites.truncate(candidates);
            }
            sort_by_growth(&mut sites, |site| {
                let growth = tracker.growth(site.index);
                rank(
                    growth.verdict,
                    growth.bytes_per_s,
                    growth.interval_bytes_per_s,
                )
            });
        }
    }
    sites.truncate(count);
    sites
}

/// By what sites are ranked that have this verdict and this slope: whether it is a leak, and how fast it
/// grows beyond doubt. What moves up and down has a slope, too, which says nothing.
pub fn rank(
    verdict: Verdict,
    bytes_per_s: Option<f64>,
    interval_bytes_per_s: Option<[f64; 2]>,
) -> (bool, f64) {
    let is_leak = verdict == Verdict::Leaking;
    let may_be_zero = interval_bytes_per_s.is_none_or(|[low, high]| low <= 0.0 && high >= 0.0);
    match may_be_zero && !is_leak {
        true => (false, 0.0),
        false => (is_leak, bytes_per_s.unwrap_or(0.0)),
    }
}

/// Most live bytes first; equal sites keep one order from report to report.
fn by_bytes(site: &SiteReading) -> (Reverse<u64>, u32) {
    (Reverse(site.totals.live_bytes), site.index)
}

fn sort_by_growth(sites: &mut [&SiteReading], growth: impl Fn(&SiteReading) -> (bool, f64)) {
    sites.sort_by_cached_key(|site| {
        let (is_leak, slope) = growth(site);
        (Reverse((is_leak, Slope(slope))), by_bytes(site))
    });
}

/// A slope as a sort key; slopes are never NaN, and total order would be right even then.
#[derive(Clone, Copy, Debug)]
struct Slope(f64);

impl PartialEq for Slope {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Slope {}

impl PartialOrd for Slope {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slope {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use leaktrace_common::stack::{Source, StackEnd};

    use super::*;
    use crate::snapshot::{Losses, Stack, Totals};
    use crate::target::Mappings;

    /// A snapshot with one site for each pair of live bytes and live count.
    fn snapshot(at_ms: u64, sites: &[(u64, u64)]) -> Snapshot {
        let stack = Arc::new(Stack {
            id: 1,
            source: Source::Heap,
            end: StackEnd::Complete,
            frames: Vec::new(),
        });
        let reading = |(index, (live_bytes, live_count)): (usize, &(u64, u64))| SiteReading {
            index: index as u32,
            stack: Arc::clone(&stack),
            totals: Totals {
                live_bytes: *live_bytes,
                live_count: *live_count,
                ..Totals::default()
            },
            live_by_birth: None,
        };
        Snapshot {
            elapsed: Duration::from_millis(at_ms),
            sites: sites.iter().enumerate().map(reading).collect(),
            unmatched_frees: 0,
            reserved_bytes: 0,
            losses: Losses::default(),
            unwind_table_bytes: 0,
            rss_bytes: None,
            mappings: Arc::new(Mappings::default()),
        }
    }

    fn indexes(sites: &[&SiteReading]) -> Vec<u32> {
        sites.iter().map(|site| site.index).collect()
    }

    #[test]
    fn each_order_ranks_by_its_own_measure_and_leaves_out_empty_sites() {
        let mut tracker = Tracker::new();
        let mut last = snapshot(0, &[]);
        for i in 0..20 {
            let sites = [(500 + i, 1), (100 + i * 10, 2), (9000, 3), (0, 0), (50, 9)];
            last = snapshot(i * 1000, &sites);
            tracker.observe(&last);
        }
        assert_eq!(indexes(&tracker.top(&last, Order::Growth, 0)), [1, 0, 2, 4]);
        assert_eq!(indexes(&tracker.top(&last, Order::Bytes, 2)), [2, 0]);
        assert_eq!(indexes(&tracker.top(&last, Order::Count, 3)), [4, 2, 1]);
        assert_eq!(tracker.growth(1).verdict, Verdict::Leaking);
        assert_eq!(tracker.growth(2).verdict, Verdict::Steady);
        assert_eq!(tracker.growth(77).verdict, Verdict::Unknown);
    }

    #[test]
    fn a_leak_stands_before_what_grows_faster_or_only_moves() {
        let mut tracker = Tracker::new();
        let mut last = snapshot(0, &[]);
        for i in 0..40_u64 {
            // What fills up, what goes up and down, and what leaks slowly.
            let fills = 1_000_000 - 1_000_000 / (i + 1);
            let moves = 500_000 + (i * i * 7919) % 400_000;
            last = snapshot(i * 1000, &[(fills, 1), (moves, 1), (1000 + i * 10, 1)]);
            tracker.observe(&last);
        }
        assert_eq!(tracker.growth(2).verdict, Verdict::Leaking);
        assert_eq!(indexes(&tracker.top(&last, Order::Growth, 0))[0], 2);
        let noise = rank(Verdict::Steady, Some(900.0), Some([-2000.0, 2500.0]));
        assert!(noise < rank(Verdict::Growing, Some(10.0), Some([5.0, 15.0])));
    }

    #[test]
    fn first_report_ranks_by_live_bytes_while_growth_is_unknown() {
        let mut tracker = Tracker::new();
        let only = snapshot(100, &[(10, 1), (30, 1), (20, 1)]);
        tracker.observe(&only);
        assert_eq!(indexes(&tracker.top(&only, Order::Growth, 2)), [1, 2]);
    }

    #[test]
    fn shrinking_sites_rank_behind_sites_that_stand_still() {
        let mut tracker = Tracker::new();
        let mut last = snapshot(0, &[]);
        for i in 0..10 {
            last = snapshot(i * 1000, &[(90_000 - i * 100, 1), (10, 1)]);
            tracker.observe(&last);
        }
        assert_eq!(indexes(&tracker.top(&last, Order::Growth, 0)), [1, 0]);
    }

    #[test]
    fn ten_thousand_sites_are_ranked_as_exactly_as_ten() {
        let mut tracker = Tracker::new();
        let mut last = snapshot(0, &[]);
        let (mut observing, rounds) = (Duration::ZERO, 130);
        for i in 0..rounds {
            let sites: Vec<(u64, u64)> = (0..10_000).map(|s| (s * i, 1)).collect();
            last = snapshot(i * 100, &sites);
            let start = Instant::now();
            tracker.observe(&last);
            observing += start.elapsed();
        }
        let start = Instant::now();
        let top = tracker.top(&last, Order::Growth, 3);
        let ranking = start.elapsed();
        assert_eq!(indexes(&top), [9999, 9998, 9997]);
        // Debug builds are not held to a time; these are for --nocapture in release builds.
        eprintln!(
            "observe {:?} a reading, top {ranking:?}",
            observing / rounds as u32
        );
    }
}

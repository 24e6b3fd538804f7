//! Sites by how much they allocate, and how long their blocks live: temporary allocations. Pure.

use std::cmp::Reverse;

use crate::snapshot::{SiteReading, Snapshot};

use super::Tracker;
use super::temporary::{FreedYoung, Temporaries};
use super::window::{MAX_STEPS, Window};

/// Which of the busy sites come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChurnOrder {
    /// Those that allocate most blocks.
    #[default]
    Rate,
    /// Those that free most bytes right after birth.
    Temporary,
}

/// What passes through a site, on the average since it was counted first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// Blocks allocated a second.
    pub allocations_per_s: f64,
    /// Bytes allocated a second.
    pub bytes_per_s: f64,
    /// Bytes freed as a share of those allocated.
    pub freed_share: f64,
    /// What is freed right after birth; absent where too little was seen, and where births are not counted.
    pub freed_young: Option<FreedYoung>,
    /// How long a byte lives on the average: what is live divided by what comes in a second (J. D. C.
    /// Little, "A proof for the queuing formula L = λW", 1961). It holds for sites that do not grow,
    /// and is absent for those that free next to nothing.
    pub mean_lifetime_s: Option<f64>,
}

/// Freed share from which on a lifetime means something.
const PASSING_SHARE: f64 = 0.5;

/// The busiest sites, the first ones first: `count` of them, all for zero.
pub(super) fn busiest<'a>(
    tracker: &Tracker,
    snapshot: &'a Snapshot,
    temporaries: &Temporaries,
    order: ChurnOrder,
    count: usize,
) -> Vec<(&'a SiteReading, Churn)> {
    let elapsed_s = snapshot.elapsed.saturating_sub(tracker.begun).as_secs_f64();
    if elapsed_s <= 0.0 {
        return Vec::new();
    }
    let mut sites: Vec<&SiteReading> = snapshot.sites.iter().collect();
    sites.sort_by_cached_key(|site| {
        let totals = site.totals;
        let young_bytes = || {
            let share = temporaries.of(site.index).map_or(0.0, |young| young.share);
            (totals.allocated_bytes as f64 * share) as u64
        };
        let first = match order {
            ChurnOrder::Rate => 0,
            ChurnOrder::Temporary => young_bytes(),
        };
        let rest = (Reverse(totals.allocated_count), site.index);
        (Reverse(first), rest)
    });
    sites.truncate(if count == 0 { usize::MAX } else { count });
    let churn = |site: &SiteReading| {
        let totals = site.totals;
        let bytes_per_s = totals.allocated_bytes as f64 / elapsed_s;
        let freed_share = totals.freed_bytes as f64 / totals.allocated_bytes.max(1) as f64;
        Churn {
            allocations_per_s: totals.allocated_count as f64 / elapsed_s,
            bytes_per_s,
            freed_share,
            freed_young: temporaries.of(site.index),
            mean_lifetime_s: mean_live_bytes(tracker, site.index)
                .filter(|_| freed_share >= PASSING_SHARE && bytes_per_s > 0.0)
                .map(|live| live / bytes_per_s),
        }
    };
    sites.into_iter().map(|site| (site, churn(site))).collect()
}

fn mean_live_bytes(tracker: &Tracker, site_index: u32) -> Option<f64> {
    let points = tracker.sites.get(&site_index)?.series.points();
    let window = Window::new(points, points.first()?.at_s, MAX_STEPS);
    Some(window.live.iter().sum::<f64>() / window.live.len().max(1) as f64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshot::Totals;

    fn reading(index: u32, allocated: u64, live: u64) -> SiteReading {
        SiteReading::of_numbers(
            index,
            Totals {
                live_bytes: live * 10,
                live_count: live,
                allocated_bytes: allocated * 10,
                allocated_count: allocated,
                freed_bytes: (allocated - live) * 10,
                freed_count: allocated - live,
            },
            None,
        )
    }

    #[test]
    fn the_busiest_site_comes_first_with_its_rate_and_the_life_of_its_blocks() {
        let mut tracker = Tracker::new();
        let mut last = Snapshot::of_sites(Duration::ZERO, Vec::new());
        for second in 1..=100 {
            let sites = vec![
                reading(1, second, second),
                reading(2, second * 1000, 500),
                reading(3, second * 10, 0),
            ];
            last = Snapshot::of_sites(Duration::from_secs(second), sites);
            tracker.observe(&last);
        }
        let none = Temporaries::default();
        let busiest = tracker.busiest(&last, &none, ChurnOrder::Rate, 2);
        let indexes: Vec<u32> = busiest.iter().map(|(site, _)| site.index).collect();
        assert_eq!(indexes, [2, 3]);
        let churn = busiest[0].1;
        assert_eq!(churn.allocations_per_s, 1000.0);
        assert!(
            (churn.mean_lifetime_s.unwrap() - 0.5).abs() < 0.02,
            "{churn:?}"
        );
        // A child that was forked after 90 of the 100 seconds.
        let late = Tracker::since(Duration::from_secs(90));
        let first = late.busiest(&last, &none, ChurnOrder::Rate, 1)[0].1;
        assert_eq!(first.allocations_per_s, 10_000.0);
        let leak = tracker.busiest(&last, &none, ChurnOrder::Rate, 0)[2].1;
        assert_eq!((leak.freed_share, leak.mean_lifetime_s), (0.0, None));
    }
}

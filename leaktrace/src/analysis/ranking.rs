//! Sites of a snapshot → the ones that a report lists, in their order. Decides no verdict.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::snapshot::{SiteReading, Snapshot};

use super::candidates::candidates;
use super::verdict::Verdict;
use super::{History, Tracker};

/// By how much a leak outweighs what grows otherwise.
const LEAK_WEIGHT: f64 = 16.0;
/// Sites of which the fastest is looked for among those that are not listed.
const UNLISTED: usize = 1;

/// What "top" means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The fastest growth first, where that of a leak counts sixteenfold; sites of which it is not known
    /// that they grow rank as if they did not, and equals by their live bytes. Half of the places are
    /// for what is judged leaking, however slowly.
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
    let mut sites = holding(snapshot);
    let count = if count == 0 { sites.len() } else { count };
    match order {
        Order::Bytes => sites.sort_by_key(|site| by_bytes(site)),
        Order::Count => sites.sort_by_key(|site| (Reverse(site.totals.live_count), by_bytes(site))),
        Order::Growth => {
            keep_candidates(tracker, &mut sites, count);
            sites.sort_by_cached_key(|site| {
                let growth = tracker.growth(site.index);
                let rank = rank(
                    growth.verdict,
                    growth.bytes_per_s,
                    growth.interval_bytes_per_s,
                );
                (Reverse(Slope(rank)), by_bytes(site))
            });
            keep_places(&mut sites, count, |site| {
                tracker.growth(site.index).verdict == Verdict::Leaking
            });
        }
    }
    sites.truncate(count);
    sites
}

/// See [`Tracker::fastest_but`]. What the order has looked at and left out is looked at alone: it is the
/// fastest of the rest.
pub(super) fn fastest_but(
    tracker: &Tracker,
    snapshot: &Snapshot,
    listed: &[&SiteReading],
) -> Option<f64> {
    let listed: HashSet<u32> = listed.iter().map(|site| site.index).collect();
    let mut sites = holding(snapshot);
    sites.retain(|site| !listed.contains(&site.index));
    let is_judged = |site: &&SiteReading| {
        let history = tracker.sites.get(&site.index);
        history.is_some_and(|history| history.judged.get().is_some())
    };
    let judged: Vec<&SiteReading> = sites.iter().copied().filter(is_judged).collect();
    match judged.is_empty() {
        true => keep_candidates(tracker, &mut sites, UNLISTED),
        false => sites = judged,
    }
    let rates = sites.iter().filter_map(|site| {
        let growth = tracker.growth(site.index);
        let [low, _] = growth.interval_bytes_per_s?;
        growth.bytes_per_s.filter(|_| low > 0.0)
    });
    rates.max_by(f64::total_cmp)
}

/// By what sites are ranked that have this verdict and this slope: how fast they grow beyond doubt, and a leak
/// more than others. What moves up and down has a slope, too, which says nothing.
pub fn rank(
    verdict: Verdict,
    bytes_per_s: Option<f64>,
    interval_bytes_per_s: Option<[f64; 2]>,
) -> f64 {
    let is_leak = verdict == Verdict::Leaking;
    let may_be_zero = interval_bytes_per_s.is_none_or(|[low, high]| low <= 0.0 && high >= 0.0);
    match (may_be_zero, is_leak) {
        (true, false) => 0.0,
        (_, true) => LEAK_WEIGHT * bytes_per_s.unwrap_or(0.0),
        (false, false) => bytes_per_s.unwrap_or(0.0),
    }
}

/// Takes the first so many of what is ranked, but that half of the places are for leaks, if there are so many:
/// ten caches that fill do not hide a slow one, nor do ten slow ones hide what grows much faster.
pub fn keep_places<T>(ranked: &mut Vec<T>, count: usize, is_leak: impl Fn(&T) -> bool) {
    let leaks: Vec<bool> = ranked.iter().map(&is_leak).collect();
    let all = leaks.iter().filter(|is_leak| **is_leak).count();
    let mut others = count - all.min(count.div_ceil(2)).min(count);
    let mut left = count;
    let mut leaks = leaks.into_iter();
    ranked.retain(|_| {
        let is_leak = leaks.next().unwrap_or(false);
        let is_kept = left > 0 && (is_leak || others > 0);
        left -= usize::from(is_kept);
        others -= usize::from(is_kept && !is_leak);
        is_kept
    });
}

fn holding(snapshot: &Snapshot) -> Vec<&SiteReading> {
    let sites = snapshot.sites.iter();
    sites.filter(|site| site.totals.live_count > 0).collect()
}

/// The exact slope costs thousands of divisions a site: it is only for sites that can be among the first.
fn keep_candidates(tracker: &Tracker, sites: &mut Vec<&SiteReading>, count: usize) {
    if count >= sites.len() {
        return;
    }
    let histories: Vec<Option<&History>> = sites
        .iter()
        .map(|site| tracker.sites.get(&site.index))
        .collect();
    let chosen = candidates(&histories, count);
    *sites = chosen.into_iter().map(|place| sites[place]).collect();
}

/// Most live bytes first; equal sites keep one order from report to report.
fn by_bytes(site: &SiteReading) -> (Reverse<u64>, u32) {
    (Reverse(site.totals.live_bytes), site.index)
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
#[path = "ranking_tests.rs"]
mod tests;

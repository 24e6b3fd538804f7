//! Several sites → how they grow as one: their series and their cohorts are summed, and the sum is
//! judged like a site. Keeps nothing.

use super::History;
use super::cohorts::Cohorts;
use super::growth::{Growth, judge};
use super::reason::{Finding, Reason};
use super::series::{Point, Series};
use super::verdict::Verdict;

/// Share of the live bytes of all from which on it matters that of a member nothing is known.
const MATERIAL_SHARE: f64 = 0.1;

/// How all of these grow together.
pub(super) fn growth_of(members: &[&History]) -> Growth {
    let [first, _, ..] = members else {
        return members.first().map_or(Growth::UNKNOWN, |one| one.growth());
    };
    let series: Vec<&Series> = members.iter().map(|member| &member.series).collect();
    let cohorts: Option<Vec<&Cohorts>> = match first.cohorts.is_some() {
        true => members.iter().map(|one| one.cohorts.as_deref()).collect(),
        false => None,
    };
    let cohorts = cohorts.map(|all| Cohorts::sum(&all));
    let whole = judge(&sum(&series), cohorts.as_ref());
    let rises = whole.interval_bytes_per_s.is_some_and(|[low, _]| low > 0.0);
    // What has just begun to grow is little beside what was there before.
    match whole.verdict == Verdict::Steady && (rises || has_unknown(members)) {
        true => Growth {
            verdict: Verdict::Unknown,
            reason: Reason {
                finding: Finding::TooEarly,
                ..whole.reason
            },
            ..whole
        },
        false => whole,
    }
}

/// Whether members of which too little is known hold a material part.
fn has_unknown(members: &[&History]) -> bool {
    let live_bytes = |member: &&History| {
        let last = member.series.points().last();
        last.map_or(0.0, |point| point.live_bytes as f64)
    };
    let of_all: f64 = members.iter().map(live_bytes).sum();
    // To judge a member takes long, and most can be empty.
    let unknown = members
        .iter()
        .filter(|member| live_bytes(member) > 0.0 && member.growth().verdict == Verdict::Unknown);
    let unknown_bytes: f64 = unknown.map(live_bytes).sum();
    unknown_bytes > MATERIAL_SHARE * of_all
}

/// The levels of all at every time at which one has a point. Where another has none, because nothing
/// happened or because it was thinned out, it goes straight from point to point.
fn sum(all: &[&Series]) -> Series {
    let points = || all.iter().flat_map(|series| series.points());
    let mut times: Vec<f64> = points().map(|point| point.at_s).collect();
    times.sort_unstable_by(f64::total_cmp);
    times.dedup();
    let mut sums = vec![[0.0; 3]; times.len()];
    for series in all {
        add(&mut sums, &times, series.points());
    }
    let readings = all.iter().map(|series| series.readings()).max();
    let of_sum = |(at_s, [live, low, freed]): (f64, [f64; 3])| Point {
        at_s,
        live_bytes: live.round() as u64,
        low_bytes: low.min(live).round() as u64,
        freed_bytes: freed.round() as u64,
        live_count: 0,
        freed_count: 0,
    };
    let points = times.into_iter().zip(sums).map(of_sum).collect();
    Series::of(points, readings.unwrap_or(0))
}

/// Adds live, least live and freed bytes of one series; before its first point there was nothing.
fn add(sums: &mut [[f64; 3]], times: &[f64], points: &[Point]) {
    let mut next = 0;
    for (sum, at_s) in sums.iter_mut().zip(times) {
        while points.get(next).is_some_and(|point| point.at_s <= *at_s) {
            next += 1;
        }
        let Some(before) = next.checked_sub(1).and_then(|before| points.get(before)) else {
            continue;
        };
        let after = points.get(next).unwrap_or(before);
        let part = match after.at_s > before.at_s {
            true => (at_s - before.at_s) / (after.at_s - before.at_s),
            false => 0.0,
        };
        let between = |from: u64, to: u64| from as f64 + part * (to as f64 - from as f64);
        let live = between(before.live_bytes, after.live_bytes);
        let low = match before.at_s == *at_s {
            true => before.low_bytes as f64,
            false => live,
        };
        let freed = between(before.freed_bytes, after.freed_bytes);
        for (sum, value) in sum.iter_mut().zip([live, low, freed]) {
            *sum += value;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshot::Totals;

    /// A site that is read every second from then on; `at` gives its live bytes.
    fn site(from_s: u64, readings: u64, at: impl Fn(u64) -> u64) -> History {
        let mut history = History::default();
        for reading in 0..readings {
            let totals = Totals {
                live_bytes: at(reading),
                ..Totals::default()
            };
            let at = Duration::from_secs(from_s + reading);
            history.series.push(at, &totals);
        }
        history
    }

    fn together(sites: &[History]) -> Growth {
        growth_of(&sites.iter().collect::<Vec<_>>())
    }

    #[test]
    fn what_one_takes_and_another_gives_back_is_steady_and_two_leaks_are_one() {
        let takes = || site(0, 200, |at| at * 1000);
        let gives = site(0, 200, |at| 1_000_000 - at * 1000);
        let whole = together(&[takes(), gives]);
        assert_eq!(whole.verdict, Verdict::Steady, "{}", whole.words());
        assert_eq!(whole.bytes_per_s, Some(0.0));
        let whole = together(&[takes(), takes()]);
        assert_eq!(whole.verdict, Verdict::Leaking, "{}", whole.words());
        assert!((whole.bytes_per_s.unwrap() - 2000.0).abs() < 1.0);
    }

    #[test]
    fn many_sites_of_which_it_is_too_early_to_tell_are_not_steady_for_one_that_is() {
        let mut sites = vec![site(0, 100, |_| 500_000)];
        for _ in 0..20 {
            sites.push(site(90, 10, |at| at * 2000));
        }
        let whole = together(&sites);
        assert_ne!(whole.verdict, Verdict::Steady, "{}", whole.words());
        assert_ne!(whole.verdict, Verdict::Leaking, "{}", whole.words());
    }

    #[test]
    fn a_leak_that_moves_from_stack_to_stack_is_one() {
        // Each stack leaks for ten seconds: of none there is enough to say anything.
        let sites: Vec<History> = (0..30)
            .map(|each| site(each * 10, 300 - each * 10, |at| at.min(10) * 1000))
            .collect();
        let whole = together(&sites);
        assert_eq!(whole.verdict, Verdict::Leaking, "{}", whole.words());
        assert!((whole.bytes_per_s.unwrap() - 1000.0).abs() < 20.0);
    }

    #[test]
    fn thinned_and_resting_series_add_up_to_what_was_there() {
        let rests = site(0, 1000, |_| 7000);
        let rises = site(0, 1000, |at| at * 10);
        let late = site(500, 500, |at| at * 2);
        let whole = sum(&[&rests.series, &rises.series, &late.series]);
        for point in whole.points() {
            let late = (point.at_s - 500.0).max(0.0) * 2.0;
            assert_eq!(point.live_bytes as f64, 7000.0 + point.at_s * 10.0 + late);
        }
        assert_eq!(whole.readings(), 1000);
    }
}

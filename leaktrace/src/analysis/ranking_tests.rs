//! Simulated sites, ranked.

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
fn a_leak_stands_before_what_only_moves_or_fills_and_not_before_what_grows_much_faster() {
    let mut tracker = Tracker::new();
    let mut last = snapshot(0, &[]);
    for i in 0..40_u64 {
        let moves = 500_000 + (i * i * 7919) % 400_000;
        let fills = 100_000 - 100_000 / (i + 1);
        last = snapshot(i * 1000, &[(moves, 1), (fills, 1), (1000 + i * 1000, 1)]);
        tracker.observe(&last);
    }
    assert_eq!(tracker.growth(2).verdict, Verdict::Leaking);
    assert_eq!(indexes(&tracker.top(&last, Order::Growth, 0))[0], 2);
    let noise = rank(Verdict::Steady, Some(900.0), Some([-2000.0, 2500.0]));
    let grows = |rate: f64| rank(Verdict::Growing, Some(rate), Some([rate - 5.0, rate + 5.0]));
    assert!(noise < grows(10.0));
    let leaks = rank(Verdict::Leaking, Some(2000.0), Some([1900.0, 2100.0]));
    assert!(grows(20_000.0) < leaks && leaks < grows(6_500_000.0));
}

#[test]
fn neither_leaks_nor_what_grows_faster_take_all_places() {
    let listed = |ranked: &str, count: usize| {
        let mut ranked: Vec<char> = ranked.chars().collect();
        keep_places(&mut ranked, count, |of| of.is_uppercase());
        ranked.into_iter().collect::<String>()
    };
    assert_eq!(listed("abcdefgLMN", 6), "abcLMN");
    assert_eq!(listed("abcdefgL", 6), "abcdeL");
    assert_eq!(listed("aLMNOPQRbc", 6), "aLMNOP");
    assert_eq!(listed("LMNabcd", 6), "LMNabc");
    assert_eq!(listed("abL", 1), "L");
    assert_eq!(listed("abL", 9), "abL");
}

/// Sites that begin then, hold this and rest; the last site leaks 500 bytes a second from then on.
fn beside_resting(begun: impl Fn(u64) -> u64, leak_since: u64, seconds: u64) -> Vec<u32> {
    let mut tracker = Tracker::new();
    let mut last = snapshot(0, &[]);
    for half in 0..2 * seconds {
        let mut sites: Vec<(u64, u64)> = (0..512)
            .map(|site| match half >= 2 * begun(site) {
                true => (20_000 + 10 * site, 1),
                false => (0, 0),
            })
            .collect();
        let leaked = half.saturating_sub(2 * leak_since) * 250;
        sites.push((100 + leaked, 1 + leaked));
        last = snapshot(half * 500, &sites);
        tracker.observe(&last);
    }
    assert_eq!(tracker.growth(512).verdict, Verdict::Leaking);
    indexes(&tracker.top(&last, Order::Growth, 10))
}

#[test]
fn a_slow_leak_is_listed_beside_hundreds_of_sites_that_have_grown_more_and_rest() {
    assert!(beside_resting(|_| 4, 4, 30).contains(&512), "at the start");
    assert!(beside_resting(|site| 20 + site % 8, 0, 30).contains(&512));
    let late = beside_resting(|_| 4, 600, 640);
    assert!(late.contains(&512), "a leak that has just begun: {late:?}");
    let reloaded = beside_resting(|_| 1190, 1100, 1200);
    assert!(reloaded.contains(&512), "others begin later: {reloaded:?}");
}

#[test]
fn the_fastest_of_what_is_not_listed_is_known() {
    let mut tracker = Tracker::new();
    let mut last = snapshot(0, &[]);
    for i in 0..40 {
        let sites: Vec<(u64, u64)> = (1..400).map(|site| (site * i * 10, 1)).collect();
        last = snapshot(i * 1000, &sites);
        tracker.observe(&last);
    }
    let top = tracker.top(&last, Order::Growth, 10);
    assert_eq!(top[0].index, 398);
    let fastest = tracker.fastest_but(&last, &top);
    assert!(
        fastest.is_some_and(|rate| (rate - 3890.0).abs() < 1.0),
        "{fastest:?}"
    );
    let all = tracker.top(&last, Order::Bytes, 0);
    assert_eq!(tracker.fastest_but(&last, &all), None);
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
    assert!(tracker.fastest_but(&last, &top).is_some());
    let unlisted = start.elapsed() - ranking;
    assert_eq!(indexes(&top), [9999, 9998, 9997]);
    // Debug builds are not held to a time; these are for --nocapture in release builds.
    eprintln!(
        "observe {:?} a reading, top {ranking:?}, the fastest of the rest {unlisted:?}",
        observing / rounds as u32
    );
}

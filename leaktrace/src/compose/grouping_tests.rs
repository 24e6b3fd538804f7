//! What sites become that are one.

use std::time::Duration;

use super::*;
use crate::snapshot::Totals;

fn site(id: &str, suspect: &str, line: u32, verdict: Verdict, bytes: u64) -> Site {
    let frame = |function: &str, line| Frame {
        function: Some(function.to_owned()),
        module: Some("/usr/bin/api".to_owned()),
        file: Some("api.c".to_owned()),
        line: Some(line),
        ..Frame::default()
    };
    Site {
        id: id.to_owned(),
        source: "heap",
        live_bytes: bytes,
        live_count: Some(1),
        growth_bytes_per_s: Some(bytes as f64),
        growth_interval_bytes_per_s: Some([0.0, bytes as f64]),
        verdict,
        frames: vec![frame("xmalloc", 1), frame(suspect, line)],
        suspect_frame: Some(1),
        stacks: 1,
        ..Site::default()
    }
}

fn sites() -> Vec<(u32, Site)> {
    let sites = [
        site("a", "parse", 10, Verdict::Steady, 100),
        site("b", "parse", 11, Verdict::Leaking, 10),
        site("c", "serve", 50, Verdict::Growing, 105),
    ];
    (0..).zip(sites).collect()
}

/// What is said of a sum.
fn whole(verdict: Verdict, [low, high]: [f64; 2]) -> impl Fn(&[u32]) -> Growth {
    move |members| {
        assert!(members.len() > 1);
        Growth {
            bytes_per_s: Some(f64::midpoint(low, high)),
            interval_bytes_per_s: Some([low, high]),
            verdict,
            ..Growth::UNKNOWN
        }
    }
}

fn of_function(growth_of: impl Fn(&[u32]) -> Growth) -> Vec<Site> {
    group(sites(), GroupBy::Function, Order::Growth, 0, growth_of)
}

#[test]
fn sites_of_one_function_are_one_with_their_sums_and_the_verdict_on_these() {
    let groups = of_function(whole(Verdict::Leaking, [100.0, 120.0]));
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[0].live_bytes, 110);
    assert_eq!(groups[0].stacks, 2);
    assert_eq!(groups[0].verdict, Verdict::Leaking);
    assert_eq!(groups[0].growth_bytes_per_s, Some(110.0));
    assert_eq!(groups[0].growth_interval_bytes_per_s, Some([100.0, 120.0]));
    assert_eq!(groups[1].stacks, 1);
    assert_eq!(groups[1].verdict, Verdict::Growing);
}

#[test]
fn what_is_empty_is_judged_with_its_group_and_makes_none() {
    let mut sites = sites();
    for (index, function) in [(3, "parse"), (4, "gone")] {
        let emptied = Site {
            live_bytes: 0,
            live_count: Some(0),
            empty_stacks: 1,
            ..site("e", function, 12, Verdict::Leaking, 0)
        };
        sites.push((index, emptied));
    }
    let growth_of = |members: &[u32]| {
        assert_eq!(members, [0, 1, 3]);
        Growth::UNKNOWN
    };
    let groups = group(sites, GroupBy::Function, Order::Bytes, 0, growth_of);
    assert_eq!(groups.len(), 2);
    assert_eq!((groups[0].stacks, groups[0].empty_stacks), (3, 1));
    assert_eq!(groups[0].frames[1].line, Some(11), "the leak is shown");
}

#[test]
fn a_group_is_made_of_the_same_stacks_and_counts_at_any_moment() {
    // What one has allocated and holds, beside another of which nothing is live now and then.
    let of = |index, allocated_count, live_bytes, live_count| {
        let totals = Totals {
            allocated_count,
            live_bytes,
            live_count,
            ..Totals::default()
        };
        SiteReading::of_numbers(index, totals, None)
    };
    for churned in [(10, 1), (0, 0)] {
        let all = vec![of(0, 30_006, churned.0, churned.1), of(1, 6, 3_000_000, 6)];
        let snapshot = Snapshot::of_sites(Duration::from_secs(9), all);
        let live = snapshot.sites.iter().rev();
        let live = live.filter(|site| site.totals.live_count > 0).collect();
        let named = with_empty(live, &snapshot).map(|reading| {
            let totals = &reading.totals;
            let named = Site {
                live_count: Some(totals.live_count),
                allocated_count: totals.allocated_count,
                ..site("a", "alloc_it", 5, Verdict::Growing, totals.live_bytes)
            };
            (reading.index, named)
        });
        let growth_of = |members: &[u32]| {
            assert_eq!(members, [1, 0]);
            Growth::UNKNOWN
        };
        let groups = group(named, GroupBy::Function, Order::Growth, 0, growth_of);
        assert_eq!(groups.len(), 1);
        assert_eq!((groups[0].stacks, groups[0].allocated_count), (2, 30_012));
        assert_eq!(groups[0].live_bytes, 3_000_000 + churned.0);
    }
}

#[test]
fn a_leak_in_a_group_that_goes_up_and_down_is_still_one() {
    let groups = of_function(whole(Verdict::Steady, [-500.0, 520.0]));
    let parse = groups.iter().find(|group| group.stacks == 2).unwrap();
    assert_eq!(parse.verdict, Verdict::Leaking);
    assert!(parse.reason.contains("is leaking"), "{}", parse.reason);
}

#[test]
fn a_group_does_not_leak_when_others_give_back_what_one_takes() {
    for (verdict, interval) in [
        (Verdict::Shrinking, [-950.0, -850.0]),
        (Verdict::Steady, [-2.0, -1.0]),
    ] {
        let groups = of_function(whole(verdict, interval));
        let parse = groups.iter().find(|group| group.stacks == 2).unwrap();
        assert_eq!(parse.verdict, verdict);
        assert!(parse.reason.contains("is leaking"), "{}", parse.reason);
    }
}

#[test]
fn lines_and_stacks_are_finer_and_modules_coarser() {
    for (by, count) in [
        (GroupBy::Stack, 3),
        (GroupBy::Line, 3),
        (GroupBy::Module, 1),
    ] {
        let growth_of = whole(Verdict::Steady, [0.0, 0.0]);
        let groups = group(sites(), by, Order::Bytes, 0, growth_of);
        assert_eq!(groups.len(), count, "{by:?}");
    }
}

#[test]
fn the_order_and_the_number_asked_for_hold_for_groups() {
    let growth_of = whole(Verdict::Steady, [0.0, 0.0]);
    let groups = group(sites(), GroupBy::Function, Order::Count, 1, growth_of);
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].live_count, Some(2));
}

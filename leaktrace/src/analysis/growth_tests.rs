//! Simulated sites with known behaviour, judged.

use std::time::Duration;

use super::*;
use crate::analysis::series::Series;
use crate::snapshot::Totals;

/// Readings every `step_s` seconds; `at(i)` gives live and freed bytes.
fn series(count: usize, step_s: f64, at: impl Fn(u64) -> (u64, u64)) -> Series {
    let mut series = Series::default();
    for i in 0..count {
        let (live_bytes, freed_bytes) = at(i as u64);
        let totals = Totals {
            live_bytes,
            freed_bytes,
            ..Totals::default()
        };
        series.push(Duration::from_secs_f64(i as f64 * step_s), &totals);
    }
    series
}

/// A repeatable number below `below`.
fn noise(i: u64, below: u64) -> u64 {
    let mut x = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x ^= x >> 31;
    x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 29)) % below
}

fn judged(series: &Series) -> Verdict {
    judge(series, None).verdict
}

#[test]
fn linear_leak_is_leaking_at_its_rate_however_often_it_is_read() {
    for (count, step_s) in [(15, 1.0), (15, 0.5), (80, 0.1), (100, 0.1), (120, 30.0)] {
        let growth = judge(
            &series(count, step_s, |i| ((1000.0 * i as f64 * step_s) as u64, 0)),
            None,
        );
        assert_eq!(growth.verdict, Verdict::Leaking, "{count} × {step_s} s");
        let rate = growth.bytes_per_s.unwrap_or_default();
        assert!((rate - 1000.0).abs() < 1.0, "{rate}");
    }
}

#[test]
fn a_leak_of_one_small_block_now_and_then_is_leaking() {
    assert_eq!(
        judged(&series(100, 0.1, |i| (i / 7 * 32, 0))),
        Verdict::Leaking
    );
}

#[test]
fn leak_under_noise_is_leaking_while_little_is_freed() {
    let points = series(100, 0.1, |i| (i * 10_000 + noise(i, 60_000), i * 200));
    assert_eq!(judged(&points), Verdict::Leaking);
}

#[test]
fn growth_of_which_much_is_freed_is_growing() {
    let points = series(100, 0.1, |i| (i * 1000, i * 1000));
    assert_eq!(judged(&points), Verdict::Growing);
}

#[test]
fn cache_that_filled_is_steady() {
    for filled_at in [5, 20, 30, 45] {
        let points = series(100, 0.1, |i| (i.min(filled_at) * 4096, 0));
        assert_eq!(judged(&points), Verdict::Steady, "filled at {filled_at}");
    }
}

#[test]
fn cache_that_filled_and_turns_over_is_steady() {
    let points = series(100, 0.1, |i| {
        let full = i.min(40) * 4096;
        (full + noise(i, 3000), i * 2000)
    });
    assert_eq!(judged(&points), Verdict::Steady);
}

#[test]
fn cache_that_fills_ever_more_slowly_is_steady_in_the_end() {
    let points = series(100, 0.1, |i| {
        let filled = 1.0 - (-(i as f64) / 12.0).exp();
        ((filled * 1e6) as u64, 0)
    });
    assert_eq!(judged(&points), Verdict::Steady);
}

#[test]
fn sawtooth_never_leaks_and_is_steady_over_a_few_teeth() {
    for period in [5, 8, 13, 20] {
        for phase in 0..period {
            let points = series(100, 0.1, |i| {
                let i = i + phase;
                (i % period * 1000, i / period * (period - 1) * 1000)
            });
            let verdict = judged(&points);
            assert_eq!(verdict, Verdict::Steady, "period {period} phase {phase}");
        }
    }
}

#[test]
fn sawtooth_longer_than_half_the_window_is_not_leaking_once_it_fell() {
    for period in [40, 60, 90] {
        let points = series(100, 0.1, |i| {
            (i % period * 1000, i / period * (period - 1) * 1000)
        });
        assert_ne!(judged(&points), Verdict::Leaking, "period {period}");
    }
}

#[test]
fn constant_is_steady_at_zero_rate() {
    let growth = judge(&series(50, 0.1, |_| (4096, 0)), None);
    assert_eq!(growth.verdict, Verdict::Steady);
    assert_eq!(growth.bytes_per_s, Some(0.0));
}

#[test]
fn noise_around_a_level_is_taken_for_a_trend_in_one_of_a_hundred_at_most() {
    let runs = 1000;
    let (mut up, mut down) = (0, 0);
    for seed in 0..runs {
        let points = series(100, 0.1, |i| {
            (1_000_000 + noise(i + seed * 1000, 5000), i * 50_000)
        });
        match judged(&points) {
            Verdict::Steady => {}
            Verdict::Growing => up += 1,
            Verdict::Shrinking => down += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    // The level of the trend test is 1% on each side.
    assert!(
        up <= runs / 100 && down <= runs / 100,
        "{up} up, {down} down"
    );
}

#[test]
fn shrinking_site_is_shrinking_and_emptied_one_is_steady() {
    let draining = series(50, 0.1, |i| (100_000 - i * 1000, i * 1000));
    assert_eq!(judged(&draining), Verdict::Shrinking);
    assert!(
        judge(&draining, None)
            .bytes_per_s
            .is_some_and(|rate| rate < 0.0)
    );
    let emptied = series(50, 0.1, |i| (20_000 - i.min(20) * 1000, i.min(20) * 1000));
    assert_eq!(judged(&emptied), Verdict::Steady);
}

#[test]
fn bursty_leak_is_at_least_growing() {
    for every in [10, 15, 20, 25] {
        for phase in 0..every {
            let points = series(100, 0.1, |i| ((i + phase) / every * 1_000_000, 0));
            let verdict = judged(&points);
            assert!(
                matches!(verdict, Verdict::Growing | Verdict::Leaking),
                "a burst every {every} readings, phase {phase}: {verdict:?}"
            );
        }
    }
}

#[test]
fn a_leak_that_begins_after_an_hour_of_calm_is_seen_within_half_a_minute() {
    let after = |seconds: u64| {
        let mut series = Series::default();
        for second in 0..3600 + seconds {
            let totals = Totals {
                live_bytes: 1_000_000 + second.saturating_sub(3600) * 500,
                freed_bytes: 5_000_000,
                ..Totals::default()
            };
            series.push(Duration::from_secs(second), &totals);
        }
        judge(&series, None)
    };
    assert_eq!(after(12).verdict, Verdict::Growing, "a cache would look so");
    let growth = after(30);
    assert_eq!(growth.verdict, Verdict::Leaking, "{}", growth.words());
    // Of the half minute, not of the hour.
    let rate = growth.bytes_per_s.unwrap_or_default();
    assert!((rate - 500.0).abs() < 20.0, "{}", growth.words());
}

#[test]
fn one_time_initialisation_never_leaks_and_ends_steady() {
    for at in [1, 10, 30, 49, 60, 90, 99] {
        let points = series(100, 0.1, |i| (u64::from(i >= at) * 1_000_000, 0));
        assert_ne!(judged(&points), Verdict::Leaking, "at {at}");
        if at < 50 {
            assert_eq!(judged(&points), Verdict::Steady, "at {at}");
        }
    }
}

#[test]
fn too_few_readings_or_too_short_a_time_is_unknown() {
    let leak = |i: u64| (i * 1000, 0);
    assert_eq!(judge(&series(0, 1.0, leak), None), Growth::UNKNOWN);
    assert_eq!(judge(&series(2, 1.0, leak), None).bytes_per_s, None);
    let three = judge(&series(3, 1.0, leak), None);
    assert_eq!(three.verdict, Verdict::Unknown);
    assert_eq!(three.bytes_per_s, Some(1000.0));
    assert_eq!(judged(&series(4, 10.0, leak)), Verdict::Unknown);
    assert_eq!(judged(&series(19, 0.1, leak)), Verdict::Unknown);
    let early = judge(&series(14, 1.0, leak), None);
    assert_eq!(
        early.verdict,
        Verdict::Unknown,
        "a cache would look the same"
    );
    assert_eq!(early.reason.finding, Finding::TooEarly);
    assert!(early.words().contains("too early"), "{}", early.words());
}

#[test]
fn reading_more_often_does_not_make_a_leak_of_what_fills_for_five_seconds() {
    for step_s in [0.02, 0.1, 0.25, 0.5] {
        for seconds in [3.0, 5.0, 6.0, 6.4, 12.0] {
            let count = (seconds / step_s) as usize + 1;
            let filled_at = (5.0 / step_s) as u64;
            let fills = series(count, step_s, |i| (i.min(filled_at) * 50_000, 0));
            let verdict = judged(&fills);
            assert_ne!(verdict, Verdict::Leaking, "{step_s} s, {seconds} s");
        }
    }
}

#[test]
fn what_grows_is_never_called_steady_because_it_is_early() {
    for readings in 3..15 {
        let rates = [1000, 1010, 990, 1005];
        let leak = |i: u64| (i * rates[i as usize % 4], 0);
        assert_eq!(
            judged(&series(readings, 0.7, leak)),
            Verdict::Unknown,
            "after {readings} readings"
        );
    }
}

/// A start-up peak of 40 MB for four seconds, then a megabyte, and from a time on 100 kB a second.
fn after_a_peak(seconds: u64, leak_since: u64) -> Growth {
    let series = series(2 * seconds as usize, 0.5, |half| {
        let second = half / 2;
        let leaked = half.saturating_sub(2 * leak_since) * 50_000;
        match second {
            0..3 => (0, 0),
            3..5 => ((half - 5) * 10_000_000, 0),
            5..7 => (40_000_000, 0),
            _ => (1_000_000 + leaked, 39_000_000),
        }
    });
    judge(&series, None)
}

#[test]
fn a_leak_after_a_start_up_peak_is_seen_however_high_that_was() {
    for seconds in [40, 45] {
        let growth = after_a_peak(seconds, 25);
        let word = growth.verdict;
        let grows = matches!(word, Verdict::Growing | Verdict::Leaking);
        assert!(grows, "{seconds} s: {word:?}, {}", growth.words());
    }
    for seconds in [60, 100, 300, 3600] {
        let growth = after_a_peak(seconds, 25);
        assert_eq!(
            growth.verdict,
            Verdict::Leaking,
            "{seconds} s: {}",
            growth.words()
        );
    }
    let late = after_a_peak(3600, 3500);
    assert_eq!(late.verdict, Verdict::Leaking, "{}", late.words());
    let none = after_a_peak(100, 1000);
    assert_eq!(none.verdict, Verdict::Steady, "{}", none.words());
}

#[test]
fn a_peak_that_comes_again_after_a_calm_is_no_leak_yet() {
    // A batch of 40 seconds every five minutes.
    for seconds in 301..340 {
        let series = series(seconds, 1.0, |second| {
            let (at, run) = (second % 300, second / 300);
            let live = if at < 40 { at * 100_000 } else { 0 };
            (live, run * 4_000_000 + if at < 40 { 0 } else { 4_000_000 })
        });
        let growth = judge(&series, None);
        assert_ne!(
            growth.verdict,
            Verdict::Leaking,
            "{seconds} s: {}",
            growth.words()
        );
    }
}

#[test]
fn what_has_stopped_has_no_rate_any_more_and_is_said_to_have() {
    let growth = judge(&series(45, 1.0, |i| (i.min(30) * 48_000, 0)), None);
    assert_eq!(growth.verdict, Verdict::Steady, "{}", growth.words());
    assert_eq!(growth.bytes_per_s, Some(0.0));
    assert_eq!(growth.interval_bytes_per_s, Some([0.0, 0.0]));
    let words = growth.words();
    assert!(
        words.contains("has stopped: nothing for the last 14.0 s"),
        "{words}"
    );
}

#[test]
fn an_array_that_is_made_anew_is_said_to_be_one_block() {
    let mut series = Series::default();
    for i in 0..60_u64 {
        let totals = Totals {
            live_bytes: 1000 * (i + 1),
            live_count: 1,
            freed_bytes: 500 * i * (i + 1),
            freed_count: i,
            ..Totals::default()
        };
        series.push(Duration::from_secs(i), &totals);
    }
    let growth = judge(&series, None);
    assert_eq!(growth.verdict, Verdict::Growing, "{}", growth.words());
    assert!(
        growth.words().contains("in one block"),
        "{}",
        growth.words()
    );
}

#[test]
fn an_interval_of_a_leak_does_not_contain_zero() {
    let kept = |bytes_per_s, error_bytes_per_s| Kept {
        share: 1.0,
        age_s: 1.0,
        bytes_per_s,
        error_bytes_per_s,
    };
    let wide = kept_slope(&kept(332.0, 741.0));
    assert!(wide.low > 0.0 && wide.high > 741.0, "{wide:?}");
    let narrow = kept_slope(&kept(100.0, 10.0));
    assert_eq!((narrow.low, narrow.high), (90.0, 110.0));
}

#[test]
fn what_rises_beyond_doubt_is_not_steady_however_much_there_was_before() {
    for seconds in [30, 45, 100] {
        let growth = judge(
            &series(seconds, 1.0, |i| (100_000_000 + i * 70_000, 0)),
            None,
        );
        assert_eq!(growth.verdict, Verdict::Leaking, "{}", growth.words());
        let big_start = |i: u64| (i.min(2) * 50_000_000 + i * 70_000 + noise(i, 9000), 0);
        let growth = judge(&series(seconds, 1.0, big_start), None);
        assert_ne!(growth.verdict, Verdict::Steady, "{}", growth.words());
    }
}

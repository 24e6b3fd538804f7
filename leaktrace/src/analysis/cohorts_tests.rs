//! Sites that begin to allocate long after the session has: what is judged of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use leaktrace_common::birth::birth_slot;

use crate::analysis::{Finding, Growth, Tracker, Verdict};
use crate::snapshot::{SiteReading, Snapshot, Totals};

const HOUR_S: u64 = 3600;

/// One site whose blocks live for so long, read every so many seconds.
struct Site {
    lives_s: u64,
    /// Seconds of birth, and bytes.
    blocks: Vec<(u64, u64)>,
    allocated: u64,
    allocated_bytes: u64,
}

impl Site {
    fn whose_blocks_live(lives_s: u64) -> Self {
        Self {
            lives_s,
            blocks: Vec::new(),
            allocated: 0,
            allocated_bytes: 0,
        }
    }

    fn allocate(&mut self, at_s: u64, bytes: u64) {
        self.blocks.push((at_s, bytes));
        self.allocated += 1;
        self.allocated_bytes += bytes;
    }

    fn snapshot(&mut self, at_s: u64) -> Snapshot {
        let lives_s = self.lives_s;
        self.blocks
            .retain(|(born_s, _)| born_s.saturating_add(lives_s) > at_s);
        let slot = |at_s: u64| birth_slot(at_s * 1_000_000_000);
        let mut births = vec![0; slot(at_s) + 1];
        for (born_s, bytes) in &self.blocks {
            births[slot(*born_s)] += bytes;
        }
        let live_bytes: u64 = births.iter().sum();
        let live_count = self.blocks.len() as u64;
        let reading = SiteReading::of_numbers(
            0,
            Totals {
                live_bytes,
                live_count,
                allocated_bytes: self.allocated_bytes,
                allocated_count: self.allocated,
                freed_bytes: self.allocated_bytes - live_bytes,
                freed_count: self.allocated - live_count,
            },
            Some(births.into_boxed_slice()),
        );
        Snapshot::of_sites(Duration::from_secs(at_s), vec![reading])
    }
}

/// A session in which nothing has allocated by this time.
fn quiet_until(at_s: u64) -> Tracker {
    let mut tracker = Tracker::new();
    tracker.observe(&Snapshot::of_sites(Duration::from_secs(at_s), Vec::new()));
    tracker
}

/// A leak of 1000 bytes a second from then on, after so many readings.
fn leak(begins_s: u64, readings: u64) -> Growth {
    let mut tracker = quiet_until(begins_s);
    let mut site = Site::whose_blocks_live(u64::MAX);
    for at_s in begins_s..begins_s + readings {
        site.allocate(at_s, 1000);
        tracker.observe(&site.snapshot(at_s + 1));
    }
    tracker.growth(0)
}

#[test]
fn a_leak_is_one_after_fifteen_readings_whenever_it_begins() {
    for begins_s in [0, 61, HOUR_S, 5 * HOUR_S, 24 * HOUR_S] {
        for readings in [15, 30, 120, 600, 3000] {
            let growth = leak(begins_s, readings);
            let words = growth.words();
            let when = format!("begun at {begins_s} s, after {readings} readings: {words}");
            assert_eq!(growth.verdict, Verdict::Leaking, "{when}");
            let rate = growth.bytes_per_s.unwrap();
            assert!((rate - 1000.0).abs() < 10.0, "{when}");
        }
    }
}

/// Times of birth are coarse then: it takes as long again as the session has lasted.
#[test]
fn a_leak_among_much_that_passes_is_found_when_it_has_begun_late_too() {
    let begins_s = HOUR_S;
    let mut tracker = quiet_until(begins_s);
    let mut site = Site::whose_blocks_live(u64::MAX);
    let mut verdicts = Vec::new();
    for at_s in begins_s..=2 * begins_s {
        site.allocate(at_s, 1000);
        // As much as stays goes away at once.
        site.allocated += 1;
        site.allocated_bytes += 1000;
        tracker.observe(&site.snapshot(at_s + 1));
        if at_s % 60 == 0 {
            verdicts.push(tracker.growth(0).verdict);
        }
    }
    assert_eq!(verdicts.first(), Some(&Verdict::Unknown));
    assert!(
        !verdicts[1..].contains(&Verdict::Steady) && !verdicts[1..].contains(&Verdict::Unknown),
        "{verdicts:?}"
    );
    assert_eq!(verdicts.last(), Some(&Verdict::Leaking), "{verdicts:?}");
}

#[test]
fn what_passes_is_said_to_pass_when_it_has_begun_late_too() {
    for begins_s in [0, HOUR_S] {
        let mut tracker = quiet_until(begins_s);
        let mut site = Site::whose_blocks_live(30);
        // More and more of it, so that it grows all the same.
        for at_s in begins_s..begins_s + 8000 {
            site.allocate(at_s, 1000 + at_s - begins_s);
            if at_s % 10 == 0 {
                tracker.observe(&site.snapshot(at_s + 1));
            }
        }
        let growth = tracker.growth(0);
        let found = (growth.verdict, growth.reason.finding);
        let words = growth.words();
        assert_eq!(found, (Verdict::Growing, Finding::Passing), "{words}");
    }
}

#[test]
fn what_was_freed_at_the_start_says_nothing_of_what_stays_an_hour_later() {
    let mut tracker = quiet_until(0);
    let mut site = Site::whose_blocks_live(u64::MAX);
    site.allocate(0, 1000);
    site.blocks.clear();
    for at_s in 1..HOUR_S + 40 {
        if at_s >= HOUR_S {
            site.allocate(at_s, 1000);
        }
        tracker.observe(&site.snapshot(at_s));
    }
    let growth = tracker.growth(0);
    let finding = growth.reason.finding;
    assert_eq!(finding, Finding::NothingFreed, "{}", growth.words());
}

/// The last of the times that births are told apart by has no end: after a day and a half all that comes is
/// born in it, and says nothing of what stays.
#[test]
fn what_comes_and_goes_is_no_leak_after_days_either() {
    let mut tracker = Tracker::new();
    let mut site = Site::whose_blocks_live(600);
    for at_s in (0..4 * 24 * HOUR_S).step_by(60) {
        site.allocate(at_s, 1000);
        if at_s % 1200 < 600 {
            site.allocate(at_s, 1000);
        }
        tracker.observe(&site.snapshot(at_s + 1));
        if at_s % (6 * HOUR_S) == 0 && at_s > HOUR_S {
            let growth = tracker.growth(0);
            let words = growth.words();
            assert_eq!(growth.verdict, Verdict::Steady, "at {at_s} s: {words}");
        }
    }
}

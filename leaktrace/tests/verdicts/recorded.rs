//! Series that `cargo xtask bench record` has taken of real programs → verdicts after so many readings.
//! What leaks says so in its name; what has no label is a real program's, in which nobody has put a leak.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use leaktrace::analysis::{Growth, Tracker};
use leaktrace::snapshot::{SiteReading, Snapshot, Totals};
use leaktrace_common::birth::birth_slot;

use crate::behaviours::Truth;
use crate::score::{Mark, Tally};

/// Readings of a second each.
const FILES: [(&str, &str); 5] = [
    ("behaviours", include_str!("recorded/behaviours.txt")),
    ("labelled", include_str!("recorded/labelled.txt")),
    ("python3", include_str!("recorded/python3-leaky.txt")),
    ("perl", include_str!("recorded/perl-leaky.txt")),
    ("sqlite3", include_str!("recorded/sqlite3-leaky.txt")),
];

/// Lengths that are scored, readings; the last one is more than there is of most programs.
pub(crate) const LENGTHS: [usize; 4] = [12, 45, 300, 1500];

/// A leak can be told once it has taken something at so many readings, and from so many readings on.
const TELLING_READINGS: usize = 8;
const FIRST_DECIDABLE: usize = 45;

/// A site of a real program.
struct Recorded {
    program: &'static str,
    name: String,
    /// When it was known last that it had not allocated anything yet.
    begun: Duration,
    /// In the order of time; nothing for the times before its first allocation.
    readings: Vec<(Duration, SiteReading)>,
}

impl Recorded {
    fn truth(&self) -> Truth {
        match self.name.starts_with("leak_") {
            true => Truth::Leak,
            false => Truth::Healthy,
        }
    }

    /// What is said after so many readings of the site, and whether a careful person would decide then;
    /// nothing if there are not so many.
    fn judged(&self, length: usize) -> Option<(Growth, bool)> {
        let readings = self.readings.get(..length)?;
        let mut tracker = Tracker::new();
        tracker.skip(self.begun);
        for (at, reading) in readings {
            tracker.observe(&Snapshot::of_sites(*at, vec![reading.clone()]));
        }
        let takes = readings
            .windows(2)
            .filter(|pair| pair[0].1.totals.allocated_count < pair[1].1.totals.allocated_count);
        let is_decidable = match self.truth() {
            Truth::Leak => length >= FIRST_DECIDABLE && takes.count() >= TELLING_READINGS,
            Truth::Healthy => true,
        };
        Some((tracker.growth(0), is_decidable))
    }
}

/// Tallies the sites of which there are so many readings; every wrong verdict goes to standard error.
pub(crate) fn tally(length: usize) -> Tally {
    let mut tally = Tally::default();
    let all = FILES.iter();
    for site in all.flat_map(|(program, text)| sites(program, text)) {
        let Some((growth, is_decidable)) = site.judged(length) else {
            continue;
        };
        if tally.count(site.truth(), is_decidable, growth.verdict) == Mark::Wrong {
            let (program, name, words) = (site.program, &site.name, growth.words());
            eprintln!("wrong after {length}: {name} of {program}: {words}");
        }
    }
    tally
}

fn sites(program: &'static str, text: &str) -> Vec<Recorded> {
    let mut lines = text.lines();
    let times = lines.next().and_then(|line| line.strip_prefix("times "));
    let times: Vec<Duration> = times
        .expect("the times")
        .split(' ')
        .map(|at_s| Duration::from_secs_f64(at_s.parse().expect("a time")))
        .collect();
    let mut all: Vec<Recorded> = Vec::new();
    let mut line_of = Line::default();
    let mut at = times.iter();
    for line in lines {
        if let Some(name) = line.strip_prefix("site ") {
            (line_of, at) = (Line::default(), times.iter());
            all.push(Recorded {
                program,
                name: name.to_owned(),
                begun: Duration::ZERO,
                readings: Vec::new(),
            });
        } else if let (Some(site), Some(at)) = (all.last_mut(), at.next()) {
            match line_of.next(line, *at) {
                Some(reading) => site.readings.push((*at, reading)),
                None => site.begun = *at,
            }
        }
    }
    all
}

/// What the lines of a site have come to.
#[derive(Default)]
struct Line {
    /// Bytes and blocks live, bytes and blocks allocated.
    numbers: [u64; 4],
    births: BTreeMap<usize, u64>,
}

impl Line {
    /// The reading that a line says; nothing where the site was not known.
    fn next(&mut self, line: &str, at: Duration) -> Option<SiteReading> {
        match line {
            "-" => return None,
            "=" => {}
            changed => self.change(changed),
        }
        let [live_bytes, live_count, allocated_bytes, allocated_count] = self.numbers;
        let slots = birth_slot(at.as_nanos() as u64) + 1;
        let by_birth = (0..slots).map(|slot| self.births.get(&slot).copied().unwrap_or(0));
        Some(SiteReading::of_numbers(
            0,
            Totals {
                live_bytes,
                live_count,
                allocated_bytes,
                allocated_count,
                freed_bytes: allocated_bytes - live_bytes,
                freed_count: allocated_count - live_count,
            },
            Some(by_birth.collect()),
        ))
    }

    fn change(&mut self, line: &str) {
        let mut words = line.split(' ');
        for number in &mut self.numbers {
            let difference = words.next().and_then(|word| word.parse::<i64>().ok());
            *number = number
                .checked_add_signed(difference.expect("a difference"))
                .expect("no number below zero");
        }
        for word in words {
            let (since, bytes) = word.split_once(':').expect("a birth");
            let tenths: u64 = since.parse().expect("a time of birth");
            // A slot is no shorter than a second, and its begin was rounded to tenths.
            let slot = birth_slot((tenths + 5) * 100_000_000);
            self.births.insert(slot, bytes.parse().expect("bytes"));
        }
    }
}

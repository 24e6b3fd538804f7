//! The verdicts on the labelled corpus: simulated sites whose truth is known, and series that were
//! recorded of programs. `cargo xtask bench verdicts` prints the table.

mod behaviours;
mod day;
mod healthy;
mod leaks;
mod recorded;
mod score;
mod site;
mod table;

use behaviours::{Behaviour, Truth};
use score::{Mark, Tally, Watched};

/// Runs of each behaviour; they differ in sizes, times and noise.
const SEEDS: u64 = 20;
/// Seeds that nothing was tuned on.
const FRESH_SEEDS: std::ops::Range<u64> = 5000..5100;
/// Seeds of the tests that run on every change.
const FEW_SEEDS: std::ops::Range<u64> = 0..5;

/// Freed share below which levels say as much as the births.
const LITTLE_FREED: f64 = 0.1;

/// Tallies runs of these lengths; with `say`, every wrong verdict goes to standard error.
fn tally(
    behaviours: &[Behaviour],
    seeds: &std::ops::Range<u64>,
    intervals: u32,
    watched: Watched,
) -> Tally {
    let mut tally = Tally::default();
    for behaviour in behaviours {
        for seed in seeds.clone() {
            let (growth, site) = score::judge(behaviour, seed, intervals, watched);
            // By levels alone, what is freed again cannot be told from what passes.
            let is_told = !watched.is_late() || site.freed_share() < LITTLE_FREED;
            let decidable_from = match is_told {
                true => behaviour.decidable_from,
                false => u32::MAX,
            };
            let behaviour = &Behaviour {
                decidable_from: match behaviour.truth {
                    Truth::Leak => decidable_from,
                    Truth::Healthy => behaviour.decidable_from,
                },
                ..*behaviour
            };
            if tally.add(behaviour, intervals, growth.verdict) == Mark::Wrong {
                let (name, words) = (behaviour.name, growth.words());
                eprintln!("wrong after {intervals}: {name} (seed {seed}): {words}");
            }
        }
    }
    tally
}

fn split() -> (Vec<Behaviour>, Vec<Behaviour>) {
    let (held_out, tuned): (Vec<_>, Vec<_>) =
        behaviours::all().into_iter().partition(|b| b.held_out);
    (tuned, held_out)
}

#[test]
fn there_are_forty_behaviours_and_a_fifth_of_them_was_kept_out_of_tuning() {
    let (tuned, held_out) = split();
    assert!(tuned.len() + held_out.len() >= 40);
    assert!(held_out.len() * 5 >= tuned.len());
}

#[test]
fn after_45_intervals_every_leak_is_found_and_nothing_else_called_one() {
    let (tuned, held_out) = split();
    for behaviours in [tuned, held_out] {
        let tally = tally(&behaviours, &FEW_SEEDS, 45, Watched::FromTheStart);
        assert_eq!(tally.found, tally.leaks, "recall");
        assert_eq!(tally.alarms, 0, "false alarms");
    }
}

#[test]
fn after_300_intervals_every_leak_is_found_and_nothing_else_called_one() {
    let (tuned, held_out) = split();
    for behaviours in [tuned, held_out] {
        let tally = tally(&behaviours, &FEW_SEEDS, 300, Watched::FromTheStart);
        assert_eq!(tally.found, tally.leaks, "recall");
        assert_eq!(tally.alarms, 0, "false alarms");
    }
}

#[test]
fn after_12_intervals_nothing_is_called_a_leak_because_a_cache_would_look_the_same() {
    let tally = tally(&behaviours::all(), &FEW_SEEDS, 12, Watched::FromTheStart);
    assert_eq!(tally.found + tally.open_found, 0, "leaks");
    assert_eq!(tally.alarms + tally.open_alarms, 0, "false alarms");
}

#[test]
fn with_twice_as_many_readings_a_verdict_comes_no_later() {
    let (tuned, held_out) = split();
    for behaviours in [tuned, held_out] {
        for length in [45, 300] {
            let tally = tally(&behaviours, &FEW_SEEDS, length, Watched::TwiceASecond);
            assert_eq!(tally.found, tally.leaks, "recall after {length}");
            assert_eq!(tally.alarms, 0, "false alarms after {length}");
        }
    }
}

/// Of leaks that begin late and free next to nothing, those that have to be found after so many intervals: a
/// big start hides one for a while.
const LATE_FOUND_PERCENT: [(u32, u32); 3] = [(45, 75), (300, 95), (1500, 100)];

/// None of this was tuned on.
#[test]
fn what_begins_an_hour_after_the_start_is_no_leak_unless_it_is_one() {
    for watched in [Watched::AnHourLater, Watched::AfterAnHourOfChurn] {
        for (length, least_percent) in LATE_FOUND_PERCENT {
            let tally = tally(&behaviours::all(), &FEW_SEEDS, length, watched);
            assert_eq!(tally.alarms, 0, "false alarms, {watched:?}, {length}");
            let is_found = tally.found * 100 >= tally.leaks * least_percent;
            assert!(is_found, "{tally:?}, {watched:?}, {length}");
        }
    }
}

#[test]
fn of_what_was_recorded_every_leak_that_can_be_told_is_found_and_nothing_else_called_one() {
    for (length, fewest_leaks) in recorded::LENGTHS.into_iter().zip([0, 1, 1, 1]) {
        let tally = recorded::tally(length);
        assert_eq!(tally.found, tally.leaks, "recall after {length}");
        assert_eq!(tally.alarms, 0, "false alarms after {length}");
        assert!(
            tally.leaks >= fewest_leaks && tally.healthy > 0,
            "{tally:?}"
        );
    }
}

#[test]
fn without_births_a_leak_may_be_called_growth_but_growth_no_leak() {
    let tally = tally(&behaviours::all(), &FEW_SEEDS, 300, Watched::WithoutBirths);
    assert_eq!(tally.alarms, 0, "false alarms");
    assert!(tally.found * 10 >= tally.leaks * 4, "recall {tally:?}");
}

/// `cargo xtask bench verdicts`.
#[test]
#[ignore = "prints the table; takes half a minute in a release build"]
fn print_the_table() {
    eprintln!("{}", table::all());
}

/// `cargo xtask bench series`.
#[test]
#[ignore = "prints memory and time; takes ten seconds in a release build"]
fn print_the_memory_of_a_day() {
    eprintln!("{}", day::measure());
}

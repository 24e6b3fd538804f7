//! Scores → the table that `cargo xtask bench verdicts` prints. Asserts nothing.

use leaktrace::analysis::Verdict;

use crate::behaviours::{self, Behaviour, Truth};
use crate::score::{self, LENGTHS, Tally, Watched};
use crate::{FRESH_SEEDS, SEEDS, recorded, split, tally};

/// Lengths that are scored where a behaviour begins late, intervals since then.
const LATE_LENGTHS: [u32; 4] = [12, 45, 300, 1500];

/// The table of behaviours and that of the sums.
pub(crate) fn all() -> String {
    let mut text = format!(
        "\n{SEEDS} runs of each behaviour, verdicts after so many intervals: L leaking, g growing, \
         s steady, - shrinking,\n? unknown; in brackets where nobody could decide yet; right from: \
         median and latest interval from which\nthe verdict stays right; * kept out of tuning\n"
    );
    for truth in [Truth::Leak, Truth::Healthy] {
        text += &format!(
            "\n  {:<40}{:<15}{:<15}{:<15}right from\n",
            format!("{truth:?}"),
            LENGTHS[0],
            LENGTHS[1],
            LENGTHS[2]
        );
        for behaviour in behaviours::all().iter().filter(|b| b.truth == truth) {
            text += &row(behaviour);
        }
    }
    text + &sums()
}

fn row(behaviour: &Behaviour) -> String {
    let runs: Vec<_> = (0..SEEDS)
        .map(|seed| score::run(behaviour, seed, LENGTHS[2], Watched::FromTheStart))
        .collect();
    let mark = if behaviour.held_out { " *" } else { "" };
    let mut text = format!("  {:<40}", format!("{}{mark}", behaviour.name));
    for length in LENGTHS {
        let said = words(runs.iter().map(|run| run.after(length)));
        let said = match length < behaviour.decidable_from {
            true => format!("({said})"),
            false => said,
        };
        text += &format!("{said:<15}");
    }
    let mut from: Vec<usize> = runs
        .iter()
        .map(|run| run.right_from(behaviour.truth).unwrap_or(usize::MAX))
        .collect();
    from.sort_unstable();
    let shown = |at: usize| match from[at] {
        usize::MAX => "never".to_owned(),
        from => from.to_string(),
    };
    let last = from.len() - 1;
    text + &format!("{:>4}{:>6}\n", shown(last / 2), shown(last))
}

/// How often each word was said.
fn words(said: impl Iterator<Item = Verdict>) -> String {
    let said: Vec<Verdict> = said.collect();
    let all = [
        (Verdict::Leaking, 'L'),
        (Verdict::Growing, 'g'),
        (Verdict::Steady, 's'),
        (Verdict::Shrinking, '-'),
        (Verdict::Unknown, '?'),
    ];
    let counted: Vec<String> = all
        .iter()
        .map(|(verdict, letter)| {
            let count = said.iter().filter(|said| *said == verdict).count();
            (count, letter)
        })
        .filter(|(count, _)| *count > 0)
        .map(|(count, letter)| format!("{count}{letter}"))
        .collect();
    counted.join(" ")
}

fn sums() -> String {
    let (tuned, held_out) = split();
    let mut text = format!(
        "\n  {:<30}{:>5}  {:>9}  {:>12}  {:>26}\n  {:<30}{:>5}  {:>9}  {:>12}  {:>13}{:>13}\n",
        "",
        "after",
        "recall",
        "false alarms",
        "undecidable, called L:",
        "",
        "",
        "",
        "",
        "leaks",
        "healthy"
    );
    let all = behaviours::all();
    let start = Watched::FromTheStart;
    for (name, behaviours, seeds, watched) in [
        ("tuned on", &tuned, 0..SEEDS, start),
        ("tuned on, fresh seeds", &tuned, FRESH_SEEDS, start),
        ("kept out of tuning", &held_out, 0..SEEDS, start),
        ("kept out, fresh seeds", &held_out, FRESH_SEEDS, start),
        (
            "all, births not counted",
            &all,
            0..SEEDS,
            Watched::WithoutBirths,
        ),
        (
            "all, two readings a second",
            &all,
            0..SEEDS,
            Watched::TwiceASecond,
        ),
    ] {
        for length in LENGTHS {
            text += &sum(name, length, tally(behaviours, &seeds, length, watched));
        }
    }
    for (name, watched) in [
        ("all, an hour later", Watched::AnHourLater),
        ("all, after an hour of churn", Watched::AfterAnHourOfChurn),
    ] {
        for length in LATE_LENGTHS {
            text += &sum(name, length, tally(&all, &(0..SEEDS), length, watched));
        }
    }
    for length in recorded::LENGTHS {
        text += &sum("recorded", length as u32, recorded::tally(length));
    }
    text
}

fn sum(name: &str, length: u32, tally: Tally) -> String {
    let of = |some: u32, all: u32| format!("{some}/{all}");
    format!(
        "  {name:<30}{length:>5}  {:>9}  {:>12}  {:>13}{:>13}\n",
        of(tally.found, tally.leaks),
        of(tally.alarms, tally.healthy),
        of(tally.open_found, tally.open_leaks),
        of(tally.open_alarms, tally.open_healthy)
    )
}

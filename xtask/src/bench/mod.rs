//! Measures what tracing costs, next to other tracers on the same machine in the same minutes.
//! Judges nothing: it fails only when it cannot measure.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::{
    command::{is_root, say},
    demo, test, workspace,
};

mod attach;
mod floor;
mod large;
mod overhead;
mod peers;
mod readings;
mod real_programs;
mod record;
mod report;
mod subject;
mod target;
mod top_ten;
mod verdicts;

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Benchmark {
    /// Time of a malloc and its free: untraced, at the floor, and under each tracer
    Overhead(Overhead),
    /// Time to attach to a busy process and to detach from it; to the first report on rustc, and the
    /// memory of its unwind tables
    Attach(Attach),
    /// Cost of a report and kernel memory when ten million allocations are live
    Report(ReportOptions),
    /// Leaks and others among the first ten of leaktrace and of memleak
    Topten {
        /// How long the programs work
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// Verdicts on the labelled corpus: recall, false alarms, time until they are right
    Verdicts,
    /// Memory that the series of 10,000 sites take after a day
    Series,
    /// How much of the growth of real programs is explained
    Explained,
    /// Forecasts of ten out-of-memory kills, and when they came
    Forecast,
    /// Records series of real programs for the labelled corpus, anew
    Record {
        /// How long the programs work
        #[arg(long, default_value_t = 305)]
        seconds: u32,
        /// Only the program of this name
        #[arg(long)]
        only: Option<String>,
    },
}

/// Options of the overhead benchmark.
#[derive(Args)]
pub(crate) struct Overhead {
    /// Calls between main and malloc
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 30])]
    depth: Vec<u32>,
    /// Rounds; in each, every tracer is measured once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement
    #[arg(long, default_value_t = 500)]
    milliseconds: u32,
    /// Leave out memleak and heaptrack, which have to be installed
    #[arg(long)]
    without_peers: bool,
}

/// Options of the attach benchmark.
#[derive(Args)]
pub(crate) struct Attach {
    /// Number of runs
    #[arg(long, default_value_t = 9)]
    rounds: usize,
}

/// Options of the report benchmark.
#[derive(Args)]
pub(crate) struct ReportOptions {
    /// Live allocations
    #[arg(long, default_value_t = 10_000_000)]
    blocks: u32,
    /// Number of reports
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// List only what is at least so old (`10s`)
    #[arg(long)]
    older: Option<String>,
}

/// Runs a benchmark.
pub(crate) fn bench(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Verdicts => return verdicts::print("print_the_table"),
        Benchmark::Series => return verdicts::print("print_the_memory_of_a_day"),
        _ => {}
    }
    if !is_root() {
        bail!("measuring tracers needs root; run: sudo env PATH=\"$PATH\" cargo xtask bench");
    }
    let suite = |name: &str| {
        let arguments = ["--test", name, "--", "--nocapture"];
        test::test(&arguments.map(str::to_owned))
    };
    match benchmark {
        Benchmark::Explained => return suite("explained"),
        Benchmark::Forecast => return suite("forecast"),
        _ => {}
    }
    test::build_leaktrace()?;
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    demo::compile(
        &workspace::root().join("xtask/bench/malloc_bench.c"),
        &target::program(),
    )?;
    match benchmark {
        Benchmark::Overhead(options) => overhead::measure(options),
        Benchmark::Attach(options) => {
            attach::measure(options)?;
            large::measure(options)
        }
        Benchmark::Report(options) => report::measure(options),
        Benchmark::Topten { seconds } => top_ten::measure(*seconds),
        Benchmark::Record { seconds, only } => record::record(*seconds, only.as_deref()),
        _ => Ok(()),
    }
}

/// Where benchmarks keep what they build, fetch and write.
fn folder() -> PathBuf {
    workspace::target().join("bench")
}

/// The middle value; the mean of the two in the middle of an even number. NaN of none.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2);
    upper.zip(lower).map_or(f64::NAN, |(a, b)| (a + b) / 2.0)
}

/// Says a row: name, median, and what else belongs to it.
fn say_row(name: &str, values: &[f64], unit: &str, rest: &str) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let middle = median(values);
    say(&format!(
        "  {name:<16}{middle:>10.1} {unit}  ({low:.1} to {high:.1})  {rest}"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_an_outlier() {
        assert_eq!(median(&[3.0, 1.0, 1e9]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 1e9]), 3.0);
        assert!(median(&[]).is_nan());
    }
}

//! What a report costs when very much is live: processor time of leaktrace, and memory of the kernel for
//! each live allocation.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{ReportOptions, say_row};
use crate::{child::Running, command::say, demo, workspace};

/// Reports before the measurement: the first two see everything for the first time.
const WARM_UP: usize = 3;

/// Reports that may wait in the pipe: at one a second, of an hour.
const MOST_WAITING: usize = 3600;

/// Sites with live blocks.
const SITES: u32 = 10_000;

/// A program with many live blocks that goes on growing slowly, traced.
struct Traced {
    target: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Measures and prints both.
pub(super) fn measure(options: &ReportOptions) -> Result<()> {
    let blocks = options.blocks.next_multiple_of(SITES);
    let mut traced = start(blocks)?;
    let kernel_before = kernel_bytes()?;
    let (leaktrace, mut reports) = attach(&traced, blocks, options.older.as_deref())?;
    let kernel_empty = kernel_bytes()?;
    traced.input.write_all(b"go\n")?;
    let mut line = String::new();
    while line.trim() != "done" {
        line.clear();
        if traced.output.read_line(&mut line)? == 0 {
            bail!("the program with {blocks} blocks ended early");
        }
    }
    let mut live_count = 0;
    // Reports of the time in which they were allocated may still wait in the pipe.
    for _ in 0..MOST_WAITING {
        live_count = next_report(&mut reports)?;
        if live_count >= u64::from(blocks) {
            break;
        }
    }
    for _ in 0..WARM_UP {
        live_count = next_report(&mut reports)?;
    }
    let kernel_full = kernel_bytes()?;
    let mut milliseconds = Vec::new();
    for _ in 0..options.rounds.max(1) {
        let before = cpu_ms(leaktrace.pid())?;
        next_report(&mut reports)?;
        milliseconds.push(cpu_ms(leaktrace.pid())? - before);
    }
    if live_count < u64::from(blocks) {
        bail!("{live_count} blocks are reported, {blocks} are live");
    }
    say(&format!(
        "{live_count} live allocations of {SITES} sites, {} reports, one a second:",
        options.rounds
    ));
    say_row(
        "a report",
        &milliseconds,
        "ms of CPU",
        "all of leaktrace in a second",
    );
    let all = kernel_full.saturating_sub(kernel_before);
    say(&format!(
        "  kernel memory: {} MiB before anything is live, {} MiB then: {:.1} bytes for each live \
         allocation, all of leaktrace's included",
        kernel_empty.saturating_sub(kernel_before) >> 20,
        all >> 20,
        all as f64 / live_count as f64
    ));
    drop(traced.target);
    Ok(())
}

fn start(blocks: u32) -> Result<Traced> {
    let program = super::folder().join("many_sites");
    demo::compile(
        &workspace::root().join("tests/programs/many_sites.c"),
        &program,
    )?;
    let mut target = Running::start(
        Command::new(program)
            .args([SITES.to_string(), (blocks / SITES).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped()),
    )?;
    let input = target.0.stdin.take().context("no standard input")?;
    let output = target.0.stdout.take().context("no standard output")?;
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    if !line.starts_with("ready") {
        bail!("the program is not ready: {line:?}");
    }
    Ok(Traced {
        target,
        input,
        output,
    })
}

fn attach(
    traced: &Traced,
    blocks: u32,
    older: Option<&str>,
) -> Result<(Running, BufReader<ChildStdout>)> {
    let mut leaktrace = Running::start(
        Command::new(workspace::leaktrace())
            .args(["-p", &traced.target.pid().to_string(), "-q", "-i", "1s"])
            // It goes on growing while it is measured.
            .args(["--max-live", &(blocks + blocks / 10).to_string()])
            .args(["--format", "json"])
            .args(older.into_iter().flat_map(|age| ["--older", age]))
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let output = leaktrace.0.stdout.take().context("no standard output")?;
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let start: serde_json::Value = serde_json::from_str(&line)
        .with_context(|| format!("leaktrace did not start: {line:?}"))?;
    if start["kind"] != "start" {
        bail!("leaktrace did not start: {line:?}");
    }
    Ok((leaktrace, output))
}

/// Waits for a report; the blocks that it says are live. Nothing may be lost.
fn next_report(reports: &mut BufReader<ChildStdout>) -> Result<u64> {
    let mut line = String::new();
    reports.read_line(&mut line)?;
    let report: serde_json::Value =
        serde_json::from_str(&line).with_context(|| format!("no report: {line:?}"))?;
    if report["losses"]["live_map_full"] != 0 {
        bail!("the ledger was full: {}", report["losses"]);
    }
    let total = |name: &str| {
        let total = report["totals"][name].as_u64();
        total.with_context(|| format!("no {name} in {line:?}"))
    };
    Ok(total("allocated_count")? - total("freed_count")?)
}

/// User and kernel time of a process so far; /proc/PID/stat has it in steps of 10 ms only.
fn cpu_ms(pid: u32) -> Result<f64> {
    let mut sum_ns = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().context("no time")?;
        sum_ns += first.parse::<f64>()?;
    }
    Ok(sum_ns / 1e6)
}

/// Memory of the kernel that a map can be made of.
fn kernel_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kilobytes = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    };
    let names = ["SUnreclaim:", "VmallocUsed:", "Percpu:"];
    Ok(names.iter().map(|name| kilobytes(name)).sum::<u64>() * 1024)
}

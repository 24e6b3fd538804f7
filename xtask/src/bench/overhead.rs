//! Nanoseconds for a malloc and its free under each tracer. The tracers take turns, so that a
//! slower minute of the machine meets all of them.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    process::{ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Overhead, floor, median,
    peers::{self, Peers},
    say_row,
    target::{self, Target},
};
use crate::{child::Running, command::output, command::say, workspace};

/// No tracer takes this long to attach.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT_NAME: &str = "./libc";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tracer {
    Untraced,
    Floor,
    Leaktrace,
    /// leaktrace on the same calls, which `--min-size` keeps it from counting: no stack, no ledger.
    NotCounting,
    Memleak,
    Heaptrack,
}

impl Tracer {
    const ALONE: [Self; 4] = [
        Self::Untraced,
        Self::Floor,
        Self::Leaktrace,
        Self::NotCounting,
    ];
    const ALL: [Self; 6] = [
        Self::Untraced,
        Self::Floor,
        Self::Leaktrace,
        Self::NotCounting,
        Self::Memleak,
        Self::Heaptrack,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::Floor => "floor",
            Self::Leaktrace => "leaktrace",
            Self::NotCounting => "not counting",
            Self::Memleak => "memleak-libbpf",
            Self::Heaptrack => "heaptrack",
        }
    }
}

/// Measures and prints one table for each call depth.
pub(super) fn measure(options: &Overhead) -> Result<()> {
    let peers = if options.without_peers {
        None
    } else {
        Some(peers::install()?)
    };
    let tracers: &[Tracer] = if peers.is_some() {
        &Tracer::ALL
    } else {
        &Tracer::ALONE
    };
    for depth in &options.depth {
        let mut times = vec![Vec::new(); tracers.len()];
        for _ in 0..options.rounds.max(1) {
            for (tracer, times) in tracers.iter().zip(&mut times) {
                let ns = one(*tracer, peers.as_ref(), *depth, options.milliseconds)
                    .with_context(|| format!("cannot measure {}", tracer.name()))?;
                times.push(ns);
            }
        }
        say_table(*depth, options.rounds, tracers, &times);
    }
    Ok(())
}

fn one(tracer: Tracer, peers: Option<&Peers>, depth: u32, milliseconds: u32) -> Result<f64> {
    if tracer == Tracer::Heaptrack {
        return under_heaptrack(depth, milliseconds);
    }
    let target = Target::start(depth, milliseconds)?;
    match tracer {
        Tracer::Untraced | Tracer::Heaptrack => target.go(),
        Tracer::Floor => {
            let _floor = floor::attach(&target)?;
            target.go()
        }
        Tracer::Leaktrace | Tracer::NotCounting => {
            let before = target.code()?;
            let options: &[&str] = match tracer {
                Tracer::NotCounting => &["--min-size", "1G"],
                _ => &[],
            };
            let _leaktrace = attach_leaktrace(target.pid(), options)?;
            let after = target.code()?;
            if before.0 == after.0 || before.1 == after.1 {
                bail!("it says that it is attached, but malloc and free have no probes");
            }
            target.go()
        }
        Tracer::Memleak => {
            let _memleak = attach_memleak(peers.context("memleak is not installed")?, &target)?;
            target.go()
        }
    }
}

/// leaktrace with these options on a process, armed; the second value keeps its output open.
pub(super) fn attach_leaktrace(
    pid: u32,
    options: &[&str],
) -> Result<(Running, BufReader<ChildStdout>)> {
    let mut leaktrace = Running::start(
        Command::new(workspace::leaktrace())
            .args(["-p", &pid.to_string(), "-q", "-i", "1h", "--format", "json"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let output = leaktrace
        .0
        .stdout
        .take()
        .context("leaktrace has no standard output")?;
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

/// memleak says nothing when it is attached: its probes in the target's code do.
fn attach_memleak(peers: &Peers, target: &Target) -> Result<Running> {
    let (malloc, free) = target.code()?;
    // memleak 0.31 cuts the name of the object off after 31 bytes.
    let link = super::folder().join(SHORT_NAME);
    let _ = fs::remove_file(&link);
    symlink(&target.malloc.object, &link)
        .with_context(|| format!("cannot make {}", link.display()))?;
    let mut memleak = Running::start(
        peers
            .memleak()
            .args(["-p", &target.pid().to_string(), "-O"])
            .args([SHORT_NAME, "3600"])
            .current_dir(super::folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    )?;
    let begun = Instant::now();
    loop {
        let (malloc_now, free_now) = target.code()?;
        if malloc_now != malloc && free_now != free {
            break;
        }
        if memleak.0.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
            bail!("memleak did not attach");
        }
        thread::sleep(Duration::from_millis(20));
    }
    // It has more functions to attach to.
    thread::sleep(Duration::from_secs(1));
    Ok(memleak)
}

fn under_heaptrack(depth: u32, milliseconds: u32) -> Result<f64> {
    let says = output(
        Command::new("heaptrack")
            .arg("--output")
            .arg(super::folder().join("heaptrack"))
            .arg(target::program())
            .args([depth.to_string(), milliseconds.to_string()]),
    )?;
    target::read_result(&says).context("the program under heaptrack measured nothing")
}

fn say_table(depth: u32, rounds: usize, tracers: &[Tracer], times: &[Vec<f64>]) {
    let middle = |wanted: Tracer| {
        tracers
            .iter()
            .position(|tracer| *tracer == wanted)
            .and_then(|i| times.get(i))
            .map_or(f64::NAN, |times| median(times))
    };
    let floor = middle(Tracer::Floor);
    say(&format!(
        "malloc and free at call depth {depth}, median of {rounds} interleaved rounds (lowest to highest):"
    ));
    for (tracer, times) in tracers.iter().zip(times) {
        let ratio = format!("{:.2} x floor", median(times) / floor);
        say_row(tracer.name(), times, "ns", &ratio);
    }
    let leaktrace = middle(Tracer::Leaktrace);
    say(&format!(
        "  leaktrace is {:.2} x the floor; of that, the stack and the ledger take {:.0} ns",
        leaktrace / floor,
        leaktrace - middle(Tracer::NotCounting),
    ));
    if tracers.contains(&Tracer::Memleak) {
        let share = leaktrace / middle(Tracer::Memleak);
        say(&format!("  leaktrace is {share:.2} x memleak-libbpf"));
    }
}

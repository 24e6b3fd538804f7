//! Lets any program run with `programs/stack_sampler.c` in it and leaktrace attached, and compares
//! the stacks that both have taken. Knows the layout of the sampler's file.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use crate::{Program, Report, Session, Site, Target, Tracer, scratch};

/// The size of the blocks that the sampler marks stacks with.
const MARK_BYTES: &str = "41";

const MOST_FRAMES: usize = 250;
/// Where the kernel maps the code that functions with a return probe return to: the last page.
const TRAMPOLINE: u64 = 0x7fff_ffff_e000;

const HEADER_WORDS: usize = 4;
const SAMPLE_WORDS: usize = 3 + MOST_FRAMES;

/// How often each stack was taken, without its first frame.
type Stacks = HashMap<Vec<u64>, u64>;

/// How far leaktrace's stacks are those that glibc's `backtrace` has found in the process.
#[derive(Clone, Debug)]
pub struct Agreement {
    /// Stacks that the process has taken.
    pub taken: u64,
    /// Of these, leaktrace has as many with the same frames, and calls them complete.
    pub equal: u64,
    /// Stacks of leaktrace that are complete by its own word and that the process has not taken.
    pub wrong: u64,
    /// Stacks that leaktrace says to be cut.
    pub truncated: u64,
    /// Stacks that the process has taken and that leaktrace does not have at all.
    pub missing: u64,
    /// The first stacks that are wrong.
    pub examples: Vec<String>,
    /// All that leaktrace said.
    pub session: Session,
}

impl Agreement {
    /// The share of stacks that are whole and right.
    pub fn ratio(&self) -> f64 {
        self.equal as f64 / self.taken as f64
    }
}

/// Runs a command to its end, with the sampler in it and leaktrace attached from before its main
/// function on.
pub fn compare_stacks(command: &mut Command, options: &[&str]) -> Agreement {
    let sampler = Program::c("stack_sampler.c").with(&["-O2", "-shared", "-fPIC"]);
    let folder = scratch();
    let file = folder.path().join("samples");
    command
        .env("LD_PRELOAD", sampler.path())
        .env("STACK_SAMPLES", &file);
    let mut target = Target::start_command(command);
    let mut all = vec!["--min-size", MARK_BYTES, "--max-size", MARK_BYTES];
    all.extend(["--interval", "1h", "--no-mmap"]);
    all.extend(options);
    let tracer = Tracer::attach(target.pid(), &all);
    target.say("go");
    let (_, status) = target.end();
    assert!(status.success(), "the program failed: {status}");
    let session = tracer.wait();
    let (marked, taken) = read(&file);
    agreement(session, marked, &taken)
}

fn read(file: &Path) -> (std::ops::Range<u64>, Stacks) {
    let bytes = std::fs::read(file).expect("cannot read the sampler's file");
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")))
        .collect();
    assert_eq!(words[2], 0, "the sampler had no room for a stack");
    let mut stacks = Stacks::new();
    for sample in words[HEADER_WORDS..].chunks_exact(SAMPLE_WORDS) {
        let (count, depth) = (sample[1], sample[2] as usize);
        if count == 0 {
            continue;
        }
        let frames = &sample[4..3 + depth];
        // Inside another allocation function the call does not count, and backtrace ends there.
        if !frames.iter().any(|frame| *frame >= TRAMPOLINE) {
            *stacks.entry(frames.to_vec()).or_default() += count;
        }
    }
    (words[0]..words[1], stacks)
}

fn agreement(session: Session, marked: std::ops::Range<u64>, taken: &Stacks) -> Agreement {
    let report = session.final_report().clone();
    let (whole, truncated) = seen(&report, &marked);
    let mut agreement = Agreement {
        taken: taken.values().sum(),
        equal: 0,
        wrong: 0,
        truncated,
        missing: 0,
        examples: Vec::new(),
        session,
    };
    for (frames, count) in &whole {
        let right = taken.get(frames).copied().unwrap_or(0).min(*count);
        agreement.equal += right;
        agreement.wrong += count - right;
        if right < *count && agreement.examples.len() < 3 {
            agreement.examples.push(example(frames, taken));
        }
    }
    let seen = agreement.equal + agreement.wrong + truncated;
    agreement.missing = agreement.taken.saturating_sub(seen);
    agreement
}

/// Whole stacks of marked blocks, and how many were cut.
fn seen(report: &Report, marked: &std::ops::Range<u64>) -> (Stacks, u64) {
    let mut whole = Stacks::new();
    let mut truncated = 0;
    for site in report.sites("heap") {
        let frames = addresses(&site);
        if !frames.first().is_some_and(|first| marked.contains(first)) {
            continue;
        }
        let count = site.held().count;
        match site.0["complete"].as_bool() {
            Some(true) => *whole.entry(frames[1..].to_vec()).or_default() += count,
            _ => truncated += count,
        }
    }
    (whole, truncated)
}

/// The frames of a site without inlined functions, which share the address of their caller.
fn addresses(site: &Site<'_>) -> Vec<u64> {
    let frames = site.frames();
    frames
        .iter()
        .filter(|frame| !frame.is_inlined())
        .map(crate::Frame::address)
        .collect()
}

/// A stack that is wrong, beside the one that it has most in common with.
fn example(frames: &[u64], taken: &Stacks) -> String {
    let common = |other: &&Vec<u64>| {
        let same = frames.iter().zip(*other).take_while(|(a, b)| a == b);
        same.count()
    };
    let nearest = taken.keys().max_by_key(common);
    format!("leaktrace {frames:x?}, backtrace {nearest:x?}")
}

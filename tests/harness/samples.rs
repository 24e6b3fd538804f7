//! Lets any program run with `programs/stack_sampler.c` in it and leaktrace attached, and compares
//! the stacks that both have taken. Knows the layout of the sampler's file.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use crate::kernel_stacks::{Counted, KernelStacks};
use crate::procfs::file_offset_of;
use crate::{Program, Report, Session, Site, Target, Tracer, scratch};

/// The size of the blocks that the sampler marks stacks with.
const MARK_BYTES: &str = "41";

const MOST_FRAMES: usize = 250;
/// Where the kernel maps the code that functions with a return probe return to: the last page.
const TRAMPOLINE: u64 = 0x7fff_ffff_e000;

/// Fewer frames at the end of a stack prove nothing: all of a program have the last ones in common.
const FRAMES_OF_AN_END: usize = 4;

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
    /// Whole stacks of leaktrace of which `backtrace` has found the beginning and, on another
    /// occasion, the end, but did not get across the one frame between them.
    pub beyond: u64,
    /// Stacks that leaktrace says to be cut.
    pub truncated: u64,
    /// Stacks that the process has taken and that leaktrace does not have at all.
    pub missing: u64,
    /// Stacks of leaktrace that are complete by its own word.
    pub whole: u64,
    /// Of these, so many begin with all frames that the process has found: `backtrace` stops at code
    /// without unwind information, which runtimes make.
    pub begun_right: u64,
    /// Frames of the stacks that the process has taken.
    pub frames: u64,
    /// Of the stacks that `bpf_get_stackid` has found, those that the process has taken.
    pub kernel_equal: u64,
    /// Frames of the stacks that it has found.
    pub kernel_frames: u64,
    /// Stacks that it has dropped: those with one hash have one place.
    pub kernel_dropped: u64,
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

    /// The share of leaktrace's stacks that reach their end.
    pub fn whole_ratio(&self) -> f64 {
        self.whole as f64 / (self.whole + self.truncated) as f64
    }

    /// The share of stacks that the kernel's own walker has right.
    pub fn kernel_ratio(&self) -> f64 {
        self.kernel_equal as f64 / self.taken as f64
    }
}

/// Runs a command to its end, with the sampler in it and leaktrace attached from before its main
/// function on.
pub fn compare_stacks(command: &mut Command, options: &[&str]) -> Agreement {
    let flags = ["-O2", "-fno-omit-frame-pointer", "-shared", "-fPIC"];
    let sampler = Program::c("stack_sampler.c").with(&flags);
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
    let place = file_offset_of(target.pid(), words(&file, HEADER_WORDS)[3]);
    let kernel = KernelStacks::attach(target.pid(), &sampler.path(), place);
    target.say("go");
    let (_, status) = target.end();
    assert!(status.success(), "the program failed: {status}");
    let session = tracer.wait();
    let (marked, taken) = read(&file);
    let mut agreement = agreement(session, &marked, &taken);
    add_kernel(&mut agreement, &kernel.read(), &marked, &taken);
    agreement
}

/// The first words of a file.
fn words(file: &Path, count: usize) -> Vec<u64> {
    let file = std::fs::File::open(file).expect("cannot open the sampler's file");
    let mut bytes = Vec::new();
    file.take(count as u64 * 8)
        .read_to_end(&mut bytes)
        .expect("cannot read the sampler's file");
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")))
        .collect()
}

fn read(file: &Path) -> (std::ops::Range<u64>, Stacks) {
    let words = words(file, usize::MAX / 8);
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

fn agreement(session: Session, marked: &std::ops::Range<u64>, taken: &Stacks) -> Agreement {
    let report = session.final_report().clone();
    let (whole, truncated) = seen(&report, marked);
    let mut agreement = Agreement {
        taken: taken.values().sum(),
        equal: 0,
        wrong: 0,
        beyond: 0,
        truncated,
        missing: 0,
        whole: whole.values().sum(),
        begun_right: 0,
        frames: 0,
        kernel_equal: 0,
        kernel_frames: 0,
        kernel_dropped: 0,
        examples: Vec::new(),
        session,
    };
    let beginnings: HashSet<&[u64]> = taken.keys().map(Vec::as_slice).collect();
    for (frames, count) in &whole {
        if (0..=frames.len()).any(|depth| beginnings.contains(&frames[..depth])) {
            agreement.begun_right += count;
        }
        let right = taken.get(frames).copied().unwrap_or(0).min(*count);
        agreement.equal += right;
        if right < *count && is_vouched(frames, taken) {
            agreement.beyond += count - right;
            continue;
        }
        agreement.wrong += count - right;
        if right < *count && agreement.examples.len() < 3 {
            agreement.examples.push(example(frames, taken));
        }
    }
    let seen = agreement.equal + agreement.beyond + agreement.wrong + truncated;
    agreement.missing = agreement.taken.saturating_sub(seen);
    agreement
}

/// What the kernel's walker has found, without the frames of the sampler itself.
fn add_kernel(
    agreement: &mut Agreement,
    counted: &Counted,
    marked: &std::ops::Range<u64>,
    taken: &Stacks,
) {
    let mut stacks = Stacks::new();
    for (frames, count) in &counted.stacks {
        let own = frames.iter().take_while(|frame| marked.contains(frame));
        let outside = &frames[own.count()..];
        *stacks.entry(outside.to_vec()).or_default() += count;
    }
    let right = |(frames, count): (&Vec<u64>, &u64)| match taken.get(frames) {
        Some(taken) => (*taken).min(*count),
        None => 0,
    };
    agreement.kernel_equal = stacks.iter().map(right).sum();
    agreement.frames = frames_of(taken);
    agreement.kernel_frames = frames_of(&stacks);
    agreement.kernel_dropped = counted.dropped;
}

fn frames_of(stacks: &Stacks) -> u64 {
    let frames = |(frames, count): (&Vec<u64>, &u64)| frames.len() as u64 * count;
    stacks.iter().map(frames).sum()
}

/// Whether a stack is one that was taken, as far as `backtrace` got, and ends like another one that
/// was taken: all but the one frame between them is known to be right. glibc's unwinder stops in
/// some functions with realigned stacks (LLVM has one).
fn is_vouched(frames: &[u64], taken: &Stacks) -> bool {
    (1..frames.len().saturating_sub(FRAMES_OF_AN_END)).any(|depth| {
        taken.contains_key(&frames[..depth])
            && taken
                .keys()
                .any(|other| other.ends_with(&frames[depth + 1..]))
    })
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

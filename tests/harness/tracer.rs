//! leaktrace as a user runs it: a process with arguments, standard output, standard error and an
//! exit code. Reads the JSON lines into a [`Session`].

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::compile::target_directory;
use crate::environment::{assert_is_meant, root};
use crate::lines::{Lines, collect};
use crate::{PATIENCE, Report, Spawned, Truth};

/// The command `leaktrace`: that of `LEAKTRACE_BIN`, or the release build of this workspace.
pub fn leaktrace() -> Command {
    assert!(
        rustix::process::geteuid().is_root(),
        "the end-to-end tests trace real processes; run them as root"
    );
    let binary = std::env::var_os("LEAKTRACE_BIN").map_or_else(
        || target_directory().join("release/leaktrace"),
        PathBuf::from,
    );
    assert!(
        binary.exists(),
        "{} is missing; build it with `cargo build --release`, or name another in LEAKTRACE_BIN",
        binary.display()
    );
    Command::new(binary)
}

/// Enters a root with what leaktrace and its tests need in there, at the same paths as here; becomes leaktrace.
const ENTER_ROOT: &str = r#"
    set -e; root=$1 target=$2 leaktrace=$3; shift 3
    mount -t proc proc "$root/proc"
    for folder in /sys /tmp "$target"; do mkdir -p "$root$folder"; mount --rbind "$folder" "$root$folder"; done
    exec chroot "$root" "$leaktrace" "$@"
"#;

/// The command `leaktrace` for tests in which it starts the traced program itself: in the root that
/// `LEAKTRACE_TARGET_ROOT` names, when it is set.
pub fn leaktrace_of_commands() -> Command {
    let leaktrace = leaktrace();
    let Some(root) = root() else {
        return leaktrace;
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", ENTER_ROOT, "sh"]);
    command
        .arg(root)
        .arg(target_directory())
        .arg(leaktrace.get_program());
    command
}

/// A leaktrace that has attached.
#[derive(Debug)]
pub struct Tracer {
    lines: Lines,
    errors: JoinHandle<String>,
    process: Spawned,
    start: Value,
    reports: Vec<Report>,
    targets: Vec<Value>,
    /// Time from the start of the process to its `start` line.
    pub attached_in: Duration,
}

/// Everything that a leaktrace said, from its start to its end.
#[derive(Clone, Debug)]
pub struct Session {
    /// The `start` line.
    pub start: Value,
    /// The `report` lines.
    pub reports: Vec<Report>,
    /// The `target` lines.
    pub targets: Vec<Value>,
    /// The `end` line, absent when leaktrace was killed.
    pub end: Value,
    /// How the process ended.
    pub status: ExitStatus,
    /// Standard error.
    pub errors: String,
    /// Time from the wish to stop (or the last wait) to the end of the process.
    pub ended_in: Duration,
}

impl Tracer {
    /// Attaches to a process, with every site in the report unless the arguments say how many, and
    /// waits until all is armed.
    pub fn attach(pid: u32, arguments: &[&str]) -> Self {
        let pid = pid.to_string();
        let mut all = vec!["--format", "json", "--pid", &pid];
        all.extend(arguments);
        if !arguments.contains(&"--top") {
            all.extend(["--top", "0"]);
        }
        Self::start(leaktrace().args(all))
    }

    /// Starts a command that becomes leaktrace with JSON lines, and waits until all is armed.
    pub fn start(command: &mut Command) -> Self {
        let begun = Instant::now();
        let mut process = Spawned::start(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let child = process.child_mut();
        let lines = Lines::of("leaktrace", child.stdout.take().expect("a pipe"));
        let errors = collect(child.stderr.take().expect("a pipe"));
        let Some(first) = lines.next(PATIENCE) else {
            let status = process.wait(PATIENCE);
            let errors = errors.join().expect("the reader of standard error");
            panic!("leaktrace ended before it had attached: {status}: {errors}");
        };
        let attached_in = begun.elapsed();
        let start = parse(&first);
        assert_eq!(start["kind"], "start", "the first line is {first}");
        assert_is_meant(&start);
        Self {
            lines,
            errors,
            process,
            start,
            reports: Vec::new(),
            targets: Vec::new(),
            attached_in,
        }
    }

    /// Process id of leaktrace itself.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits for the next report.
    pub fn next_report(&mut self) -> Report {
        loop {
            let line = self.lines.next(PATIENCE).expect("a report before the end");
            let value = parse(&line);
            if value["kind"] == "target" {
                self.targets.push(value);
                continue;
            }
            assert_eq!(value["kind"], "report", "instead of a report: {line}");
            self.reports.push(Report(value));
            return self.reports[self.reports.len() - 1].clone();
        }
    }

    /// Waits for a report that has all allocations that the program has told of: reports from the
    /// time when it was still at work may come before.
    pub fn report_of(&mut self, truth: &Truth) -> Report {
        let told = truth.number("allocated_count");
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let report = self.next_report();
            if report.total("allocated_count") == told {
                return report;
            }
        }
        panic!("no report has all {told} allocations");
    }

    /// Sends a signal to leaktrace.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops with SIGINT, as Ctrl-C does, and takes the rest.
    pub fn stop(self) -> Session {
        self.signal(Signal::INT);
        self.wait()
    }

    /// Waits until leaktrace ends by itself, and takes the rest.
    pub fn wait(mut self) -> Session {
        let begun = Instant::now();
        let mut end = Value::Null;
        for line in self.lines.rest(PATIENCE) {
            assert!(end.is_null(), "there is a line behind the end: {line}");
            let value = parse(&line);
            match value["kind"].as_str() {
                Some("report") => self.reports.push(Report(value)),
                Some("end") => end = value,
                Some("target") => self.targets.push(value),
                _ => panic!("unknown kind of line: {line}"),
            }
        }
        let status = self.process.wait(PATIENCE);
        Session {
            start: self.start,
            reports: self.reports,
            targets: self.targets,
            end,
            status,
            ended_in: begun.elapsed(),
            errors: self.errors.join().expect("the reader of standard error"),
        }
    }
}

impl Session {
    /// The final report of a session that went well.
    pub fn final_report(&self) -> &Report {
        assert!(self.status.success(), "{}: {}", self.status, self.errors);
        assert!(!self.end.is_null(), "there is no `end` line");
        let finals = self.reports.iter().filter(|report| report.is_final());
        assert_eq!(finals.count(), 1, "there is one final report");
        let last = &self.reports[self.reports.len() - 1];
        assert!(last.is_final(), "the final report is the last");
        last
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is no JSON: {error}"))
}

/// A leaktrace that ran to its end.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Exit code; absent when a signal killed it.
    pub code: Option<i32>,
    /// Standard output.
    pub output: String,
    /// Standard error.
    pub errors: String,
}

/// Runs leaktrace to its end.
pub fn run(arguments: &[&str]) -> Finished {
    run_to_end(leaktrace().args(arguments))
}

/// Runs a command to its end.
pub fn run_to_end(command: &mut Command) -> Finished {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = Spawned::start(command);
    let child = process.child_mut();
    let output = collect(child.stdout.take().expect("a pipe"));
    let errors = collect(child.stderr.take().expect("a pipe"));
    let status = process.wait(PATIENCE);
    Finished {
        code: status.code(),
        output: output.join().expect("the reader of standard output"),
        errors: errors.join().expect("the reader of standard error"),
    }
}

/// Asserts that leaktrace could not do what it was asked, and said so: exit code 1, nothing on
/// standard output, and one line that has all of these words.
pub fn assert_refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.output, "", "{finished:?}");
    assert_eq!(finished.errors.lines().count(), 1, "one line: {finished:?}");
    for word in words {
        assert!(
            finished.errors.contains(word),
            "no {word:?} in {finished:?}"
        );
    }
    for noise in ["panicked", "stack backtrace", "Caused by", "os error"] {
        assert!(
            !finished.errors.contains(noise),
            "{noise:?} in {finished:?}"
        );
    }
}

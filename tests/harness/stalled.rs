//! A leaktrace whose reader has stopped: the start line is read, and nothing more until it is wanted.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStdout, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::lines::Lines;
use crate::{PATIENCE, Spawned, leaktrace};

/// A pipe that holds so many bytes has no room for a report: it has 16 pages (pipe(7)), and of the
/// first and the last a part may be out of use.
const FULL_BYTES: u64 = 14 * 4096;

/// A leaktrace that has attached, and is not read.
#[derive(Debug)]
pub struct Stalled {
    process: Spawned,
    unread: BufReader<ChildStdout>,
    messages: Lines,
}

impl Stalled {
    /// Attaches to a process with JSON lines, reads the first one, and stops to read.
    pub fn attach(pid: u32, arguments: &[&str]) -> Self {
        let mut command = leaktrace();
        command.args(["--format", "json", "--pid", &pid.to_string()]);
        command.args(arguments).stdin(Stdio::null());
        let mut process = Spawned::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let child = process.child_mut();
        let mut unread = BufReader::with_capacity(1, child.stdout.take().expect("a pipe"));
        let messages = Lines::of("leaktrace", child.stderr.take().expect("a pipe"));
        let mut start = String::new();
        unread.read_line(&mut start).expect("cannot read a pipe");
        assert!(start.contains("\"kind\":\"start\""), "{start:?}");
        Self {
            process,
            unread,
            messages,
        }
    }

    /// Waits until there is no room for more.
    pub fn fill(&self) {
        let begun = Instant::now();
        while rustix::io::ioctl_fionread(self.unread.get_ref()).expect("a pipe can be asked")
            < FULL_BYTES
        {
            assert!(begun.elapsed() < PATIENCE, "the pipe does not become full");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for a message with this text.
    pub fn await_message(&self, text: &str) {
        loop {
            match self.messages.next(PATIENCE) {
                Some(line) if line.contains(text) => return,
                Some(_) => {}
                None => panic!("leaktrace has ended without saying {text:?}"),
            }
        }
    }

    /// Waits for the end without reading.
    pub fn end(mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// Reads all lines to the end.
    pub fn read_on(mut self) -> (Vec<String>, ExitStatus) {
        let mut rest = String::new();
        self.unread
            .read_to_string(&mut rest)
            .expect("cannot read a pipe");
        let lines = rest.lines().map(str::to_owned).collect();
        (lines, self.process.wait(PATIENCE))
    }
}

//! A traced program at work, by the protocol of `programs/protocol.h`. Knows nothing of leaktrace.

use std::io::Write;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::lines::Lines;
use crate::{PATIENCE, Program, Spawned, Truth, preload};

/// A program that waits to be told to work.
#[derive(Debug)]
pub struct Target {
    input: Option<ChildStdin>,
    lines: Lines,
    process: Spawned,
    truth: Truth,
}

impl Target {
    /// Starts the program and waits until it is ready.
    pub fn start(program: &Program, arguments: &[&str]) -> Self {
        Self::start_command(program.command().args(arguments))
    }

    /// Starts a command that becomes a program of the protocol, and waits until it is ready.
    pub fn start_command(command: &mut Command) -> Self {
        let mut target = Self::start_mute(command);
        loop {
            match target.lines.next(PATIENCE) {
                Some(line) if line.starts_with("ready ") => return target,
                Some(line) => target.truth.add(&line),
                None => panic!("the program has ended before it was ready"),
            }
        }
    }

    /// Starts a command that says nothing.
    pub fn start_mute(command: &mut Command) -> Self {
        preload(command);
        let mut process = Spawned::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let child = process.child_mut();
        let output = child.stdout.take().expect("standard output is a pipe");
        let lines = Lines::of("the traced program", output);
        let input = child.stdin.take();
        Self {
            input,
            lines,
            process,
            truth: Truth::default(),
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What the program has told so far.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// Sends a line.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("standard input is still open");
        writeln!(input, "{line}").expect("cannot write to the traced program");
    }

    /// Sends a line and waits until the program has done what it asks for. The program then waits,
    /// so that what is measured from now on does not move any more.
    pub fn answer(&mut self, line: &str) -> Truth {
        self.say(line);
        self.await_answer(Duration::ZERO)
    }

    /// Waits until the program has done what it was asked for, which takes it this long.
    pub fn await_answer(&mut self, work: Duration) -> Truth {
        loop {
            match self.lines.next(PATIENCE + work) {
                Some(line) if line == "done" => return self.truth.clone(),
                Some(line) => self.truth.add(&line),
                None => panic!("the traced program has ended before it was done"),
            }
        }
    }

    /// Lets the program do its work.
    pub fn work(&mut self) -> Truth {
        self.answer("go")
    }

    /// Lets the program run to its end; what it still printed, and how it ended.
    pub fn end(&mut self) -> (Vec<String>, ExitStatus) {
        self.input = None;
        let output = self.lines.rest(PATIENCE);
        (output, self.process.wait(PATIENCE))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

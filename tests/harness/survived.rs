//! A program run twice, alone and under leaktrace: both runs say the same and end the same, and
//! what leaktrace saw can be compared with what the program knows about itself.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::{Session, Target, Tracer, Truth};

/// A program that has ended under leaktrace as it ends alone.
#[derive(Debug)]
pub struct Survived {
    /// All that leaktrace said.
    pub session: Session,
    /// What the program said of the run under leaktrace.
    pub truth: Truth,
}

/// Runs what `command` makes, alone and then under leaktrace, and asserts that what it prints and
/// how it ends are the same. Lines of truth are taken from the second run: some programs count what
/// depends on time.
#[track_caller]
pub fn survives(command: impl Fn() -> Command) -> Survived {
    let (alone, alone_status) = ended(Target::start_command(&mut command()));
    assert_eq!(alone_status.signal(), None, "alone: {alone_status}");
    let (said_alone, _) = parts(&alone);

    let target = Target::start_command(&mut command());
    let tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    let (traced, traced_status) = ended(target);
    let session = tracer.wait();
    let (said, truth) = parts(&traced);
    assert_eq!(said, said_alone, "what the program says");
    assert_eq!(traced_status, alone_status, "how the program ends");
    Survived { session, truth }
}

fn ended(mut target: Target) -> (Vec<String>, std::process::ExitStatus) {
    target.say("go");
    target.end()
}

/// What a program said, and what it said of itself.
fn parts(lines: &[String]) -> (Vec<&String>, Truth) {
    let mut truth = Truth::default();
    let mut said = Vec::new();
    for line in lines {
        if line.starts_with("{\"truth\":") {
            truth.add(line);
        } else {
            said.push(line);
        }
    }
    (said, truth)
}

//! A program that is traced for a benchmark: started, let work, ended. Traces nothing itself.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::real_programs::{Load, RealProgram};
use crate::child::Running;

/// Length of a round of work that a program is fed.
const ROUND: Duration = Duration::from_millis(10);

/// Time in which a program has to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is run.
pub(super) enum Subject<'a> {
    /// One that says in the names of its functions what leaks.
    Labelled(&'a Path),
    /// A real one, with the library that makes it leak, if it is to.
    Real(&'a RealProgram, Option<&'a Path>),
}

/// A traced program, which works when it is told to.
pub(super) struct Target {
    pub(super) process: Running,
    load: Load,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Target {
    /// Starts it and waits until it is ready.
    pub(super) fn start(subject: &Subject<'_>, seconds: u32) -> Result<Self> {
        let (mut command, load) = match subject {
            Subject::Labelled(program) => {
                let mut command = Command::new(program);
                command.arg(seconds.to_string());
                (command, Load::Itself)
            }
            Subject::Real(program, library) => (program.command(seconds, *library)?, program.load),
        };
        let mut process = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let input = process.0.stdin.take().context("no standard input")?;
        let output = process.0.stdout.take().context("no standard output")?;
        let mut target = Self {
            process,
            load,
            input,
            output: BufReader::new(output),
        };
        match (load, subject) {
            (Load::Client(_), Subject::Real(program, _)) => await_socket(&program.socket())?,
            (Load::Fed(_), _) => {
                target.input.write_all(b".print ready\n")?;
                target.until("ready")?;
                // Nobody reads the answers, and a full pipe would stop it.
                target.input.write_all(b".output /dev/null\n")?;
            }
            _ => target.until("ready")?,
        }
        Ok(target)
    }

    /// Lets it work to its end.
    pub(super) fn work(&mut self, subject: &Subject<'_>, seconds: u32) -> Result<()> {
        let time = Duration::from_secs(u64::from(seconds));
        match (self.load, subject) {
            (Load::Fed(round), _) => {
                let begun = Instant::now();
                for number in 0.. {
                    self.input.write_all(round(number).as_bytes())?;
                    thread::sleep(ROUND);
                    if begun.elapsed() > time {
                        break;
                    }
                }
                self.input.write_all(b".output stdout\n.print done\n")?;
                self.until("done")
            }
            (Load::Client(client), Subject::Real(program, _)) => {
                let socket = program.socket();
                let arguments = client.iter().skip(1).map(|argument| match *argument {
                    "%" => socket.as_os_str(),
                    other => other.as_ref(),
                });
                let name = client.first().context("the client has no name")?;
                let client =
                    Running::start(Command::new(name).args(arguments).stdout(Stdio::null()))?;
                thread::sleep(time);
                drop(client);
                Ok(())
            }
            _ => {
                self.input.write_all(b"go\n")?;
                self.until("done")
            }
        }
    }

    fn until(&mut self, word: &str) -> Result<()> {
        let mut line = String::new();
        while !line.starts_with(word) {
            line.clear();
            if self.output.read_line(&mut line)? == 0 {
                bail!("the program ended before it was {word}");
            }
        }
        Ok(())
    }
}

fn await_socket(socket: &Path) -> Result<()> {
    let begun = Instant::now();
    while let Err(error) = UnixStream::connect(socket) {
        if begun.elapsed() > PATIENCE {
            return Err(error).with_context(|| format!("nobody listens at {}", socket.display()));
        }
        thread::sleep(ROUND);
    }
    Ok(())
}

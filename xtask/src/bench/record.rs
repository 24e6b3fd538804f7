//! Real programs at work → series of their sites, as text in the repository, labelled by what the
//! functions are called; a real program that nobody made leak has no leaks. Judges nothing.

use std::{
    fs,
    io::BufRead,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

use super::readings::Readings;
use super::real_programs::{self, Load};
use super::subject::{Subject, Target};
use crate::{child::Running, command::say, demo, workspace};

/// Programs whose functions are called leak_ or fine_, and how many times as long they work.
const LABELLED: [(&str, u32); 2] = [("labelled", 1), ("behaviours", 5)];

/// Sites in a report: enough for all of a labelled program, and to know those of a real one before
/// they are among its largest.
const LISTED: &str = "150";

/// Records all programs side by side, because they rest most of the time; or only one.
///
/// # Errors
/// When one of them cannot be run or traced.
pub(super) fn record(seconds: u32, only: Option<&str>) -> Result<()> {
    let folder = workspace::root().join("leaktrace/tests/verdicts/recorded");
    fs::create_dir_all(&folder)?;
    let library = real_programs::leaky_library()?;
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    thread::scope(|scope| {
        let mut runs = Vec::new();
        for (name, times) in LABELLED.into_iter().filter(|(name, _)| wanted(name)) {
            let program = super::folder().join(name);
            let source = workspace::root().join(format!("tests/programs/{name}.c"));
            demo::compile(&source, &program)?;
            let file = folder.join(format!("{name}.txt"));
            let seconds = seconds * times;
            runs.push(scope.spawn(move || one(&Subject::Labelled(&program), seconds, &file)));
        }
        // A client without rest would leave no time for the others.
        let rests =
            |program: &&real_programs::RealProgram| !matches!(program.load, Load::Client(_));
        let real = real_programs::ALL.iter().filter(rests);
        for program in real.filter(|program| wanted(program.name)) {
            let file = folder.join(format!("{}-leaky.txt", program.name));
            let library = &library;
            runs.push(
                scope.spawn(move || one(&Subject::Real(program, Some(library)), seconds, &file)),
            );
        }
        for run in runs {
            match run.join() {
                Ok(done) => done?,
                Err(_) => bail!("a recording failed"),
            }
        }
        Ok(())
    })
}

fn one(subject: &Subject<'_>, seconds: u32, file: &Path) -> Result<()> {
    let mut target = Target::start(subject, seconds)?;
    let mut leaktrace = Running::start(
        Command::new(workspace::leaktrace())
            .args(["-p", &target.process.pid().to_string(), "-q", "-i", "1s"])
            .args(["--format", "json", "--sort", "bytes", "--top", LISTED])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let output = leaktrace.0.stdout.take().context("no standard output")?;
    let mut lines = std::io::BufReader::new(output).lines();
    lines.next().context("leaktrace did not start")??;
    let reader = thread::spawn(move || {
        let mut readings = Readings::default();
        for line in lines {
            readings.take(&serde_json::from_str(&line?)?)?;
        }
        anyhow::Ok(readings)
    });
    target.work(subject, seconds)?;
    // SAFETY: kill touches no memory, and the process is our child, not yet reaped.
    unsafe { libc::kill(leaktrace.pid() as libc::pid_t, libc::SIGTERM) };
    let Ok(readings) = reader.join() else {
        bail!("the reader failed");
    };
    leaktrace.0.wait()?;
    let text = readings?.text();
    fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    say(&format!("{}: {} bytes", file.display(), text.len()));
    Ok(())
}

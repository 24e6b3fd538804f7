//! Real programs at work → series of their sites, as text in the repository, labelled by what the
//! functions are called; a real program that nobody made leak has no leaks. Judges nothing.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::BufRead,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::real_programs::{self, Load};
use super::subject::{Subject, Target};
use crate::{child::Running, command::say, demo, workspace};

/// Programs whose functions are called leak_ or fine_.
const LABELLED: [&str; 2] = ["behaviours", "labelled"];

/// Sites of a real program that are kept: those that hold most at the end.
const KEPT_SITES: usize = 5;

/// What is read of a site: bytes and blocks live, bytes and blocks allocated, live bytes by birth.
type Reading = (f64, [u64; 4], Vec<(f64, u64)>);

/// Records all programs side by side: they rest most of the time.
///
/// # Errors
/// When one of them cannot be run or traced.
pub(super) fn record(seconds: u32) -> Result<()> {
    let folder = workspace::root().join("leaktrace/tests/verdicts/recorded");
    fs::create_dir_all(&folder)?;
    let library = real_programs::leaky_library()?;
    thread::scope(|scope| {
        let mut runs = Vec::new();
        for name in LABELLED {
            let program = super::folder().join(name);
            let source = workspace::root().join(format!("tests/programs/{name}.c"));
            demo::compile(&source, &program)?;
            let file = folder.join(format!("{name}.txt"));
            runs.push(scope.spawn(move || one(&Subject::Labelled(&program), seconds, &file)));
        }
        // A client without rest would leave no time for the others.
        let rests =
            |program: &&real_programs::RealProgram| !matches!(program.load, Load::Client(_));
        for program in real_programs::ALL.iter().filter(rests) {
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
            .args(["--format", "json", "--sort", "bytes", "--top", "60"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let output = leaktrace.0.stdout.take().context("no standard output")?;
    let mut lines = std::io::BufReader::new(output).lines();
    lines.next().context("leaktrace did not start")??;
    let reader = thread::spawn(move || lines.collect::<std::io::Result<Vec<String>>>());
    target.work(subject, seconds)?;
    // SAFETY: kill touches no memory, and the process is our child, not yet reaped.
    unsafe { libc::kill(leaktrace.pid() as libc::pid_t, libc::SIGTERM) };
    let Ok(lines) = reader.join() else {
        bail!("the reader failed");
    };
    leaktrace.0.wait()?;
    let text = series(&lines?)?;
    fs::write(file, &text).with_context(|| format!("cannot write {}", file.display()))?;
    say(&format!("{}: {} bytes", file.display(), text.len()));
    Ok(())
}

/// The series of the sites that are kept.
fn series(lines: &[String]) -> Result<String> {
    let mut sites: BTreeMap<String, (String, Vec<Reading>)> = BTreeMap::new();
    let mut largest: Vec<(u64, String)> = Vec::new();
    for line in lines {
        let report: Value = serde_json::from_str(line)?;
        let Some(listed) = report["sites"].as_array() else {
            continue;
        };
        largest.clear();
        for site in listed.iter().filter(|site| site["source"] == "heap") {
            let id = site["id"].as_str().context("no id")?.to_owned();
            largest.push((site["live_bytes"].as_u64().unwrap_or(0), id.clone()));
            let at_s = report["elapsed_s"].as_f64().context("no time")?;
            let known = sites
                .entry(id)
                .or_insert_with(|| (name_of(site), Vec::new()));
            known.1.push((at_s, numbers(site)?, births(site)));
        }
    }
    largest.sort_unstable_by(|a, b| b.cmp(a));
    let largest: Vec<String> = largest
        .into_iter()
        .take(KEPT_SITES)
        .map(|(_, id)| id)
        .collect();
    let mut text = String::new();
    for (id, (name, readings)) in sites {
        let labelled = name.starts_with("leak_") || name.starts_with("fine_");
        if labelled || largest.contains(&id) {
            write_site(&mut text, &name, &readings)?;
        }
    }
    Ok(text)
}

/// The function that says what it does; else the innermost, which says nothing.
fn name_of(site: &Value) -> String {
    let frames = site["frames"].as_array().cloned().unwrap_or_default();
    let functions: Vec<&str> = frames
        .iter()
        .filter_map(|f| f["function"].as_str())
        .collect();
    let says = |name: &&&str| name.starts_with("leak_") || name.starts_with("fine_");
    let name = functions.iter().find(says).or(functions.first());
    name.map_or_else(|| "unnamed".to_owned(), |name| name.replace(' ', "_"))
}

fn numbers(site: &Value) -> Result<[u64; 4]> {
    let number = |key: &str| site[key].as_u64().with_context(|| format!("no {key}"));
    Ok([
        number("live_bytes")?,
        number("live_count")?,
        number("allocated_bytes")?,
        number("allocated_count")?,
    ])
}

fn births(site: &Value) -> Vec<(f64, u64)> {
    let pairs = site["live_bytes_since_s"].as_array();
    let pair = |pair: &Value| Some((pair[0].as_f64()?, pair[1].as_u64()?));
    pairs.into_iter().flatten().filter_map(pair).collect()
}

/// A line for the site; then one for each reading, with the births that have changed since the one
/// before.
fn write_site(text: &mut String, name: &str, readings: &[Reading]) -> Result<()> {
    writeln!(text, "site {name}")?;
    let mut before: Vec<(f64, u64)> = Vec::new();
    for (at_s, [live_bytes, live_count, bytes, count], births) in readings {
        write!(text, "{at_s:.2} {live_bytes} {live_count} {bytes} {count}")?;
        for (since_s, _) in before
            .iter()
            .filter(|(since_s, _)| births.iter().all(|b| b.0 != *since_s))
        {
            write!(text, " {since_s:.1}:0")?;
        }
        for birth in births.iter().filter(|birth| !before.contains(birth)) {
            write!(text, " {:.1}:{}", birth.0, birth.1)?;
        }
        text.push('\n');
        before.clone_from(births);
    }
    Ok(())
}

//! What stands among the first ten of leaktrace's sites and of memleak's stacks, on programs that say
//! in the names of their functions what leaks, and on real ones, healthy and made to leak: how many
//! leaks, and how many sites that do not.

use std::{
    collections::BTreeSet, fs, io::BufRead, os::unix::fs::symlink, process::Stdio, thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::peers::{self, Peers};
use super::real_programs;
use super::subject::{Subject, Target};
use crate::{child::Running, command::say, demo, workspace};

/// Programs whose functions are called leak_ or fine_, and their leaks.
const PROGRAMS: [(&str, usize); 2] = [("behaviours", 4), ("labelled", 4)];

/// The length of a list.
const TOP: usize = 10;

/// memleak 0.31 cuts the name of the object off after 31 bytes.
const LIBC: &str = "./libc";

/// What is listed: functions that leak, and sites of those that do not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    leaks: BTreeSet<String>,
    others: usize,
}

/// Measures and prints the table.
pub(super) fn measure(seconds: u32) -> Result<()> {
    let peers = peers::install()?;
    say(&format!(
        "the first {TOP} after {seconds} s: leaks among them, and sites that do not leak"
    ));
    for (name, leaks) in PROGRAMS {
        let source = workspace::root().join(format!("tests/programs/{name}.c"));
        let program = super::folder().join(name);
        demo::compile(&source, &program)?;
        compare(&peers, name, &Subject::Labelled(&program), leaks, seconds)?;
    }
    let library = real_programs::leaky_library()?;
    for program in &real_programs::ALL {
        let name = program.name;
        compare(&peers, name, &Subject::Real(program, None), 0, seconds)?;
        let leaky = Subject::Real(program, Some(&library));
        compare(&peers, &format!("{name}, leaky"), &leaky, 1, seconds)?;
    }
    Ok(())
}

/// Measures and prints the rows of one program.
fn compare(
    peers: &Peers,
    name: &str,
    subject: &Subject<'_>,
    leaks: usize,
    seconds: u32,
) -> Result<()> {
    let ours = by_leaktrace(subject, seconds);
    let theirs = by_memleak(peers, subject, seconds);
    for (tracer, listed) in [
        ("leaktrace, judged leaking", ours),
        ("memleak-libbpf", theirs),
    ] {
        let said = match listed {
            Ok(listed) => format!(
                "{} of {leaks} leaks, {} others",
                // One leak of a real program has many callers.
                listed.leaks.len().min(leaks),
                listed.others
            ),
            Err(error) => format!("{error:#}"),
        };
        say(&format!("  {name:<20}{tracer:<28}{said}"));
    }
    Ok(())
}

fn by_leaktrace(subject: &Subject<'_>, seconds: u32) -> Result<Listed> {
    let mut target = Target::start(subject, seconds)?;
    let (mut leaktrace, output) = super::overhead::attach_leaktrace(target.process.pid())?;
    target.work(subject, seconds)?;
    // SAFETY: kill touches no memory, and the process is our child, not yet reaped.
    unsafe { libc::kill(leaktrace.pid() as libc::pid_t, libc::SIGTERM) };
    let mut listed = Listed::default();
    for line in output.lines() {
        let report: serde_json::Value = serde_json::from_str(&line?)?;
        let sites = report["sites"].as_array().cloned().unwrap_or_default();
        for site in sites.iter().filter(|site| site["verdict"] == "leaking") {
            let frames = site["frames"].as_array().cloned().unwrap_or_default();
            listed.add(frames.iter().filter_map(|frame| frame["function"].as_str()));
        }
    }
    leaktrace.0.wait()?;
    Ok(listed)
}

fn by_memleak(peers: &Peers, subject: &Subject<'_>, seconds: u32) -> Result<Listed> {
    let mut target = Target::start(subject, seconds)?;
    let link = super::folder().join(LIBC);
    let _ = fs::remove_file(&link);
    symlink(allocator_of(target.process.pid())?, &link)
        .with_context(|| format!("cannot make {}", link.display()))?;
    let output = super::folder().join("memleak.out");
    let memleak = Running::start(
        peers
            .memleak()
            .args(["-p", &target.process.pid().to_string(), "-O", LIBC])
            .args(["-T", &TOP.to_string(), "2"])
            .current_dir(super::folder())
            .stdin(Stdio::null())
            .stdout(fs::File::create(&output)?),
    )?;
    // It says nothing when it is attached.
    thread::sleep(Duration::from_secs(3));
    target.work(subject, seconds)?;
    thread::sleep(Duration::from_secs(5));
    drop(memleak);
    let text = fs::read_to_string(&output)?;
    listed_last(&text).context("does not attach, or lists nothing")
}

/// The library that the program's malloc is in.
fn allocator_of(pid: u32) -> Result<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let paths = || {
        maps.lines()
            .filter_map(|line| line.split_whitespace().nth(5))
    };
    ["/libjemalloc.so", "/libc.so", "/libc-"]
        .iter()
        .find_map(|name| paths().find(|path| path.contains(name)))
        .map(str::to_owned)
        .context("the program has no C library")
}

/// The last whole list of memleak's output: each begins with a time, the last one may be cut.
fn listed_last(text: &str) -> Option<Listed> {
    let lists: Vec<&str> = text
        .split("\n[")
        .filter(|list| list.contains("Top "))
        .collect();
    let list = lists.get(lists.len().checked_sub(2)?)?;
    let mut listed = Listed::default();
    for stack in list.split(" allocations from stack").skip(1) {
        let functions = stack.lines().filter_map(|line| {
            let (_, rest) = line.split_once(">] ")?;
            rest.split_once('+').map(|(function, _)| function)
        });
        listed.add(functions);
    }
    Some(listed)
}

impl Listed {
    /// Counts a stack by the function in it that says what it does.
    fn add<'a>(&mut self, mut functions: impl Iterator<Item = &'a str>) {
        let says = |function: &&str| function.starts_with("leak_") || function.starts_with("fine_");
        match functions.find(says) {
            Some(leak) if leak.starts_with("leak_") => {
                self.leaks.insert(leak.to_owned());
            }
            _ => self.others += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_memleak_is_read() {
        let list = "\n[11:42:54] Top 2 stacks with outstanding allocations:\n\
            1340000 bytes in 1340 allocations from stack\n\
            \t0 [<000055b0399da2fc>] leak_steady+0xe [/a]\n\
            \t1 [<000055b0399da594>] main+0x56 [/a]\n\
            1000000 bytes in 500 allocations from stack\n\
            \t0 [<000055b0399da4e5>] fine_cache+0x17 [/a]\n";
        let listed = listed_last(&format!("Attaching\n{list}{list}[cut")).unwrap_or_default();
        assert_eq!(listed.leaks, BTreeSet::from(["leak_steady".to_owned()]));
        assert_eq!(listed.others, 1);
        assert_eq!(listed_last("nothing"), None);
    }
}

//! What stands among the first ten of leaktrace's sites and of memleak's stacks, on programs that say
//! in the names of their functions what leaks, and on real ones, healthy and made to leak: how many
//! leaks, and how many sites that do not. Of leaktrace, what its text report lists when nothing is said, and
//! what of it is judged leaking.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::symlink,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

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
    /// Of these, those that stand before a leak.
    others_before: usize,
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
    let (printed, judged) = match by_leaktrace(subject, seconds) {
        Ok((printed, judged)) => (Ok(printed), Ok(judged)),
        Err(error) => (Err(anyhow::anyhow!("{error:#}")), Err(error)),
    };
    let theirs = by_memleak(peers, subject, seconds);
    for (tracer, listed) in [
        ("leaktrace, listed", printed),
        ("leaktrace, judged leaking", judged),
        ("memleak-libbpf", theirs),
    ] {
        let said = match listed {
            Ok(listed) => format!(
                "{} of {leaks} leaks, {} others, {} of them before a leak",
                // One leak of a real program has many callers.
                listed.leaks.len().min(leaks),
                listed.others,
                listed.others_before
            ),
            Err(error) => format!("{error:#}"),
        };
        say(&format!("  {name:<20}{tracer:<28}{said}"));
    }
    Ok(())
}

/// What the last report lists, and what of it is judged leaking.
fn by_leaktrace(subject: &Subject<'_>, seconds: u32) -> Result<(Listed, Listed)> {
    let mut target = Target::start(subject, seconds)?;
    let pid = target.process.pid().to_string();
    let mut leaktrace = Running::start(
        Command::new(workspace::leaktrace())
            .args(["-p", &pid])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )?;
    let errors = leaktrace.0.stderr.take().context("no standard error")?;
    let mut errors = BufReader::new(errors);
    let mut line = String::new();
    while !line.contains("tracing") {
        line.clear();
        if errors.read_line(&mut line)? == 0 {
            bail!("leaktrace does not start");
        }
    }
    // Nothing is to wait because nobody reads it.
    let rest = thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let output = leaktrace.0.stdout.take().context("no standard output")?;
    let reports = thread::spawn(move || std::io::read_to_string(output));
    target.work(subject, seconds)?;
    // SAFETY: kill touches no memory, and the process is our child, not yet reaped.
    unsafe { libc::kill(leaktrace.pid() as libc::pid_t, libc::SIGTERM) };
    leaktrace.0.wait()?;
    let failed = |_| anyhow::anyhow!("the output was not read");
    let reports = reports.join().map_err(failed)??;
    rest.join().map_err(failed)??;
    printed_last(&reports).context("there is no report")
}

/// The last report: each of its sites begins with its place.
fn printed_last(text: &str) -> Option<(Listed, Listed)> {
    let report = &text[text.rfind(", final report")?..];
    let (mut printed, mut judged) = (Listed::default(), Listed::default());
    for site in report.split("\n#").skip(1) {
        let (heading, stack) = site.split_once('\n')?;
        // The reason is one line or two, then come the frames.
        let functions = || {
            let words = stack.split_whitespace();
            words.map(|word| word.split('+').next().unwrap_or(word))
        };
        printed.add(functions());
        if heading.contains(" leaking ") {
            judged.add(functions());
        }
    }
    Some((printed, judged))
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
                self.others_before = self.others;
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

    #[test]
    fn a_report_is_read() {
        let text = "pid 7 (a) after 5.0 s, report 1\n\n#1  +9 B/s  leaking  1 B\n    > fine_old  a.c:1\n\
            pid 7 (a) after 9.0 s, final report\n  heap  1 B\n\n\
            #1  +9 B/s  growing  1 B\n      grew in 1 of 2\n    > fine_cache+0x1  a.c:1\n\n\
            #2  +8 B/s  leaking  1 B\n      grew in 2 of 2\n    > leak_steady+0x1  a.c:2\n      main+0x2\n";
        let (printed, judged) = printed_last(text).unwrap_or_default();
        assert_eq!(
            (printed.leaks.len(), printed.others, printed.others_before),
            (1, 1, 1)
        );
        assert_eq!((judged.leaks.len(), judged.others), (1, 0));
        assert_eq!(printed_last("nothing"), None);
    }
}

//! The exit code: what was asked for, what became of the command, and who of both comes first.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use leaktrace_tests::{PATIENCE, Program, Session, Spawned, Tracer, leaktrace};

/// Long enough for a leak to be called one.
const LONG: &str = "14";

/// Leaktrace with a command that needs nobody to speak for it.
fn with_command(options: &[&str], arguments: &[&str]) -> Command {
    let mut command = leaktrace();
    command.args(["--interval", "1s", "--top", "0"]);
    command.args(options).arg("--");
    command.arg(Program::c("ends_after.c").path());
    command.args(arguments);
    command
}

fn traced(options: &[&str], arguments: &[&str]) -> Session {
    let mut all = vec!["--format", "json"];
    all.extend(options);
    Tracer::start(&mut with_command(&all, arguments)).wait()
}

/// Whether a report says that the function leaks.
fn says_leaking(session: &Session) -> bool {
    session.reports.iter().any(|report| {
        let mut sites = report.sites("heap");
        sites.any(|site| site.is_called_by("leaks") && site.0["verdict"] == "leaking")
    })
}

/// A session: options, arguments of the program, the exit code that it has to have.
type Case = (&'static [&'static str], &'static [&'static str], i32);

const ASKED: &[&str] = &["--fail-on-leak"];

#[test]
fn a_leak_is_in_the_exit_code_when_asked_for_unless_the_command_failed_by_itself() {
    const CASES: [Case; 6] = [
        (ASKED, &["leaks", LONG, "0"], 3),
        (ASKED, &["steady", LONG, "0"], 0),
        (&[], &["leaks", LONG, "0"], 0),
        (ASKED, &["leaks", LONG, "7"], 7),
        (ASKED, &["steady", LONG, "7"], 7),
        // What has leaked is replaced by another program.
        (ASKED, &["leaks", LONG, "0", "steady", "2", "0"], 3),
    ];
    // Built once, not by all at the same time.
    Program::c("ends_after.c").path();
    let runs = CASES.map(|case| (case, thread::spawn(move || traced(case.0, case.1))));
    for ((options, arguments, code), run) in runs {
        let session = run.join().expect("a session");
        let is_leak = arguments[0] == "leaks";
        assert_eq!(says_leaking(&session), is_leak, "{arguments:?}");
        assert_eq!(
            session.status.code(),
            Some(code),
            "{options:?} {arguments:?}: {}",
            session.errors
        );
    }
}

#[test]
fn a_leak_of_a_process_that_was_there_before_is_in_the_exit_code() {
    let program = Program::c("ends_after.c").path();
    let cases = [("leaks", 3), ("steady", 0)];
    let runs = cases.map(|(what, _)| {
        let mut target = Spawned::start(Command::new(&program).args([what, LONG, "9"]));
        thread::spawn(move || {
            let mut options = vec!["--interval", "1s"];
            options.extend(ASKED);
            let session = Tracer::attach(target.pid(), &options).wait();
            assert_eq!(target.wait(PATIENCE).code(), Some(9));
            session
        })
    });
    for ((what, code), run) in cases.into_iter().zip(runs) {
        let session = run.join().expect("a session");
        assert_eq!(session.status.code(), Some(code), "{}", session.errors);
        assert_eq!(says_leaking(&session), what == "leaks");
    }
}

/// What had leaked has ended long before the session does.
#[test]
fn what_a_process_was_when_it_ended_stays_while_others_run_on() {
    let program = Program::c("ends_after.c").path();
    let start = |what, seconds| Spawned::start(Command::new(&program).args([what, seconds, "0"]));
    let (leaker, other) = (start("leaks", LONG), start("steady", "32"));
    let mut command = leaktrace();
    let pids = [leaker.pid(), other.pid()].map(|pid| pid.to_string());
    command.args(["--format", "json", "--interval", "1s", "--fail-on-leak"]);
    let session = Tracer::start(command.args(["--pid", &pids[0], "--pid", &pids[1]])).wait();
    let of_leaker = session.reports.iter();
    let of_leaker = of_leaker.filter(|report| report.0["pid"] == leaker.pid());
    let found: Vec<_> = of_leaker
        .filter_map(|report| {
            let site = report
                .sites("heap")
                .find(|site| site.is_called_by("leaks"))?;
            Some((
                site.0["verdict"].clone(),
                site.held(),
                report.0["elapsed_s"].as_f64(),
            ))
        })
        .collect();
    let first = found.iter().position(|(verdict, ..)| verdict == "leaking");
    let later = &found[first.expect("it is to be judged leaking")..];
    assert!(
        later.iter().all(|(verdict, ..)| verdict == "leaking"),
        "{found:?}"
    );
    let last = later.last().expect("a report");
    let same = later.iter().filter(|found| found == &last).count();
    // When it has ended, and when the session does.
    assert_eq!(
        same, 2,
        "the last reading of what has ended is to stay: {found:?}"
    );
    assert_eq!(session.status.code(), Some(3), "{}", session.errors);
}

/// The code of a session whose reader goes away behind the first line, and what it says.
fn code_without_reader(mut command: Command) -> (Option<i32>, String) {
    let errors = leaktrace_tests::scratch();
    let errors = errors.path().join("errors");
    let file = std::fs::File::create(&errors).expect("a file");
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Spawned::start(command.stderr(file));
    let output = process.child_mut().stdout.take().expect("a pipe");
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line);
    assert!(read.is_ok_and(|bytes| bytes > 0), "no line of a report");
    let code = process.wait(PATIENCE).code();
    (code, leaktrace_tests::read(&errors))
}

#[test]
fn the_exit_code_does_not_go_with_the_reader_of_the_reports() {
    Program::c("ends_after.c").path();
    let cases: [Case; 3] = [
        (ASKED, &["leaks", LONG, "0"], 3),
        (&[], &["steady", "4", "7"], 7),
        (ASKED, &["steady", "4", "0"], 0),
    ];
    let runs = cases.map(|(options, arguments, code)| {
        let run = move || code_without_reader(with_command(options, arguments));
        (code, thread::spawn(run))
    });
    for (wanted, run) in runs {
        let (code, errors) = run.join().expect("a session");
        assert_eq!(code, Some(wanted), "{errors}");
        assert!(errors.contains("nobody reads standard output"), "{errors}");
    }
}

#[test]
fn a_session_that_is_only_about_its_reports_ends_with_their_reader() {
    let program = Program::c("ends_after.c").path();
    let mut target = Spawned::start(Command::new(program).args(["steady", "600", "0"]));
    let mut command = leaktrace();
    command.args(["--interval", "300ms", "--pid", &target.pid().to_string()]);
    let (code, errors) = code_without_reader(command);
    assert_eq!(code, Some(0), "{errors}");
    let is_there = !target.ends_within(std::time::Duration::ZERO);
    target.signal(rustix::process::Signal::KILL);
    target.wait(PATIENCE);
    assert!(is_there, "the target was to run on");
}

//! What the user wants to hear of is heard though no report was due: at an exec, at the end of a child, and
//! when it begins.

use leaktrace_tests::{Program, Report, Session, Target, Tracer, leaktrace};

/// So long that there is only the last report of everything.
const NO_REPORT: &[&str] = &["--interval", "10m"];

fn alerts(report: &Report) -> String {
    report.0["alerts"].to_string()
}

/// What was said of it to those who read no report.
fn said(session: &Session, words: &str) -> usize {
    let lines = session.errors.lines();
    lines.filter(|line| line.contains(words)).count()
}

#[test]
fn a_leak_of_a_program_that_has_executed_another_is_said_at_the_exec() {
    let mut command = leaktrace();
    command.args(["--format", "json", "--alert", "leak"]);
    command.args(NO_REPORT).arg("--");
    command.arg(Program::c("ends_after.c").path());
    command.args(["leaks", "14", "0", "steady", "2", "0"]);
    let session = Tracer::start(&mut command).wait();
    let [first, last] = session.reports.as_slice() else {
        panic!("{} reports", session.reports.len());
    };
    assert!(first.0["epoch"].is_null() && last.0["epoch"] == 2);
    assert!(
        alerts(first).contains("judged leaking: leaks with"),
        "{}",
        first.0
    );
    assert!(last.0["alerts"].is_null(), "{}", last.0);
    assert_eq!(said(&session, "newly judged leaking: leaks with"), 1);
}

#[test]
fn what_holds_when_a_child_ends_is_said_with_its_last_report() {
    let mut target = Target::start(&Program::c("peaks.c"), &["child"]);
    let mut options = vec!["--follow-forks", "--alert", "rss>48MiB"];
    options.extend(NO_REPORT);
    let tracer = Tracer::attach(target.pid(), &options);
    let child = target.work().number("child");
    let session = tracer.stop();
    let last_of = |pid: u64| {
        let mut reports = session.reports.iter().rev();
        let report = reports.find(|report| report.0["pid"] == pid);
        report.unwrap_or_else(|| panic!("no report of {pid}: {}", session.errors))
    };
    let report = last_of(child);
    assert!(alerts(report).contains("above 48.0 MiB"), "{}", report.0);
    assert!(last_of(u64::from(target.pid())).0["alerts"].is_null());
    assert_eq!(
        said(&session, &format!("process {child}: resident memory is")),
        1
    );
}

#[test]
fn what_begins_between_two_reports_is_told_at_once() {
    let mut target = Target::start(&Program::c("peaks.c"), &[]);
    let mut options = vec!["--alert", "rss>48MiB"];
    options.extend(NO_REPORT);
    let mut tracer = Tracer::attach(target.pid(), &options);
    target.say("go");
    // No other is due before the test's patience ends.
    let at_once = tracer.next_report();
    assert!(alerts(&at_once).contains("above 48.0 MiB"), "{}", at_once.0);
    target.await_answer(std::time::Duration::ZERO);
    let session = tracer.stop();
    assert_eq!(session.reports.len(), 2);
    assert!(session.final_report().0["alerts"].is_null());
    let begun = format!("process {}: resident memory is", target.pid());
    for words in [&begun, "over: resident memory is not above 48.0 MiB"] {
        assert_eq!(said(&session, words), 1, "{}", session.errors);
    }
}

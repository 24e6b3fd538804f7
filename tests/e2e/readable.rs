//! What a person reads is not drowned: a condition is said when it begins and when it ends, a file that
//! cannot be written once, and a child in which nothing happens in a line.

use std::time::{Duration, Instant};

use leaktrace_tests::{
    PATIENCE, Program, Report, Spawned, Target, Tracer, leaktrace, read, scratch,
};
use rustix::process::Signal;

fn until(tracer: &mut Tracer, is_so: impl Fn(&Report) -> bool) -> Report {
    let begun = Instant::now();
    loop {
        let report = tracer.next_report();
        if is_so(&report) {
            return report;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", report.0);
    }
}

#[test]
fn an_alert_is_said_when_it_begins_and_when_it_ends_and_listed_while_it_holds() {
    let mut target = Target::start(&Program::c("tide.c"), &["64"]);
    let options = ["--interval", "200ms", "--alert", "rss>48MiB"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    let alerts = |report: &Report| report.0["alerts"].as_array().map_or(0, Vec::len);
    until(&mut tracer, |report| alerts(report) == 0);
    for _ in 0..2 {
        target.work();
        until(&mut tracer, |report| alerts(report) == 1);
        for _ in 0..3 {
            assert_eq!(alerts(&tracer.next_report()), 1, "it still holds");
        }
        target.work();
        until(&mut tracer, |report| alerts(report) == 0);
    }
    let session = tracer.stop();
    let said: Vec<&str> = session
        .errors
        .lines()
        .filter(|line| line.contains("resident memory"))
        .collect();
    let is_end = |line: &&str| line.contains("over: ");
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(
        !is_end(&said[0]) && is_end(&said[1]) && !is_end(&said[2]) && is_end(&said[3]),
        "{said:?}"
    );
}

#[test]
fn a_disk_that_is_full_is_said_once_and_is_the_error_of_the_session() {
    for silent in [false, true] {
        let mut target = Target::start(&Program::c("chain.c"), &[]);
        let mut options = vec!["--interval", "200ms", "--folded", "/dev/full"];
        options.extend(silent.then_some("-q"));
        let mut tracer = Tracer::attach(target.pid(), &options);
        target.work();
        for _ in 0..3 {
            tracer.next_report();
        }
        let session = tracer.stop();
        assert_eq!(session.status.code(), Some(1), "{}", session.errors);
        let reason = session.errors.matches("cannot write /dev/full");
        assert_eq!(reason.count(), 1, "{}", session.errors);
        let last = session.errors.lines().last().unwrap_or_default();
        assert!(last.contains("/dev/full"), "{}", session.errors);
    }
}

#[test]
fn children_in_which_nothing_happens_take_a_line_each() {
    const CHILDREN: usize = 12;
    let mut target = Target::start(
        &Program::c("many_children.c"),
        &["3", &CHILDREN.to_string()],
    );
    let directory = scratch();
    let output = directory.path().join("report");
    let mut command = leaktrace();
    command
        .args(["--pid", &target.pid().to_string(), "--follow-forks"])
        .args(["--interval", "200ms", "--output"])
        .arg(&output)
        .stderr(std::process::Stdio::null());
    let mut process = Spawned::start(&mut command);
    let finals = |text: &str| text.matches("final report: ").count();
    let wait = |process: &mut Spawned, is_so: &dyn Fn(&str) -> bool| {
        let begun = Instant::now();
        while !(output.exists() && is_so(&read(&output))) {
            assert!(begun.elapsed() < PATIENCE, "{}", read(&output));
            assert!(!process.ends_within(Duration::from_millis(20)));
        }
    };
    wait(&mut process, &|text| !text.is_empty());
    let truth = target.work();
    wait(&mut process, &|text| finals(text) == CHILDREN);
    process.signal(Signal::INT);
    assert!(process.wait(PATIENCE).success());
    let text = read(&output);
    for child in truth.lines("child") {
        let of_child = format!("pid {} ", child["pid"]);
        let held = format!("{} blocks (", child["count"]);
        let mut lines = text.lines().filter(|line| line.starts_with(&of_child));
        assert!(
            lines.any(|line| line.contains("final report: ") && line.contains(&held)),
            "{child} in {text}"
        );
    }
    let longest = text
        .split("pid ")
        .filter(|report| report.contains("final report: "))
        .map(|report| report.lines().count())
        .max();
    assert!(longest <= Some(2), "{text}");
}

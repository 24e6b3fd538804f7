//! A reader of standard output who stops (a pager) holds up neither the counting nor Ctrl-C.

use leaktrace_tests::{Program, Report, Stalled, Target, assert_totals_are_true};
use rustix::process::Signal;

/// A report of all these sites is larger than a pipe.
const SITES: &str = "2000";

fn stalled(target: &Target) -> Stalled {
    let options = ["--interval", "300ms", "--top", "0"];
    Stalled::attach(target.pid(), &options)
}

#[test]
fn who_reads_on_gets_every_line_and_exact_numbers() {
    let mut target = Target::start(&Program::c("many_sites.c"), &[SITES, "1"]);
    let stalled = stalled(&target);
    target.work();
    stalled.fill();
    let truth = target.answer("stop");
    stalled.signal(Signal::INT);
    stalled.await_message("wait for the reader");
    let (lines, status) = stalled.read_on();
    assert!(status.success());
    let lines: Vec<serde_json::Value> = lines
        .iter()
        .map(|line| match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) => panic!("{line:?} is no JSON: {error}"),
        })
        .collect();
    let (Some(end), reports) = (lines.last(), &lines[..lines.len() - 1]) else {
        panic!("there are no lines");
    };
    assert_eq!(end["kind"], "end");
    for (n, report) in reports.iter().enumerate() {
        assert_eq!(report["seq"], n + 1);
    }
    let Some(last) = reports.last() else {
        panic!("there is no report");
    };
    assert_totals_are_true(&Report(last.clone()), &truth);
}

#[test]
fn who_does_not_is_given_up_at_the_second_signal() {
    let mut target = Target::start(&Program::c("many_sites.c"), &[SITES, "1"]);
    let stalled = stalled(&target);
    target.work();
    stalled.fill();
    stalled.signal(Signal::INT);
    stalled.await_message("wait for the reader");
    stalled.signal(Signal::INT);
    stalled.await_message("the last lines of it are lost");
    assert_eq!(stalled.end().code(), Some(1));
}

//! The end of a session: whoever ends it, there is one final report with names, and a line that
//! says why.

use std::time::Instant;

use leaktrace_tests::{
    MemoryGroup, PATIENCE, Program, Report, Session, Target, Tracer, assert_refused,
    assert_sites_are_true, leaktrace, run, scratch,
};
use rustix::process::Signal;
use serde_json::Value;

fn ended_target(how: &str) -> Session {
    let mut target = Target::start(&Program::c("ends.c"), &[how]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    target.end();
    let session = tracer.wait();
    assert_sites_are_true(session.final_report(), &truth);
    session
}

#[track_caller]
fn assert_exited(session: &Session, code: i32) {
    assert_eq!(session.end["reason"], "target-exited", "{}", session.end);
    assert_eq!(session.end["exit_code"], code, "{}", session.end);
    assert_eq!(session.end["signal"], Value::Null, "{}", session.end);
}

#[track_caller]
fn assert_killed(session: &Session, signal: Signal) {
    assert_eq!(session.end["reason"], "target-killed", "{}", session.end);
    assert_eq!(session.end["signal"], signal.as_raw(), "{}", session.end);
    assert_eq!(session.end["exit_code"], Value::Null, "{}", session.end);
}

#[test]
fn a_target_that_returns_from_main_is_reported_with_code_0() {
    assert_exited(&ended_target("return"), 0);
}

#[test]
fn a_target_that_exits_is_reported_with_its_code() {
    assert_exited(&ended_target("exit"), 3);
    assert_exited(&ended_target("_exit"), 7);
}

#[test]
fn a_target_that_exits_from_another_thread_is_reported_with_its_code() {
    assert_exited(&ended_target("other_thread_exits"), 5);
}

#[test]
fn a_target_whose_main_thread_ends_first_is_traced_to_its_end() {
    assert_exited(&ended_target("main_thread_first"), 5);
}

#[test]
fn a_target_that_aborts_is_reported_with_its_signal() {
    assert_killed(&ended_target("abort"), Signal::ABORT);
    assert_killed(&ended_target("segv"), Signal::SEGV);
}

#[test]
fn a_killed_target_is_reported_with_its_signal_and_names() {
    for signal in [Signal::KILL, Signal::TERM] {
        let mut target = Target::start(&Program::c("ends.c"), &["return"]);
        let tracer = Tracer::attach(target.pid(), &[]);
        let truth = target.work();
        target.signal(signal);
        let session = tracer.wait();
        assert_killed(&session, signal);
        assert_sites_are_true(session.final_report(), &truth);
    }
}

#[test]
fn a_target_that_is_dead_but_not_waited_for_is_noticed() {
    // The zombie stays until the end of this test: nobody reaps it before.
    let mut target = Target::start(&Program::c("ends.c"), &["exit"]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    target.say("end");
    let session = tracer.wait();
    assert_exited(&session, 3);
    assert_sites_are_true(session.final_report(), &truth);
}

#[test]
fn the_end_of_the_duration_ends_the_session() {
    let mut target = Target::start(&Program::c("ends.c"), &["return"]);
    let tracer = Tracer::attach(target.pid(), &["--duration", "2s"]);
    let truth = target.work();
    let session = tracer.wait();
    assert_eq!(session.end["reason"], "duration");
    assert_eq!(session.end["exit_code"], Value::Null);
    assert_sites_are_true(session.final_report(), &truth);
    let elapsed = session.final_report().0["elapsed_s"].as_f64();
    assert!(
        elapsed.is_some_and(|s| (1.9..4.0).contains(&s)),
        "{elapsed:?}"
    );
}

#[test]
fn ctrl_c_and_sigterm_end_the_session_with_a_report() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut target = Target::start(&Program::c("ends.c"), &["return"]);
        let tracer = Tracer::attach(target.pid(), &[]);
        let truth = target.work();
        tracer.signal(signal);
        let session = tracer.wait();
        assert_eq!(session.end["reason"], "interrupted");
        assert_sites_are_true(session.final_report(), &truth);
    }
}

#[test]
fn two_targets_are_reported_each_and_the_session_lasts_as_long_as_one_lives() {
    let mut first = Target::start(&Program::c("ends.c"), &["exit"]);
    let mut second = Target::start(&Program::c("late.c"), &[]);
    let second_pid = second.pid().to_string();
    let tracer = Tracer::attach(first.pid(), &["--pid", &second_pid]);
    let first_truth = first.work();
    first.end();
    let second_truth = second.work();
    tracer.signal(Signal::INT);
    let session = tracer.wait();
    assert!(session.status.success(), "{}", session.errors);
    for (pid, truth) in [(first.pid(), first_truth), (second.pid(), second_truth)] {
        let of_pid = session
            .reports
            .iter()
            .filter(|report| report.0["pid"] == pid);
        let finals: Vec<_> = of_pid.filter(|report| report.is_final()).collect();
        assert_eq!(finals.len(), 1, "one final report of {pid}");
        assert_sites_are_true(finals[0], &truth);
    }
}

#[test]
fn a_target_whose_main_thread_has_ended_is_still_read_and_named() {
    let plugin = Program::c("plugin.c").with(&["-shared", "-fPIC"]).path();
    let mut target = Target::start(&Program::c("headless.c"), &[&plugin.to_string_lossy()]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "300ms"]);
    let truth = target.work();
    tracer.next_report();
    let report = tracer.next_report();
    assert_sites_are_true(&report, &truth);
    assert!(report.0["process"]["rss_bytes"].is_u64(), "{}", report.0);
    let notices = report.0["notices"].to_string();
    assert!(notices.contains("main thread"), "{notices}");
    target.say("end");
    let session = tracer.wait();
    assert_exited(&session, 5);
    assert_sites_are_true(session.final_report(), &truth);
}

#[test]
fn a_target_whose_main_thread_had_ended_before_is_refused() {
    let plugin = Program::c("plugin.c").with(&["-shared", "-fPIC"]).path();
    let mut target = Target::start(&Program::c("headless.c"), &[&plugin.to_string_lossy()]);
    target.work();
    let pid = target.pid().to_string();
    assert_refused(&run(&["--pid", &pid]), &[&pid, "main thread"]);
}

#[test]
fn an_out_of_memory_kill_is_told_from_other_kills_and_the_report_names_the_site() {
    let program = Program::c("out_of_memory.c");
    let group = MemoryGroup::new(48 << 20);
    let mut command = group.command(&program, &[]);
    let mut target = Target::start_command(&mut command);
    let tracer = Tracer::attach(target.pid(), &[]);
    target.say("go");
    let (output, _) = target.end();
    let session = tracer.wait();
    assert_killed(&session, Signal::KILL);
    assert_eq!(session.end["out_of_memory"], true, "{}", session.end);
    let said: u64 = output
        .last()
        .and_then(|line| line.parse().ok())
        .unwrap_or(0);
    let seen = session.final_report().held_by("heap", "takes").count;
    assert!(
        seen == said || seen == said + 1,
        "{seen} blocks, {said} said"
    );
}

/// A program that is dead reaches no limit any more, however soon it was about to.
#[test]
fn after_an_out_of_memory_kill_no_time_is_left() {
    let group = MemoryGroup::new(48 << 20);
    let mut command = group.command(&Program::c("toward_limit.c"), &["4000000", "3"]);
    let mut target = Target::start_command(&mut command);
    let tracer = Tracer::attach(target.pid(), &["--interval", "1s"]);
    target.say("go");
    target.end();
    let session = tracer.wait();
    assert_eq!(session.end["out_of_memory"], true, "{}", session.end);
    let has_time = |report: &Report| report.0["time_left_s"].is_array();
    assert!(session.reports.iter().any(has_time), "it was forecast");
    let last = session.final_report();
    assert!(!has_time(last), "{}", last.0["time_left_s"]);
    assert!(last.0["time_left_until"].is_null());
}

#[test]
fn a_session_that_fails_reports_what_it_had_counted_first() {
    let directory = scratch();
    let fails_when = directory.path().join("now");
    let library = Program::c_of_leaktrace("fails_later.c").with(&["-shared", "-fPIC"]);
    let mut target = Target::start(&Program::c("ends.c"), &["return"]);
    let mut command = leaktrace();
    // With an age the ledger is listed at each reading.
    command
        .args(["--format", "json", "--top", "0", "--older", "1ms"])
        .args(["--interval", "200ms", "--pid", &target.pid().to_string()])
        .env("LD_PRELOAD", library.path())
        .env("FAILS_WHEN", &fails_when);
    let mut tracer = Tracer::start(&mut command);
    let truth = target.work();
    let begun = Instant::now();
    while tracer
        .next_report()
        .held_by("heap", "leak_before_end")
        .count
        < 30
    {
        assert!(begun.elapsed() < PATIENCE, "the blocks are in no report");
    }
    assert!(std::fs::write(&fails_when, "").is_ok());
    let session = tracer.wait();
    assert_eq!(session.status.code(), Some(1), "{}", session.errors);
    let Some(last) = session.reports.last() else {
        panic!("no report: {}", session.errors);
    };
    assert!(last.is_final(), "{}", last.0);
    assert_sites_are_true(last, &truth);
    let notices = last.0["notices"].to_string();
    assert!(notices.contains("ended by a failure"), "{notices}");
    assert!(notices.contains("of the reading before"), "{notices}");
    let said = session.errors.lines().last().unwrap_or_default();
    assert!(said.starts_with("leaktrace: "), "{}", session.errors);
    target.end();
}

//! An allocator that hands out blocks before its probes can be in place: what was not seen is said, in the
//! process and in children that it has forked meanwhile; what comes later is counted.

use std::time::Instant;

use leaktrace_tests::{Held, PATIENCE, Program, Report, Session, Target, Tracer};

const CHILDREN: usize = 4;
const EARLY: Held = Held {
    bytes: 50 * 100,
    count: 50,
};
const LATE: Held = Held {
    bytes: 30 * 100,
    count: 30,
};

fn library() -> &'static str {
    let library = Program::c("late_probes.c").with(&["-DLIBRARY", "-shared", "-fPIC"]);
    Box::leak(library.path().display().to_string().into_boxed_str())
}

/// Whether the report owns up to a gap, with a time and a reason.
fn has_gap(report: &Report) -> bool {
    let has_time = report.0["unseen_s"].as_f64().is_some_and(|s| s > 0.0);
    let notices = report.0["notices"].to_string();
    let has_reason = notices.contains("may not have been seen") || notices.contains("was not seen");
    assert_eq!(has_time, has_reason, "{notices}");
    has_time
}

/// Whether nothing is open of what was handed out first: then the probes are in place.
fn is_settled(report: &Report) -> bool {
    has_gap(report) || report.held_by("heap", "holds_early") == EARLY
}

#[track_caller]
fn assert_true(session: &Session, pid: u64) {
    let mut reports = session.reports.iter();
    let Some(report) = reports.find(|report| report.is_final() && report.0["pid"] == pid) else {
        panic!("no final report of {pid}: {}", session.errors);
    };
    let early = report.held_by("heap", "holds_early");
    let late = report.held_by("heap", "holds_late");
    assert_eq!(late, LATE, "{}", report.0);
    match has_gap(report) {
        true => assert!(early.count <= EARLY.count, "{}", report.0),
        false => assert_eq!(early, EARLY, "{}", report.0),
    }
    assert_eq!(report.lost_from_numbers(), [], "{}", report.0);
}

/// The next report of each of these processes that owns up to a gap, or has all.
fn await_settled(tracer: &mut Tracer, mut open: Vec<u64>) {
    let begun = Instant::now();
    while !open.is_empty() {
        let report = tracer.next_report();
        open.retain(|pid| report.0["pid"] != *pid || !is_settled(&report));
        let is_late = begun.elapsed() > PATIENCE;
        assert!(!is_late, "{open:?} lack blocks, unsaid: {}", report.0);
    }
}

/// The process goes this way, and has these children.
fn assert_children_are_counted_or_the_gap_is_said(way: &str, of: &str) {
    let program = Program::c("late_probes.c").linked(&["-ldl"]);
    let mut target = Target::start(&program, &[way, of]);
    let options = ["--follow-forks", "--interval", "200ms"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    let truth = target.work();
    let children = truth.lines("child").filter_map(|line| line["pid"].as_u64());
    let children: Vec<u64> = children.collect();
    assert_eq!(children.len(), CHILDREN);
    await_settled(&mut tracer, children.clone());
    for _ in 1..CHILDREN {
        target.say("late");
    }
    target.answer("late");
    target.end();
    let session = tracer.wait();
    for child in children {
        assert_true(&session, child);
    }
}

#[test]
fn children_of_a_program_whose_allocator_is_not_found_yet_are_counted_from_then_on() {
    let next = Program::c("late_probes.c").linked(&["-Wl,--no-as-needed", library(), "-ldl"]);
    let next = next.path().display().to_string();
    assert_children_are_counted_or_the_gap_is_said("execute", &next);
    assert_children_are_counted_or_the_gap_is_said("execute-twice", &next);
}

#[test]
fn children_that_are_forked_right_after_an_allocator_was_loaded_are_counted_from_then_on() {
    assert_children_are_counted_or_the_gap_is_said("load", library());
}

#[test]
fn what_an_allocator_hands_out_right_after_it_was_loaded_is_counted_or_said_to_be_unseen() {
    for more in [&[][..], &["--follow-forks"]] {
        let program = Program::c("late_probes.c").linked(&["-ldl"]);
        let mut target = Target::start(&program, &["load-alone", library()]);
        let mut options = vec!["--interval", "200ms"];
        options.extend(more);
        let mut tracer = Tracer::attach(target.pid(), &options);
        target.work();
        await_settled(&mut tracer, vec![u64::from(target.pid())]);
        target.answer("late");
        let pid = u64::from(target.pid());
        target.end();
        assert_true(&tracer.wait(), pid);
    }
}

/// The probes that the allocator had in the program before are gone when the next program loads it.
#[test]
fn an_allocator_that_the_next_program_loads_again_is_counted_or_said_to_be_unseen() {
    for more in [&[][..], &["--follow-forks"]] {
        let program = Program::c("late_probes.c").linked(&["-ldl"]);
        let mut target = Target::start(&program, &["load-and-again", library()]);
        let mut options = vec!["--interval", "200ms"];
        options.extend(more);
        let mut tracer = Tracer::attach(target.pid(), &options);
        let pid = u64::from(target.pid());
        target.work();
        await_settled(&mut tracer, vec![pid]);
        target.say("execute");
        // The second report of the next program: by then its own probes are in place.
        for _ in 0..2 {
            while tracer.next_report().0["epoch"] != 2 {}
        }
        target.work();
        await_settled(&mut tracer, vec![pid]);
        target.answer("late");
        target.end();
        let session = tracer.wait();
        assert_true(&session, pid);
    }
}

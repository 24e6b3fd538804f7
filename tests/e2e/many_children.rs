//! More children and programs, one after the other, than a session has room for at a time: the places
//! of those that have ended are used again, and each is counted as if it were the only one.

use std::collections::HashMap;
use std::time::Instant;

use leaktrace_tests::{PATIENCE, Program, Report, Session, Target, Tracer};
use serde_json::Value;

/// The traced program serves rounds of this many children with this many blocks each. A round begins
/// when all of the one before have had their final reports: what is tested is not how fast they are.
fn serve(blocks: u32, count: u32, children: u32, options: &[&str]) -> (Target, Session) {
    let (blocks, size) = (blocks.to_string(), children.to_string());
    rounds([&blocks, &size], count, children, options)
}

fn rounds(arguments: [&str; 2], count: u32, children: u32, options: &[&str]) -> (Target, Session) {
    let mut target = Target::start(&Program::c("many_children.c"), &arguments);
    let mut all = vec!["--follow-forks"];
    all.extend(options);
    let mut tracer = Tracer::attach(target.pid(), &all);
    for _ in 0..count {
        target.work();
        let (mut ended, begun) = (0, Instant::now());
        while ended < children {
            assert!(
                begun.elapsed() < PATIENCE,
                "{ended} of {children} final reports"
            );
            ended += u32::from(tracer.next_report().is_final());
        }
    }
    target.end();
    (target, tracer.wait())
}

/// The final report of each process.
fn finals(session: &Session) -> HashMap<u64, &Report> {
    let finals = session.reports.iter().filter(|report| report.is_final());
    finals
        .map(|report| (report.0["pid"].as_u64().unwrap_or_default(), report))
        .collect()
}

fn assert_children_are_true(target: &Target, session: &Session, children: usize) {
    let reports = finals(session);
    let truth = target.truth();
    assert_eq!(truth.lines("child").count(), children);
    for child in truth.lines("child") {
        let pid = child["pid"].as_u64().unwrap_or_default();
        let Some(report) = reports.get(&pid) else {
            panic!("no final report of {child}: {}", session.errors);
        };
        assert_eq!(report.lost_from_numbers(), [], "{child}: {}", report.0);
        assert_eq!(child["status"], 0, "{child}");
        let whole = report.held_by_program();
        let told = (child["bytes"].as_u64(), child["count"].as_u64());
        assert_eq!(
            (Some(whole.bytes), Some(whole.count)),
            told,
            "{child}: {}",
            report.0
        );
        assert_eq!(
            Some(report.mapped_bytes()),
            child["mapped"].as_u64(),
            "{child}"
        );
        let holder = child["holder"].as_str().unwrap_or_default();
        if !holder.is_empty() {
            assert_eq!(
                report.held_by("heap", holder).bytes,
                whole.bytes,
                "{}",
                report.0
            );
        }
        assert_eq!(report.total("unmatched_frees"), 0, "{}", report.0);
        assert_eq!(report.0["parent_pid"], u64::from(target.pid()));
    }
    let parent = &reports[&u64::from(target.pid())];
    assert_eq!(parent.lost_from_numbers(), [], "{}", parent.0);
}

#[test]
fn a_server_may_fork_more_children_than_the_table_has_room_for() {
    let (target, session) = serve(20, 14, 50, &[]);
    assert_children_are_true(&target, &session, 700);
}

#[test]
fn what_ended_children_held_makes_room_in_the_ledger_and_among_the_stacks() {
    let small = ["--max-live", "4096", "--max-stacks", "256"];
    let (target, session) = serve(300, 80, 5, &small);
    assert_children_are_true(&target, &session, 400);
}

/// Children that run a program each, as a shell's do, and end as soon as it has allocated.
#[test]
fn a_shell_may_run_more_short_programs_than_the_table_has_room_for() {
    let (target, session) = rounds(["spawn", "50"], 24, 50, &[]);
    let reports = finals(&session);
    let children: Vec<_> = target.truth().lines("child").collect();
    assert_eq!(children.len(), 1200);
    for child in children {
        let report = child["pid"].as_u64().and_then(|pid| reports.get(&pid));
        let Some(report) = report else {
            panic!("no final report of {child}: {}", session.errors);
        };
        assert_eq!(report.loss("process_table_full"), 0, "{}", report.0);
        assert_spawned(report, child);
    }
    let parent = &reports[&u64::from(target.pid())];
    assert_eq!(parent.lost_from_numbers(), [], "{}", parent.0);
}

/// The program of a child was counted from its first allocation to its end.
#[track_caller]
fn assert_spawned(report: &Report, child: &Value) {
    assert_eq!(child["status"], 0, "{child}");
    let whole = report.held_by_program();
    let told = (child["bytes"].as_u64(), child["count"].as_u64());
    assert_eq!(report.0["epoch"], 2, "{}", report.0);
    assert_eq!((Some(whole.bytes), Some(whole.count)), told, "{}", report.0);
    // Nobody could look at where its code lies.
    let losses = report.losses();
    assert!(
        losses.iter().all(|(why, _)| *why == "stack_truncated"),
        "{losses:?}"
    );
    let notices = report.0["notices"].to_string();
    for wrong in ["no allocation functions", "was not seen"] {
        assert!(!notices.contains(wrong), "{}", report.0);
    }
}

/// The same without a pause: leaktrace has to make room as fast as they come. Where a machine is too slow
/// for that, every child that has no report is said to be lost, and so is every program that is missing in
/// the report of one.
#[test]
fn of_a_storm_of_short_children_each_is_reported_or_said_to_be_lost() {
    const CHILDREN: u64 = 1200;
    let count = CHILDREN.to_string();
    let mut target = Target::start(&Program::c("many_children.c"), &["spawn", &count]);
    let tracer = Tracer::attach(target.pid(), &["--follow-forks", "--interval", "1h"]);
    let truth = target.work();
    target.end();
    let session = tracer.wait();
    let reports = finals(&session);
    let parent = reports[&u64::from(target.pid())];
    let (mut counted, mut without_program, mut unreported) = (0, 0, 0);
    for child in truth.lines("child") {
        match child["pid"].as_u64().and_then(|pid| reports.get(&pid)) {
            None => unreported += 1,
            Some(report) if report.loss("process_table_full") == 0 => {
                assert_spawned(report, child);
                counted += 1;
            }
            // There was no place for its program: what is reported is the child before it.
            Some(report) => {
                let whole = report.held_by_program();
                assert_eq!((whole.bytes, whole.count), (0, 0), "{}", report.0);
                without_program += 1;
            }
        }
    }
    eprintln!("{counted} counted, {without_program} without their program, {unreported} lost");
    assert_eq!(counted + without_program + unreported, CHILDREN);
    let lost = parent.loss("process_table_full");
    assert_eq!(lost, unreported, "{}", parent.0);
    // On a machine with two busy cores none was lost; without making room on the way, three quarters were.
    assert!(counted >= CHILDREN / 2, "{}", parent.0);
}

#[test]
fn a_stranger_that_gets_the_id_of_a_child_that_has_ended_is_not_taken_for_it() {
    let program = Program::c("many_children.c");
    let mut target = Target::start(&program, &["20", "1"]);
    let mut tracer = Tracer::attach(target.pid(), &["--follow-forks", "--interval", "200ms"]);
    let truth = target.work();
    while !tracer.next_report().is_final() {}
    let child = truth.lines("child").next().map(|line| line["pid"].clone());
    let child = child.unwrap_or_default();
    // It allocates what would be seen, and ends.
    let mut stranger = std::process::Command::new(Program::c("at_pid.c").path());
    stranger.arg(child.to_string()).arg(program.path());
    stranger.args(["epoch", "0"]);
    assert_eq!(leaktrace_tests::run_to_end(&mut stranger).code, Some(0));
    tracer.next_report();
    target.end();
    let session = tracer.wait();
    let of_child = session.reports.iter().filter(|r| r.0["pid"] == child);
    assert_eq!(of_child.filter(|report| report.is_final()).count(), 1);
    for report in &session.reports {
        assert_eq!(
            report.held_by("heap", "epoch_holds").count,
            0,
            "{}",
            report.0
        );
    }
    let of_child = session.targets.iter().filter(|t| t["pid"] == child);
    assert_eq!(of_child.count(), 2, "fork and exit: {:?}", session.targets);
}

/// Four hundred programs in a row, fifty at a time without a pause. Without inherited probes those may be
/// counted late, which is said then.
#[test]
fn a_process_may_run_more_programs_than_the_table_has_room_for() {
    const PROGRAMS: u64 = 400;
    for options in [&[][..], &["--follow-forks"]] {
        let count = PROGRAMS.to_string();
        let mut target = Target::start(&Program::c("many_children.c"), &["exec", &count]);
        let mut all = vec!["--max-live", "4096", "--interval", "200ms"];
        all.extend(options);
        let mut tracer = Tracer::attach(target.pid(), &all);
        for round in 0..=PROGRAMS / 50 {
            target.work();
            let begun = Instant::now();
            let last = round * 50 + 1;
            let reached = |report: &Report| match last {
                1 => report.0["epoch"].is_null(),
                _ => report.0["epoch"] == last && is_counted_or_said(report, options, last),
            };
            while !reached(&tracer.next_report()) {
                assert!(begun.elapsed() < PATIENCE, "program {last} is in no report");
            }
        }
        target.end();
        let session = tracer.wait();
        assert_eq!(session.final_report().0["epoch"], PROGRAMS + 1);
        let mut by_epoch: HashMap<u64, &Report> = HashMap::new();
        for report in &session.reports {
            by_epoch.insert(report.0["epoch"].as_u64().unwrap_or(1), report);
        }
        for epoch in 1..=PROGRAMS + 1 {
            let Some(report) = by_epoch.get(&epoch) else {
                panic!("no report of program {epoch}");
            };
            assert!(is_counted_or_said(report, options, epoch), "{}", report.0);
            for loss in ["process_table_full", "live_map_full"] {
                assert_eq!(report.loss(loss), 0, "{}", report.0);
            }
        }
    }
}

/// Whether all that this one of 401 programs has allocated is there, or else that it was counted late.
fn is_counted_or_said(report: &Report, options: &[&str], epoch: u64) -> bool {
    let whole = report.held_by_program();
    let is_exact = (whole.count, whole.bytes) == (7, 7 * (1000 + 401 - epoch));
    is_exact || options.is_empty() && report.0["unseen_s"].as_f64().is_some()
}

//! More children and programs, one after the other, than a session has room for at a time: the places
//! of those that have ended are used again, and each is counted as if it were the only one.

use std::collections::HashMap;
use std::time::Instant;

use leaktrace_tests::{PATIENCE, Program, Report, Session, Target, Tracer};

/// The traced program serves rounds of this many children with this many blocks each. A round begins
/// when all of the one before have had their final reports: what is tested is not how fast they are.
fn serve(blocks: u32, rounds: u32, children: u32, options: &[&str]) -> (Target, Session) {
    let arguments = [blocks.to_string(), children.to_string()];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut target = Target::start(&Program::c("many_children.c"), &arguments);
    let mut all = vec!["--follow-forks"];
    all.extend(options);
    let mut tracer = Tracer::attach(target.pid(), &all);
    for _ in 0..rounds {
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
        assert_eq!(report.losses(), [], "{child}: {}", report.0);
        assert_eq!(child["status"], 0, "{child}");
        let whole = (report.total("live_bytes"), report.total("live_count"));
        let told = (child["bytes"].as_u64(), child["count"].as_u64());
        assert_eq!(
            (Some(whole.0), Some(whole.1)),
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
                whole.0,
                "{}",
                report.0
            );
        }
        assert_eq!(report.total("unmatched_frees"), 0, "{}", report.0);
        assert_eq!(report.0["parent_pid"], u64::from(target.pid()));
    }
    let parent = &reports[&u64::from(target.pid())];
    assert_eq!(parent.losses(), [], "{}", parent.0);
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

/// What a shell does with short commands: 1,200 children in a row, two programs each, that nobody waits
/// with. Leaktrace has to make room as fast as they come; where a machine is too slow for that, every child
/// that has no report is said to be lost, and so is every program that is missing in the report of one.
#[test]
fn of_a_storm_of_short_children_each_is_reported_or_said_to_be_lost() {
    const CHILDREN: usize = 1200;
    let count = CHILDREN.to_string();
    let mut target = Target::start(&Program::c("many_children.c"), &["spawn", &count]);
    let tracer = Tracer::attach(target.pid(), &["--follow-forks", "--interval", "1h"]);
    let truth = target.work();
    target.end();
    let session = tracer.wait();
    let reports = finals(&session);
    let parent = reports[&u64::from(target.pid())];
    let mut unreported = 0;
    let children: Vec<_> = truth.lines("child").collect();
    assert_eq!(children.len(), CHILDREN);
    for child in children {
        assert_eq!(child["status"], 0, "{child}");
        let Some(report) = child["pid"].as_u64().and_then(|pid| reports.get(&pid)) else {
            unreported += 1;
            continue;
        };
        let told = |name: &str| child[name].as_u64();
        let seen = |name: &str| Some(report.total(name));
        let whole = (seen("live_bytes"), seen("live_count"));
        match report.loss("process_table_full") {
            0 => {
                assert_eq!(report.0["epoch"], 2, "{}", report.0);
                assert_eq!(whole, (told("bytes"), told("count")), "{}", report.0);
            }
            // There was no place for its program: what is reported is the child before it.
            _ => assert_eq!(whole, (Some(0), Some(0)), "{}", report.0),
        }
        // Nobody could look at where its code lies.
        let losses = report.losses();
        let others = losses.iter().map(|(why, _)| *why);
        let allowed = ["stack_truncated", "process_table_full"];
        assert!(
            others.into_iter().all(|why| allowed.contains(&why)),
            "{losses:?}"
        );
    }
    assert_eq!(
        parent.loss("process_table_full"),
        unreported,
        "{}",
        parent.0
    );
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

/// Four hundred programs in a row, none of which waits. Without inherited probes the last one may be
/// counted late, which is said then.
#[test]
fn a_process_may_run_more_programs_than_the_table_has_room_for() {
    for options in [&[][..], &["--follow-forks"]] {
        let mut target = Target::start(&Program::c("many_children.c"), &["exec", "400"]);
        let mut all = vec!["--max-live", "4096", "--interval", "200ms"];
        all.extend(options);
        let mut tracer = Tracer::attach(target.pid(), &all);
        target.work();
        let is_exact = |report: &Report| {
            let seen = report.held_by("heap", "epoch_holds");
            (seen.count, seen.bytes) == (7, 7 * 1000)
        };
        let is_late =
            |report: &Report| options.is_empty() && report.0["unseen_s"].as_f64().is_some();
        // On a busy machine the programs may come faster than leaktrace makes room, and then it says
        // that what is not counted is not; but more of them than the table has places came before.
        let ran_ahead = |report: &Report| {
            let is_said = report.loss("process_table_full") > 0;
            assert!(
                !is_said || report.0["epoch"].as_u64() > Some(256),
                "{}",
                report.0
            );
            is_said
        };
        let begun = Instant::now();
        loop {
            let report = tracer.next_report();
            let reached = report.0["epoch"] == 401 && (is_exact(&report) || is_late(&report));
            if reached || ran_ahead(&report) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{}", report.0);
        }
        target.end();
        let session = tracer.wait();
        let report = session.final_report();
        if ran_ahead(report) {
            continue;
        }
        assert_eq!(report.0["epoch"], 401);
        assert!(is_exact(report) || is_late(report), "{}", report.0);
        assert_eq!(report.loss("live_map_full"), 0, "{}", report.0);
    }
}

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

#[test]
fn a_process_may_run_more_programs_than_the_table_has_room_for() {
    for options in [&[][..], &["--follow-forks"]] {
        let mut target = Target::start(&Program::c("many_children.c"), &["exec", "400"]);
        let mut all = vec!["--max-live", "1024", "--interval", "200ms"];
        all.extend(options);
        let mut tracer = Tracer::attach(target.pid(), &all);
        target.work();
        // Done, with what it has allocated seen: the reports tell of each program before.
        while tracer.next_report().held_by("heap", "epoch_holds").bytes != 7 * 1000 {}
        target.end();
        let session = tracer.wait();
        let report = session.final_report();
        assert_eq!(report.0["epoch"], 401);
        assert_eq!(report.losses(), [], "{}", report.0);
        let seen = report.held_by("heap", "epoch_holds");
        assert_eq!((seen.count, seen.bytes), (7, 7 * 1000));
    }
}

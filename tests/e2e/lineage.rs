//! A process that forks, spawns and executes: each part of it is counted on its own, from its first
//! allocation on.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use leaktrace_tests::{
    Held, PATIENCE, Program, Report, Session, Target, Tracer, leaktrace_of_commands, preload,
    root_of_targets,
};
use rustix::process::Signal;

const PARENT: Held = held(10, 100);
/// What a parent of children holds in the end, before and after them.
const PARENT_OF_CHILDREN: Held = Held {
    bytes: 10 * 100 + 9 * 90,
    count: 19,
};
const CHILD: Held = held(7, 77);
const GRANDCHILD: Held = held(5, 55);
const NEXT: Held = held(20, 500);

const fn held(count: u64, bytes: u64) -> Held {
    Held {
        bytes: count * bytes,
        count,
    }
}

fn program() -> Program {
    Program::c("lineage.c")
}

/// Runs the program under leaktrace to its end.
fn trace(what: &str, options: &[&str]) -> (u32, Session) {
    let mut target = Target::start(&program(), &[what]);
    let pid = target.pid();
    let tracer = Tracer::attach(pid, options);
    target.say("go");
    target.end();
    (pid, tracer.wait())
}

/// The same for what runs another program: it may end once that program has been looked at.
fn trace_until_named(what: &str, options: &[&str], caller: &str) -> (u32, Session) {
    let mut target = Target::start(&program(), &[what]);
    let pid = target.pid();
    let mut all = vec!["--interval", "200ms"];
    all.extend(options);
    let mut tracer = Tracer::attach(pid, &all);
    target.say("go");
    let begun = Instant::now();
    while tracer.next_report().held_by("heap", caller).count == 0 {
        assert!(begun.elapsed() < PATIENCE, "{caller} is in no report");
    }
    target.end();
    (pid, tracer.wait())
}

/// The last report about this function's process, and what the function holds in it.
#[track_caller]
fn last_of<'a>(session: &'a Session, caller: &str) -> (&'a Report, Held) {
    let mut reports = session.reports.iter().rev();
    let found = reports.find(|report| report.held_by("heap", caller).count > 0);
    let report = found.unwrap_or_else(|| panic!("{caller} is in no report: {:?}", session.reports));
    (report, report.held_by("heap", caller))
}

#[track_caller]
fn assert_no_losses(session: &Session) {
    for report in &session.reports {
        assert_eq!(report.lost_from_numbers(), [], "{}", report.0);
    }
}

#[test]
fn a_child_is_not_counted_unless_asked_for() {
    let (pid, session) = trace("fork", &[]);
    assert!(session.reports.iter().all(|report| report.0["pid"] == pid));
    let (report, parent) = last_of(&session, "parent_holds");
    assert_eq!(parent, PARENT);
    assert_eq!(report.held_by_program(), PARENT_OF_CHILDREN, "{}", report.0);
    assert_no_losses(&session);
}

#[test]
fn children_and_their_children_are_counted_each_on_its_own() {
    let (pid, session) = trace("fork", &["--follow-forks"]);
    let (report, parent) = last_of(&session, "parent_holds");
    assert_eq!(parent, PARENT);
    assert_eq!(report.held_by_program(), PARENT_OF_CHILDREN, "{}", report.0);
    assert_eq!(report.0["pid"], pid);
    let (report, child) = last_of(&session, "child_holds");
    assert_eq!(
        (child, report.held_by_program()),
        (CHILD, CHILD),
        "{}",
        report.0
    );
    assert_eq!(report.0["parent_pid"], pid);
    assert!(report.is_final(), "a child's last report is its final one");
    let (report, grandchild) = last_of(&session, "grandchild_holds");
    assert_eq!(
        (grandchild, report.held_by_program()),
        (GRANDCHILD, GRANDCHILD)
    );
    // Final reports come in the order in which ends are noticed, which need not be that of the forks.
    let of_final = |caller: &str, field: &str| -> BTreeSet<u64> {
        let reports = session.reports.iter().filter(|report| report.is_final());
        let reports = reports.filter(|report| report.held_by("heap", caller).count > 0);
        reports
            .filter_map(|report| report.0[field].as_u64())
            .collect()
    };
    let children = of_final("child_holds", "pid");
    assert_eq!(children.len(), 2);
    assert_eq!(of_final("grandchild_holds", "parent_pid"), children);
    assert_no_losses(&session);
}

/// What a child grows by is counted from its fork on, not from the beginning of the session, in which it
/// was not there.
#[test]
fn a_child_that_is_forked_late_grows_at_its_own_rate() {
    assert_late_child_grows_at_its_own_rate(Duration::ZERO);
}

/// Nor from when leaktrace comes to notice it, which on a machine that is too busy can be seconds later.
#[test]
fn a_child_that_is_noticed_late_grows_at_its_own_rate() {
    assert_late_child_grows_at_its_own_rate(Duration::from_secs(2));
}

fn assert_late_child_grows_at_its_own_rate(noticed_after: Duration) {
    let mut target = Target::start(&program(), &["fork-late"]);
    let options = ["--follow-forks", "--interval", "500ms", "--churn"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    target.say("go");
    while tracer.next_report().0["elapsed_s"].as_f64() < Some(6.0) {}
    if !noticed_after.is_zero() {
        tracer.signal(Signal::STOP);
    }
    target.say("fork");
    if !noticed_after.is_zero() {
        std::thread::sleep(noticed_after);
        tracer.signal(Signal::CONT);
    }
    let told = target.await_answer(PATIENCE).number("child_bytes_per_s") as f64;
    target.end();
    let session = tracer.wait();
    // Later, it may have leaked all that it will.
    let midway = session.reports.iter().find(|report| {
        let blocks = report.held_by("heap", "late_child_leaks").count;
        (400..600).contains(&blocks)
    });
    let report = midway.expect("a report on the child while it leaks");
    let mut sites = report.sites("heap");
    let site = sites.find(|site| site.is_called_by("late_child_leaks"));
    let growth = site.and_then(|site| site.0["growth_bytes_per_s"].as_f64());
    let growth = growth.expect("a rate");
    assert!((growth / told - 1.0).abs() < 0.1, "{growth}, not {told}");
    let churn = report.0["churn"][0]["bytes_per_s"].as_f64();
    let churn = churn.expect("a rate of what it allocates");
    assert!((churn / told - 1.0).abs() < 0.1, "{churn}, not {told}");
}

#[test]
fn a_spawned_program_is_counted_from_its_first_allocation() {
    let (pid, session) = trace_until_named("spawn", &["--follow-forks"], "next_program_holds");
    let (report, next) = last_of(&session, "next_program_holds");
    assert_eq!(
        (next, report.held_by_program()),
        (NEXT, NEXT),
        "{}",
        report.0
    );
    assert_eq!(report.0["parent_pid"], pid);
    let (report, parent) = last_of(&session, "parent_holds");
    assert_eq!(
        (parent, report.held_by_program()),
        (PARENT, PARENT),
        "{}",
        report.0
    );
    assert_no_losses(&session);
}

/// A child in its parent's memory (vfork, or clone with CLONE_VM) that runs on, and comes to be a process
/// of its own after its parent has executed a program.
#[test]
fn a_child_that_its_parent_has_left_behind_by_an_exec_is_counted() {
    let options = ["--follow-forks"];
    let (pid, session) = trace_until_named("exec-past-clone", &options, "left_behind_holds");
    let (report, child) = last_of(&session, "left_behind_holds");
    assert_eq!(
        (child, report.held_by_program()),
        (held(8, 88), held(8, 88))
    );
    assert_eq!(report.0["parent_pid"], pid, "{}", report.0);
    let (report, next) = last_of(&session, "next_program_holds");
    assert_eq!(
        (next, report.held_by_program()),
        (NEXT, NEXT),
        "{}",
        report.0
    );
    assert!(!session.errors.contains("not known"), "{}", session.errors);
    assert_no_losses(&session);
}

/// The kernel may take the child's probes with the thread that made it; so it is always said that the
/// program may have run without.
#[test]
fn a_vfork_child_that_an_exec_has_left_behind_is_followed_and_its_gap_is_said() {
    let mut target = Target::start(&program(), &["exec-past-vfork"]);
    let options = ["--follow-forks", "--interval", "200ms"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    target.say("go");
    let begun = Instant::now();
    let child = loop {
        let report = tracer.next_report();
        if report.0["parent_pid"] == target.pid() && !report.0["unseen_s"].is_null() {
            break report;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "no report of the child says so: {}",
            report.0
        );
    };
    let seen = child.held_by("heap", "left_behind_holds");
    assert!(seen == held(8, 88) || seen.bytes < 8 * 88, "{}", child.0);
    target.end();
    let session = tracer.wait();
    let (report, next) = last_of(&session, "next_program_holds");
    assert_eq!(
        (next, report.held_by_program()),
        (NEXT, NEXT),
        "{}",
        report.0
    );
    assert!(!session.errors.contains("not known"), "{}", session.errors);
}

#[test]
fn an_exec_begins_an_epoch_that_holds_nothing_of_the_one_before() {
    for options in [&[][..], &["--follow-forks"]] {
        let (pid, session) = trace_until_named("exec", options, "next_program_holds");
        let (before, parent) = last_of(&session, "parent_holds");
        assert_eq!(
            (parent, before.held_by_program()),
            (PARENT, PARENT),
            "{}",
            before.0
        );
        assert!(before.0["epoch"].is_null() && !before.is_final());
        let (after, next) = last_of(&session, "next_program_holds");
        assert_eq!((next, after.held_by_program()), (NEXT, NEXT), "{}", after.0);
        assert_eq!(
            (&after.0["epoch"], &after.0["pid"]),
            (&2.into(), &pid.into())
        );
        assert!(after.is_final() && after.0["unseen_s"].is_null());
        assert_eq!(session.end["exit_code"], 4, "{}", session.end);
        assert_no_losses(&session);
    }
}

/// What was not seen is said, and what comes later is counted.
fn assert_gap_is_said(arguments: &[&str], options: &[&str]) {
    let mut target = Target::start(&program(), arguments);
    let mut all = vec!["--interval", "100ms"];
    all.extend(options);
    let mut tracer = Tracer::attach(target.pid(), &all);
    target.say("go");
    while tracer.next_report().0["unseen_s"].is_null() {}
    target.say("more");
    while tracer.next_report().held_by("heap", "late_holds").count == 0 {}
    target.end();
    let session = tracer.wait();
    let report = session.reports.last().expect("a report");
    assert_eq!(report.held_by("heap", "late_holds"), held(6, 66));
    assert_eq!(report.0["epoch"], 2);
    assert!(report.0["unseen_s"].as_f64().is_some_and(|s| s > 0.0));
    let notices = report.0["notices"].to_string();
    assert!(notices.contains("was not seen"), "{notices}");
    assert_eq!(last_of(&session, "parent_holds").1, PARENT);
}

#[test]
fn what_a_program_with_another_allocator_did_first_is_said_to_be_unseen() {
    let other = Program::c("lineage.c").with(&["-static"]);
    let other = other.path().display().to_string();
    assert_gap_is_said(&["exec-other", &other], &[]);
    assert_gap_is_said(&["exec-other", &other], &["--follow-forks"]);
}

/// The kernel closes perf events at such an exec that the process has from its parent.
#[test]
fn what_a_program_that_its_user_may_not_read_did_first_is_said_to_be_unseen() {
    let root = root_of_targets();
    let directory = tempfile::tempdir_in(root.join("tmp")).expect("a directory");
    let guarded = directory.path().join("guarded");
    std::fs::copy(program().path(), &guarded).expect("a copy");
    for (path, mode) in [(directory.path(), 0o755), (&guarded, 0o711)] {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("permissions");
    }
    let inside = guarded.strip_prefix(&root).expect("a path in the root");
    let guarded = format!("/{}", inside.display());
    let mut target = Target::start(&program(), &["fork-guarded", &guarded]);
    let options = ["--follow-forks", "--interval", "200ms"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    target.say("go");
    let begun = Instant::now();
    let mut next = |is_wanted: &dyn Fn(&Report) -> bool| loop {
        let report = tracer.next_report();
        if report.0["epoch"] == 2 && is_wanted(&report) {
            break report;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", report.0);
    };
    let first = next(&|report| !report.0["unseen_s"].is_null());
    // On a busy machine the program may have been looked at before it began to allocate. Nothing is counted
    // twice, by a probe that it has inherited and by one of its own.
    let seen = first.held_by("heap", "next_program_holds");
    assert!(seen.count <= NEXT.count, "{}", first.0);
    let notices = first.0["notices"].to_string();
    assert!(notices.contains("set-uid"), "{notices}");
    target.say("more");
    let late = next(&|report| report.held_by("heap", "late_holds").count >= 6);
    assert_eq!(late.held_by("heap", "late_holds"), held(6, 66));
    target.end();
    tracer.wait();
}

#[test]
fn a_program_that_another_thread_has_executed_is_counted_late_and_that_is_said() {
    assert_gap_is_said(&["exec-by-thread"], &[]);
}

/// The whole life of the last program, which has ended when leaktrace looks: no longer than all of it took,
/// though leaktrace comes a second later.
#[test]
fn what_a_program_did_that_ended_before_it_was_looked_at_is_said_to_be_unseen() {
    let other = Program::c("lineage.c").with(&["-static"]);
    let other = other.path().display().to_string();
    for options in [&[][..], &["--follow-forks"]] {
        let mut target = Target::start(&program(), &["exec-brief", &other]);
        let tracer = Tracer::attach(target.pid(), options);
        tracer.signal(Signal::STOP);
        let begun = Instant::now();
        target.say("go");
        assert_eq!(target.end().1.code(), Some(6));
        let took = begun.elapsed();
        std::thread::sleep(Duration::from_secs(1));
        tracer.signal(Signal::CONT);
        let session = tracer.wait();
        let report = session.final_report();
        assert_eq!(report.0["epoch"], 2, "{}", report.0);
        let unseen = report.0["unseen_s"].as_f64();
        assert!(
            unseen.is_some_and(|s| 0.0 < s && s <= took.as_secs_f64()),
            "{unseen:?} of {took:?}: {}",
            report.0
        );
        let notices = report.0["notices"].to_string();
        assert!(notices.contains("was not seen"), "{notices}");
        assert!(!notices.contains("no allocation functions"), "{notices}");
        assert_eq!(session.end["exit_code"], 6, "{}", session.end);
        assert_eq!(last_of(&session, "parent_holds").1, PARENT);
    }
}

fn leaktrace_runs(arguments: &[&str], command: &[&str]) -> Session {
    let mut all = leaktrace_of_commands();
    preload(&mut all);
    all.args(["--format", "json", "--top", "0"])
        .args(arguments)
        .arg("--")
        .args(command)
        .env("LINEAGE_CONSTRUCTOR", "1");
    Tracer::start(&mut all).wait()
}

#[test]
fn a_command_is_traced_from_the_constructors_of_its_libraries_on() {
    let program = program();
    let session = leaktrace_runs(&[], &[program.path().to_str().expect("a name"), "nothing"]);
    let report = session.reports.last().expect("a report");
    assert_eq!(report.held_by("heap", "constructor_holds"), held(3, 111));
    assert_eq!(report.held_by("heap", "parent_holds"), PARENT);
    assert_eq!(report.held_by_program().count, 13, "{}", report.0);
    assert_eq!(session.status.code(), Some(5), "{}", session.errors);
    assert_eq!(session.end["exit_code"], 5, "{}", session.end);
    assert_no_losses(&session);
}

#[test]
fn what_cannot_be_started_is_said_in_a_line() {
    let missing = leaktrace_tests::run(&["--", "/no/such/program"]);
    leaktrace_tests::assert_refused(&missing, &["/no/such/program", "no such program"]);
}

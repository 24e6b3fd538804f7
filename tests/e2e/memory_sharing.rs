//! A process in the memory of the traced one: the kernel shows leaktrace nothing of what it does. That is said,
//! and with `--follow-forks` it is counted.

use leaktrace_tests::{
    Held, Program, Session, Target, Tracer, Truth, assert_nothing_lost, assert_sites_are_true,
};

fn trace(when: &str, options: &[&str]) -> (Session, Truth) {
    let mut target = Target::start(&Program::c("shares_memory.c"), &[when]);
    let mut all = vec!["--interval", "500ms"];
    all.extend(options);
    let mut tracer = Tracer::attach(target.pid(), &all);
    let truth = target.work();
    // A child that was there before is asked for once more at the first reading.
    tracer.next_report();
    tracer.next_report();
    let session = tracer.stop();
    target.end();
    (session, truth)
}

/// What the reports and standard error say of the process.
fn is_said(session: &Session, sharer: u64) -> (bool, bool) {
    let words = format!("process {sharer} runs in the memory of this one");
    let notices = session.final_report().0["notices"].to_string();
    (notices.contains(&words), session.errors.contains(&words))
}

#[test]
fn a_process_in_the_memory_of_the_target_is_said_not_to_be_counted() {
    for when in ["before", "after"] {
        let (session, truth) = trace(when, &[]);
        assert_sites_are_true(session.final_report(), &truth);
        let unseen = session.final_report().held_by("heap", "sharer_holds");
        assert_eq!(unseen, Held::default(), "it is counted after all");
        let said = is_said(&session, truth.number("sharer"));
        assert_eq!(said, (true, true), "{when}: {}", session.errors);
    }
}

#[test]
fn a_process_in_the_memory_of_the_target_is_counted_when_forks_are_followed() {
    // Its threads end without it.
    for when in ["after", "threads"] {
        let (session, truth) = trace(when, &["--follow-forks"]);
        let held = Held {
            bytes: truth.number("sharer_bytes"),
            count: truth.number("sharer_count"),
        };
        let report = session.final_report();
        assert_eq!(report.held_by("heap", "sharer_holds"), held, "{}", report.0);
        assert_sites_are_true(report, &truth);
        assert_nothing_lost(report);
        assert_eq!(is_said(&session, truth.number("sharer")), (false, false));
    }
}

#[test]
fn children_that_run_another_program_at_once_are_not_said_to_be_in_its_memory() {
    let (session, truth) = trace("moment", &[]);
    assert_sites_are_true(session.final_report(), &truth);
    let notices = session.final_report().0["notices"].to_string();
    assert!(!notices.contains("in the memory of this one"), "{notices}");
    assert!(
        !session.errors.contains("in the memory of this one"),
        "{}",
        session.errors
    );
}

//! Every byte and every block: what leaktrace reports is what the program knows about itself.

use leaktrace_tests::{
    Program, Target, Traced, Tracer, assert_nothing_lost, assert_sites_are_true,
    assert_totals_are_true, trace,
};

fn assert_exact(traced: &Traced) {
    assert_sites_are_true(&traced.report, &traced.truth);
    assert_totals_are_true(&traced.report, &traced.truth);
    assert_nothing_lost(&traced.report);
}

#[test]
fn each_allocation_function_holds_exactly_what_leaked_through_it() {
    assert_exact(&trace(&Program::c("each_function.c"), &["leak"]));
}

#[test]
fn the_programs_run_with_the_c_library_that_is_meant() {
    // Set together with the root that they run in.
    let Some(version) = std::env::var_os("LEAKTRACE_TARGET_GLIBC") else {
        return;
    };
    let traced = trace(&Program::c("each_function.c"), &["leak"]);
    let told = traced
        .truth
        .lines("text")
        .find(|line| line["name"] == "glibc");
    let told = told.and_then(|line| line["value"].as_str());
    assert_eq!(told, version.to_str());
}

#[test]
fn what_is_freed_again_is_not_live() {
    let traced = trace(&Program::c("each_function.c"), &["no_leak"]);
    assert_exact(&traced);
    assert_eq!(traced.report.total("live_count"), 0);
    assert_eq!(traced.report.sites("heap").count(), 0);
}

#[test]
fn two_threads_at_once_leak_800_000_bytes_in_200_000_blocks() {
    let traced = trace(&Program::c("thread_leaks.c"), &["2", "100000", "4"]);
    assert_exact(&traced);
    assert_eq!(traced.report.total("live_bytes"), 800_000);
    assert_eq!(traced.report.total("live_count"), 200_000);
}

#[test]
fn thirty_threads_of_new_and_delete_leave_nothing_live() {
    let traced = trace(&Program::cpp("new_delete.cc"), &[]);
    assert_exact(&traced);
    assert_eq!(traced.report.total("live_bytes"), 0);
}

#[test]
fn blocks_freed_by_other_threads_are_not_live() {
    assert_exact(&trace(&Program::c("cross_free.c"), &[]));
}

#[test]
fn a_hundred_threads_leak_exactly() {
    assert_exact(&trace(
        &Program::c("thread_leaks.c"),
        &["100", "1000", "24"],
    ));
}

#[test]
fn blocks_from_before_the_attach_are_counted_as_unmatched_frees() {
    let traced = trace(&Program::c("late.c"), &[]);
    assert_exact(&traced);
    assert_eq!(traced.report.total("unmatched_frees"), 100);
}

#[test]
fn threads_busy_during_the_attach_leave_nothing_live() {
    let mut target = Target::start(&Program::c("churn.c"), &["32"]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "500ms"]);
    tracer.next_report();
    tracer.next_report();
    let truth = target.answer("stop");
    let session = tracer.stop();
    assert_totals_are_true(session.final_report(), &truth);
    assert!(session.final_report().total("allocated_count") > 1000);
    assert_nothing_lost(session.final_report());
}

#[test]
fn reports_follow_the_interval_and_count_up() {
    let mut target = Target::start(&Program::c("each_function.c"), &["leak"]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    let before = tracer.next_report();
    assert_eq!(before.total("live_count"), 0, "nothing has happened yet");
    let truth = target.work();
    assert_totals_are_true(&tracer.report_of(&truth), &truth);
    let session = tracer.stop();
    session.final_report();
    for (number, report) in (1..).zip(&session.reports) {
        assert_eq!(report.0["seq"], number);
        assert_eq!(report.0["pid"], target.pid());
    }
}

//! Two leaktraces on one target: both are right, and the end of one does not disturb the other.

use leaktrace_tests::{
    Program, Target, Tracer, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true,
};

#[test]
fn two_leaktraces_on_one_target_are_both_right() {
    let mut target = Target::start(&Program::c("each_function.c"), &["leak"]);
    let first = Tracer::attach(target.pid(), &[]);
    let second = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    for tracer in [first, second] {
        let session = tracer.stop();
        assert_sites_are_true(session.final_report(), &truth);
        assert_totals_are_true(session.final_report(), &truth);
        assert_nothing_lost(session.final_report());
    }
}

#[test]
fn a_leaktrace_that_ends_does_not_disturb_the_other() {
    let mut target = Target::start(&Program::c("each_function.c"), &["leak"]);
    let first = Tracer::attach(target.pid(), &[]);
    let second = Tracer::attach(target.pid(), &[]);
    first.stop().final_report();
    let truth = target.work();
    let session = second.stop();
    assert_sites_are_true(session.final_report(), &truth);
    assert_totals_are_true(session.final_report(), &truth);
}

#[test]
fn two_leaktraces_see_the_threads_of_one_target_alike() {
    let mut target = Target::start(&Program::c("thread_leaks.c"), &["4", "10000", "8"]);
    let first = Tracer::attach(target.pid(), &[]);
    let second = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    for tracer in [first, second] {
        let session = tracer.stop();
        assert_sites_are_true(session.final_report(), &truth);
        assert_totals_are_true(session.final_report(), &truth);
    }
}

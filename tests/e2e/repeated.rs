//! Exactness is no luck: 20 runs in a row without one deviation.

use leaktrace_tests::{
    Program, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true, trace,
};

fn stays_exact_for_20_runs(program: &Program, arguments: &[&str]) {
    for run in 1..=20 {
        eprintln!("run {run}");
        let traced = trace(program, arguments);
        assert_sites_are_true(&traced.report, &traced.truth);
        assert_totals_are_true(&traced.report, &traced.truth);
        assert_nothing_lost(&traced.report);
    }
}

#[test]
fn each_allocation_function_is_exact_20_times() {
    stays_exact_for_20_runs(&Program::c("each_function.c"), &["leak"]);
}

#[test]
fn two_threads_are_exact_20_times() {
    stays_exact_for_20_runs(&Program::c("thread_leaks.c"), &["2", "100000", "4"]);
}

#[test]
fn thirty_threads_of_new_and_delete_are_exact_20_times() {
    stays_exact_for_20_runs(&Program::cpp("new_delete.cc"), &[]);
}

#[test]
fn frees_by_other_threads_are_exact_20_times() {
    stays_exact_for_20_runs(&Program::c("cross_free.c"), &[]);
}

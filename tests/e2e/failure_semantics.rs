//! Allocations that fail, that are never returned from, and that belong to another process.

use leaktrace_tests::{
    Program, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true, trace,
};

#[test]
fn failed_allocations_hold_nothing_and_failed_realloc_keeps_the_old_block() {
    let traced = trace(&Program::c("realloc_cases.c"), &[]);
    assert_sites_are_true(&traced.report, &traced.truth);
    assert_totals_are_true(&traced.report, &traced.truth);
    assert_nothing_lost(&traced.report);
}

#[test]
fn calls_that_never_return_do_not_poison_the_next_ones_and_are_counted() {
    let program = Program::c("abandoned_calls.c");
    let library = program.clone().with(&["-DLIBRARY", "-shared", "-fPIC"]);
    let path = library.path();
    let path = path.display().to_string();
    for arguments in [&[][..], &[path.as_str()]] {
        let traced = trace(&program, arguments);
        for (caller, held) in traced.truth.sites() {
            assert_eq!(traced.report.held_by("heap", &caller), held, "{caller}");
        }
        let abandoned = traced.truth.number("abandoned");
        assert_eq!(traced.report.loss("call_abandoned"), abandoned);
    }
}

#[test]
fn a_forked_child_changes_nothing_that_its_parent_holds() {
    let traced = trace(&Program::c("forks.c"), &[]);
    assert_eq!(traced.truth.number("child_status"), 0);
    assert_sites_are_true(&traced.report, &traced.truth);
    assert_totals_are_true(&traced.report, &traced.truth);
    assert_nothing_lost(&traced.report);
}

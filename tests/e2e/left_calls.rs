//! Allocation calls that a thread leaves from the inside, by cancellation or by a jump: what it held
//! stays, and what it or the next thread of its id does is counted.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use leaktrace_tests::{Program, Report, Target, Tracer, Truth};

/// Traces the program of threads that are cancelled inside calls.
fn cancelled_inside(what: &str, options: &[&str]) -> (Report, Truth) {
    let library = Program::c("slow_allocator.c").with(&["-shared", "-fPIC"]);
    let program = Program::c("cancelled_inside.c");
    let mut command = program.command();
    command.arg(what).env("LD_PRELOAD", library.path());
    let mut target = Target::start_command(&mut command);
    let tracer = Tracer::attach(target.pid(), options);
    let truth = target.work();
    let report = tracer.stop().final_report().clone();
    assert!(target.end().1.success(), "the program has survived");
    assert_eq!(truth.number("cancelled"), 48);
    assert!(truth.number("ids_used_again") > 0, "no id was used again");
    // Each of them left one call for good, and nothing else was lost.
    let abandoned = [("call_abandoned", 48)];
    assert_eq!(report.lost_from_numbers(), abandoned, "{}", report.0);
    (report, truth)
}

#[test]
fn threads_that_are_cancelled_inside_malloc_and_realloc_lose_nothing_but_these_calls() {
    let (report, truth) = cancelled_inside("heap", &[]);
    for (caller, held) in truth.sites() {
        assert_eq!(report.held_by("heap", &caller), held, "{caller}");
    }
}

#[test]
fn threads_that_are_cancelled_inside_a_pair_lose_nothing_but_these_calls() {
    let pair = "slow_alloc(0)/slow_free(0)/slow_realloc(0,1)";
    let (report, truth) = cancelled_inside("pair", &["--pair", pair]);
    let held = &report.0["pairs"][0];
    let of = |caller: &str| {
        let sites = truth.sites();
        let found = sites.iter().find(|(site, _)| site == caller);
        found.expect("a site of the truth").1
    };
    let (leaked, old) = (of("leak_before"), of("hold_for_realloc"));
    assert_eq!(held["live_bytes"], leaked.bytes + old.bytes, "{held}");
    assert_eq!(held["live_count"], leaked.count + old.count, "{held}");
    assert_eq!(held["unmatched_frees"], 0, "{held}");
    let cleanup = of("leak_in_cleanup");
    assert_eq!(report.held_by("heap", "leak_in_cleanup"), cleanup);
}

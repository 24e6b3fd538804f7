//! With every map too small for the program: what is reported and what is said to be lost add up to
//! the truth, and nothing drifts afterwards.

use leaktrace_tests::{Program, trace_with};

#[test]
fn blocks_that_do_not_fit_are_lost_by_count() {
    let arguments = ["4", "5000", "16"];
    let options = ["--max-live", "1000"];
    let traced = trace_with(&Program::c("thread_leaks.c"), &arguments, &options);
    let live = traced.report.total("live_count");
    let lost = traced.report.loss("live_map_full");
    assert!(lost > 0);
    assert!(live > 0);
    assert_eq!(live + lost, traced.truth.number("live_count"));
    assert_eq!(traced.report.total("live_bytes"), live * 16);
}

#[test]
fn a_full_map_of_blocks_does_not_let_totals_drift() {
    let options = ["--max-live", "16"];
    let traced = trace_with(&Program::cpp("new_delete.cc"), &[], &options);
    let report = &traced.report;
    assert_eq!(report.total("live_bytes"), 0);
    assert_eq!(report.total("live_count"), 0);
    let calls = report.total("allocated_count") + report.loss("live_map_full");
    assert_eq!(calls, traced.truth.number("allocated_count"));
}

#[test]
fn reallocs_in_a_full_map_add_up() {
    let traced = trace_with(
        &Program::c("each_function.c"),
        &["leak"],
        &["--max-live", "20"],
    );
    let report = &traced.report;
    let calls = report.total("allocated_count") + report.loss("live_map_full");
    assert_eq!(calls, traced.truth.number("allocated_count"));
    let live = report.total("allocated_count") - report.total("freed_count");
    assert_eq!(live, report.total("live_count"));
    assert!(report.total("live_count") <= traced.truth.number("live_count"));
}

#[test]
fn blocks_whose_stack_does_not_fit_are_still_counted() {
    let arguments = ["500", "4", "still"];
    let options = ["--max-stacks", "100"];
    let traced = trace_with(&Program::c("many_sites.c"), &arguments, &options);
    let report = &traced.report;
    assert_eq!(
        report.total("live_bytes"),
        traced.truth.number("live_bytes")
    );
    assert_eq!(
        report.total("live_count"),
        traced.truth.number("live_count")
    );
    let (mut with_stack, mut without_stack) = (0, 0);
    for site in report.sites("heap") {
        match site.frames().len() {
            0 => without_stack += site.held().count,
            _ => with_stack += site.held().count,
        }
    }
    assert!(with_stack > 0);
    assert_eq!(without_stack, report.loss("stack_map_full"));
    assert_eq!(
        with_stack + without_stack,
        traced.truth.number("live_count")
    );
}

#[test]
fn calls_of_threads_without_a_slot_are_lost_by_count() {
    let arguments = ["8", "1000", "32"];
    let options = ["--max-pending", "1"];
    let traced = trace_with(&Program::c("thread_leaks.c"), &arguments, &options);
    let live = traced.report.total("live_count");
    let lost = traced.report.loss("pending_map_full");
    assert!(lost > 0);
    assert_eq!(live + lost, traced.truth.number("live_count"));
    assert_eq!(traced.report.total("live_bytes"), live * 32);
}

/// What is lost is the new block; the old one is gone all the same, and its address is soon another's.
#[test]
fn a_realloc_without_a_slot_takes_its_old_block_along() {
    let traced = trace_with(&Program::c("starved.c"), &[], &["--max-pending", "1"]);
    let (report, truth) = (&traced.report, &traced.truth);
    let lost = truth.number("without_a_place");
    // Mappings that an allocator makes inside such a call are lost with it.
    let mut losses = report.lost_from_numbers();
    losses.retain(|(reason, _)| *reason != "event_lost");
    assert_eq!(losses, [("pending_map_full", lost)]);
    for (caller, held) in truth.sites() {
        assert_eq!(report.held_by("heap", &caller), held, "{}", report.0);
    }
    let live: u64 = truth.sites().iter().map(|(_, held)| held.count).sum();
    assert_eq!(report.total("live_count"), live);
    let unmatched = report.total("unmatched_frees");
    assert_eq!(unmatched, truth.number("freed_of_these"));
}

#[test]
fn mappings_that_did_not_fit_into_the_buffer_are_said_to_be_lost() {
    let options = ["--event-buffer", "4096"];
    let traced = trace_with(&Program::c("map_storm.c"), &[], &options);
    let truth = traced.truth.number("mapped_bytes");
    let lost = traced.report.loss("event_lost");
    assert!(
        lost > 0 || traced.report.mapped_bytes() == truth,
        "{} bytes instead of {truth}, and nothing lost",
        traced.report.mapped_bytes()
    );
}

/// What the kernel still maps is read when something was lost: a page of a mapping keeps no other alive.
#[test]
fn after_lost_events_nothing_counts_that_is_not_mapped() {
    let options = ["--event-buffer", "4096"];
    let traced = trace_with(&Program::c("map_storm.c"), &["tails"], &options);
    let seen = traced.report.mapped_bytes();
    let truth = traced.truth.number("mapped_bytes");
    let lost = traced.report.loss("event_lost");
    assert!(
        seen == truth || lost > 0 && seen < truth,
        "{seen} of {truth}, {lost} lost"
    );
}

#[test]
fn mappings_whose_stack_does_not_fit_are_still_counted() {
    let traced = trace_with(&Program::c("mmap_cases.c"), &[], &["--max-stacks", "1"]);
    assert!(traced.report.loss("stack_map_full") > 0);
    assert_eq!(
        traced.report.mapped_bytes(),
        traced.truth.number("mapped_bytes")
    );
}

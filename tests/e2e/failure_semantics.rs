//! Allocations that fail, that are never returned from, and that belong to another process; allocators that
//! the kernel will not have probed.

use std::time::Instant;

use leaktrace_tests::{
    Frame, PATIENCE, Program, Site, Target, Traced, Tracer, assert_nothing_lost,
    assert_sites_are_true, assert_totals_are_true, path_text, trace, trace_with,
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

/// A call inside a mapping function is part of it only if it maps: what it allocates is the program's.
#[test]
fn what_is_allocated_inside_mmap_is_counted() {
    let program = Program::c("maps_with_records.c");
    let flags = ["-DLIBRARY", "-shared", "-fPIC", "-Wl,-Bsymbolic"];
    let path = program.clone().with(&flags).path();
    for options in [&[][..], &["--mmap-syscalls"]] {
        let traced = trace_with(&program, &[path_text(&path)], options);
        let Traced { report, truth, .. } = &traced;
        assert_sites_are_true(report, truth);
        assert_totals_are_true(report, truth);
        let mapped = report.held_by("mmap", "map_and_keep").bytes;
        assert_eq!(mapped, truth.number("map_and_keep"), "{}", report.0);
        assert_eq!(report.mapped_bytes(), mapped);
        assert_eq!(report.loss("call_abandoned"), truth.number("left"));
        // The stack leads on through the mapping function.
        let mut records = report
            .sites("heap")
            .filter(|site| site.is_called_by("note_in_record"));
        let callers = |site: &Site<'_>| site.frames().iter().filter_map(Frame::function).count();
        assert!(records.all(|site| callers(&site) > 3), "{}", report.0);
    }
}

/// A handler that maps is no part of the call of mmap that it interrupts, which is given up, and counted.
#[test]
fn what_a_handler_maps_that_interrupts_mmap_is_counted() {
    let program = Program::c("maps_in_handler.c");
    let flags = ["-DLIBRARY", "-shared", "-fPIC"];
    let path = program.clone().with(&flags).path();
    let Traced { report, truth, .. } = trace(&program, &[path_text(&path)]);
    let mapped = report.held_by("mmap", "map_in_handler").bytes;
    assert_eq!(mapped, truth.number("map_in_handler"), "{}", report.0);
    // The others were interrupted before they had begun, or behind their end.
    let abandoned = report.loss("call_abandoned");
    assert!(abandoned > 0 && abandoned <= truth.number("interrupted"));
}

/// Nothing else is left out of the reports for it.
#[test]
fn a_late_allocator_of_which_every_probe_is_refused_is_said_in_the_reports() {
    let program = Program::c("refused_library.c");
    let flags = ["-DLIBRARY", "-shared", "-fPIC"];
    let path = program.clone().with(&flags).path();
    let mut target = Target::start(&program, &[path_text(&path)]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    let truth = target.work();
    let begun = Instant::now();
    let report = loop {
        let report = tracer.next_report();
        if report.0["notices"].to_string().contains("is not counted: ") {
            break report;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", report.0);
    };
    let notices = report.0["notices"].to_string();
    assert!(notices.contains("je_malloc"), "{notices}");
    assert!(notices.contains("je_free"), "{notices}");
    let session = tracer.stop();
    assert_sites_are_true(session.final_report(), &truth);
    assert!(session.errors.contains("refused"), "{}", session.errors);
}

//! Mappings that a program makes itself: whole, cut, covered, moved.

use std::process::Command;

use leaktrace_tests::{
    Program, Report, Target, Tracer, assert_nothing_lost, assert_totals_are_true, leaktrace, trace,
    trace_with,
};

#[test]
fn live_mappings_are_what_the_kernel_still_has_mapped() {
    for options in [&[][..], &["--mmap-syscalls"]] {
        let traced = trace_with(&Program::c("mmap_cases.c"), &[], options);
        for (caller, held) in traced.truth.sites() {
            let seen = traced.report.held_by("mmap", &caller);
            assert_eq!(seen.bytes, held.bytes, "{caller}: {}", traced.report.0);
        }
        let moved = traced.report.held_by("mmap", "move_and_grow").bytes
            + traced.report.held_by("mmap", "map_to_be_moved").bytes;
        assert_eq!(moved, traced.truth.number("moved_bytes"));
        assert_eq!(
            traced.report.mapped_bytes(),
            traced.truth.number("mapped_bytes")
        );
        assert_totals_are_true(&traced.report, &traced.truth);
        assert_nothing_lost(&traced.report);
    }
}

#[test]
fn mappings_that_shrink_move_over_others_fail_to_and_go_by_the_dozen_are_exact() {
    for options in [&[][..], &["--mmap-syscalls"]] {
        let traced = trace_with(&Program::c("remap_cases.c"), &[], options);
        let of = |caller: &str| traced.report.held_by("mmap", caller).bytes;
        for (caller, held) in traced.truth.sites() {
            assert_eq!(of(&caller), held.bytes, "{caller}: {}", traced.report.0);
        }
        let moving = of("shrink") + of("map_what_moves") + of("move_over");
        assert_eq!(moving, traced.truth.number("moving_bytes"));
        let mapped = traced.truth.number("mapped_bytes");
        assert_eq!(traced.report.mapped_bytes(), mapped);
        // Huge pages, where the kernel has them.
        let reserved = &traced.report.0["mapped"]["reserved_bytes"];
        assert_eq!(*reserved, traced.truth.number("reserved_bytes"));
        assert_nothing_lost(&traced.report);
    }
}

#[test]
fn what_is_used_of_addresses_set_aside_is_not_only_reserved() {
    let traced = trace(&Program::c("commits.c"), &[]);
    let report = &traced.report;
    assert_eq!(report.mapped_bytes(), traced.truth.number("mapped_bytes"));
    let reserved = &report.0["mapped"]["reserved_bytes"];
    assert_eq!(*reserved, traced.truth.number("reserved_bytes"));
    // All that the program uses is in its mappings.
    let untracked = report.0["process"]["growth_by_kind"]["untracked_anonymous_bytes"].as_i64();
    assert!(
        untracked.is_some_and(|bytes| bytes.abs() < 1 << 20),
        "{}",
        report.0
    );
    assert_nothing_lost(report);
}

#[test]
fn twenty_thousand_mappings_in_a_row_are_all_seen() {
    let traced = trace(&Program::c("map_storm.c"), &[]);
    for (caller, held) in traced.truth.sites() {
        assert_eq!(traced.report.held_by("mmap", &caller), held);
    }
    assert_nothing_lost(&traced.report);
}

#[test]
fn no_mmap_leaves_mappings_out_and_blocks_in() {
    let traced = trace_with(&Program::c("realloc_cases.c"), &[], &["--no-mmap"]);
    assert_eq!(traced.report.sites("mmap").count(), 0);
    assert_totals_are_true(&traced.report, &traced.truth);
    let traced = trace_with(&Program::c("mmap_cases.c"), &[], &["--no-mmap"]);
    assert_eq!(traced.report.0["sites"], serde_json::json!([]));
}

/// The same as the first test, of a program that goes without the C library's functions.
fn assert_mappings_are_true(program: &Program, options: &[&str]) {
    let traced = trace_with(program, &[], options);
    for (caller, held) in traced.truth.sites() {
        let seen = traced.report.held_by("mmap", &caller);
        assert_eq!(seen.bytes, held.bytes, "{caller}: {}", traced.report.0);
    }
    assert_eq!(
        traced.report.mapped_bytes(),
        traced.truth.number("mapped_bytes"),
        "{}",
        traced.report.0
    );
    assert_totals_are_true(&traced.report, &traced.truth);
    assert_nothing_lost(&traced.report);
}

#[test]
fn the_data_segment_is_a_mapping_when_the_program_moves_its_end() {
    assert_mappings_are_true(&Program::c("own_mappings.c"), &[]);
    // Calls of the functions are not counted twice.
    assert_mappings_are_true(&Program::c("own_mappings.c"), &["--mmap-syscalls"]);
}

/// There the kernel's page for return probes lies below the stack, whose usual place it has.
#[test]
fn addresses_that_are_not_random_change_nothing() {
    let usual = Program::c("own_mappings.c").command();
    let mut command = Command::new("setarch");
    command
        .arg("-R")
        .arg(usual.get_program())
        .args(usual.get_args());
    let mut target = Target::start_command(&mut command);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    let report = session.final_report();
    for (caller, held) in truth.sites() {
        assert_eq!(
            report.held_by("mmap", &caller).bytes,
            held.bytes,
            "{caller}"
        );
    }
    assert_totals_are_true(report, &truth);
    assert_nothing_lost(report);
}

#[test]
fn system_calls_of_the_programs_own_are_mappings() {
    let program = Program::c("own_mappings.c").with(&["-DRAW_CALLS"]);
    assert_mappings_are_true(&program, &["--mmap-syscalls"]);
}

#[test]
fn system_calls_of_a_static_program_are_mappings() {
    let program = Program::c("own_mappings.c").with(&["-DRAW_CALLS", "-static"]);
    assert_mappings_are_true(&program, &[]);
}

#[test]
fn a_program_without_symbols_is_counted_by_its_system_calls() {
    let flags = ["-static", "-DRAW_CALLS", "-DALLOCATES", "-s"];
    let traced = trace(&Program::c("own_mappings.c").with(&flags), &[]);
    assert_eq!(
        traced.report.mapped_bytes(),
        traced.truth.number("grown_bytes"),
        "{}",
        traced.report.0
    );
    assert_nothing_lost(&traced.report);
}

#[test]
fn what_the_runtime_of_go_maps_is_counted() {
    let mut target = Target::start(&Program::go("go_heap.go"), &[]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let least = target.answer("go").number("at_least_bytes");
    let session = tracer.stop();
    let most = target.answer("again").number("at_most_bytes");
    let report = session.final_report();
    let reserved = report.0["mapped"]["reserved_bytes"].as_u64();
    let usable = report.mapped_bytes() - reserved.unwrap_or_default();
    assert!(least > 200 << 20);
    // What the runtime may map for itself around the work.
    assert!(most - least < 1 << 20, "{least} {most}");
    assert!(
        (least..=most).contains(&usable),
        "{usable} is not between {least} and {most}"
    );
}

#[test]
fn an_arena_that_is_made_inside_free_is_no_mapping_of_the_program() {
    let traced = trace(&Program::c("frees_first.c"), &[]);
    assert_eq!(traced.truth.number("arenas"), 1, "glibc made no arena");
    for (caller, held) in traced.truth.sites() {
        assert_eq!(traced.report.held_by("heap", &caller), held);
    }
    let reserved = traced.report.0["mapped"]["reserved_bytes"].as_u64();
    assert!(
        reserved <= Some(traced.report.mapped_bytes()),
        "{}",
        traced.report.0
    );
    for site in traced.report.sites("mmap") {
        let frames = site.0["frames"].to_string();
        assert!(frames.contains("pthread_create"), "{frames}");
    }
}

#[test]
fn shared_segments_are_mappings_of_whoever_attaches_them() {
    let program = Program::c("shared_segments.c");
    let raw = program.clone().with(&["-DRAW_CALLS"]);
    assert_segments_are_true(&program, &[]);
    assert_segments_are_true(&program, &["--mmap-syscalls"]);
    assert_segments_are_true(&raw, &["--mmap-syscalls"]);
}

#[test]
fn shared_segments_are_mappings_of_a_static_program_too() {
    let program = Program::c("shared_segments.c").with(&["-DRAW_CALLS", "-static"]);
    assert_segments_are_true(&program, &[]);
}

#[track_caller]
fn assert_segments_are_true(program: &Program, options: &[&str]) {
    let traced = trace_with(program, &[], options);
    let report = &traced.report;
    for (caller, held) in traced.truth.sites() {
        let seen = report.held_by("mmap", &caller);
        assert_eq!(seen.bytes, held.bytes, "{caller}: {}", report.0);
    }
    assert_eq!(report.mapped_bytes(), traced.truth.number("mapped_bytes"));
    assert_eq!(often(report), traced.truth.number("often"));
    assert_nothing_lost(report);
}

fn often(report: &Report) -> u64 {
    let sites = report.sites("mmap");
    let sites = sites.filter(|site| site.is_called_by("attach_and_detach_often"));
    sites.map(|site| site.allocated_count()).sum()
}

/// A kernel that cannot be asked at once how long a segment is: that is read off the mappings a moment
/// later, and what is gone by then is said to be lost.
#[test]
fn segments_that_nobody_could_measure_are_counted_as_lost() {
    for arguments in [&[][..], &["often"]] {
        let mut target = Target::start(&Program::c("shared_segments.c"), arguments);
        let mut command = leaktrace();
        command.args(["--format", "json", "--top", "0", "--pid"]);
        command.arg(target.pid().to_string());
        let tracer = Tracer::start(command.env("LEAKTRACE_KERNEL_LACKS", "bpf_find_vma"));
        let truth = target.work();
        let session = tracer.stop();
        let report = session.final_report();
        for (caller, held) in truth.sites() {
            let seen = report.held_by("mmap", &caller);
            assert_eq!(seen.bytes, held.bytes, "{caller}: {}", report.0);
        }
        let lost = report.loss("length_unknown");
        assert_eq!(report.lost_from_numbers().len(), usize::from(lost > 0));
        if !arguments.is_empty() {
            assert_eq!(often(report) + lost, truth.number("often"));
        }
    }
}

#[test]
fn what_failed_calls_take_away_and_what_grows_by_itself_is_read_off_the_mappings() {
    for options in [&[][..], &["--mmap-syscalls"]] {
        let traced = trace_with(&Program::c("replaced.c"), &[], options);
        for (caller, held) in traced.truth.sites() {
            let seen = traced.report.held_by("mmap", &caller);
            assert_eq!(seen.bytes, held.bytes, "{caller}: {}", traced.report.0);
        }
        let mapped = traced.truth.number("mapped_bytes");
        assert_eq!(traced.report.mapped_bytes(), mapped);
        assert!(traced.truth.number("grown_by") > 0, "nothing has grown");
        assert_nothing_lost(&traced.report);
    }
}

//! Libraries that take each other's place: what was counted in the code of one never gets the names of
//! the other.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use leaktrace_tests::{Held, Program, Report, Target, Tracer};

const ONE: [&str; 4] = ["-shared", "-fPIC", "-DSUFFIX=alpha", "-DBYTES=111"];
const OTHER: [&str; 4] = ["-shared", "-fPIC", "-DSUFFIX=beta_", "-DBYTES=222"];

const fn held(bytes: u64, count: u64) -> Held {
    Held { bytes, count }
}

/// What is held by frames that are said to be in code of two libraries.
fn held_by_either(report: &Report) -> Held {
    let either = report.sites("heap").filter(|site| {
        let frames = site.frames();
        let first = frames.first();
        first.is_some_and(|frame| {
            frame.function().is_none() && frame.module() == Some("[replaced code]")
        })
    });
    either.fold(Held::default(), |sum, site| Held {
        bytes: sum.bytes + site.held().bytes,
        count: sum.count + site.held().count,
    })
}

#[test]
fn blocks_of_a_library_never_get_the_names_of_the_one_that_takes_its_place() {
    let libraries = [&ONE, &OTHER].map(|flags| Program::c("swapped_plugin.c").with(flags).path());
    let paths = libraries.each_ref().map(|path| path.to_string_lossy());
    let mut target = Target::start(&Program::c("swapped_plugins.c"), &[&paths[0], &paths[1]]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "500ms", "--top", "0"]);
    target.work();
    let mut report_with = |held_bytes: u64| {
        let mut reports = (0..100).map(|_| tracer.next_report());
        let found = reports.find(|report| report.total("live_bytes") >= held_bytes);
        found.unwrap_or_else(|| panic!("no report of all that was leaked"))
    };
    report_with(111_000 + 560);
    target.answer("unload it");
    // One was perhaps under way.
    report_with(0);
    let before = report_with(0);
    assert_eq!(
        before.held_by("heap", "leak_often_alpha"),
        held(111_000, 1000)
    );
    assert_eq!(before.held_by("heap", "leak_once_alpha"), held(560, 5));

    let truth = target.answer("the other one");
    assert_eq!(truth.number("same_place"), 1, "the test shows nothing");
    report_with(111_000 + 560 + 2_220 + 7 * 224);
    let session = tracer.stop();
    let report = session.final_report();
    // 1000 blocks of the one and 10 of the other, in one site. Stacks that were cut, before the code of the
    // first was known, are not those of the second: they keep its name.
    let either = held_by_either(report);
    let cut = report.held_by("heap", "leak_often_alpha");
    assert_eq!(
        held(either.bytes + cut.bytes, either.count + cut.count),
        held(111_000 + 2_220, 1010)
    );
    let stacks_cut = report.loss("stack_truncated");
    assert!(cut.count <= stacks_cut, "{} of {stacks_cut}", cut.count);
    for name in ["leak_often_beta_", "leak_once_beta_", "leak_late_alpha"] {
        assert_eq!(report.held_by("heap", name), Held::default(), "{name}");
    }
    assert_eq!(report.held_by("heap", "leak_once_alpha"), held(560, 5));
    assert_eq!(report.held_by("heap", "leak_late_beta_"), held(7 * 224, 7));
    let notices = report.0["notices"].to_string();
    assert!(
        notices.contains("1 site is of the one, of the other or of both"),
        "{notices}"
    );
}

/// Mappings inside a free are the allocator's own, and those of code that comes to its place are not.
#[test]
fn mappings_of_a_library_that_comes_to_the_place_of_an_allocator_are_counted() {
    let library = |names: [&'static str; 2]| {
        let flags = ["-shared", "-fPIC", "-fno-optimize-sibling-calls"];
        let library = Program::c("moved_frees.c").with(&flags).with(&names);
        library.path().display().to_string()
    };
    let first = library(["-DALLOCATE=dlmalloc", "-DMAP_OR_FREE=dlfree"]);
    let second = library(["-DALLOCATE=do_allot", "-DMAP_OR_FREE=do_map"]);
    let program = Program::c("moved_frees.c").linked(&["-ldl"]);
    let mut target = Target::start(&program, &[&first, &second]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    target.work();
    // What was loaded before a report was begun is probed in it.
    for _ in 0..2 {
        tracer.next_report();
    }
    target.answer("let it go");
    for _ in 0..2 {
        tracer.next_report();
    }
    let there = target.answer("load the other").number("is_there");
    assert_eq!(there, 1, "the second library is not where the first was");
    for _ in 0..2 {
        tracer.next_report();
    }
    let mapped = target.answer("map").number("mapped");
    let session = tracer.stop();
    let held = session.final_report().held_by("mmap", "do_map");
    assert_eq!(held.bytes, mapped, "{}", session.final_report().0);
}

/// A child is walked by the code that it has, and not by what its parent had there.
#[test]
fn stacks_of_a_child_that_replaces_a_library_at_once_are_whole() {
    assert_stacks_of_child_are_whole("child", &["fork"]);
}

/// And not by what its parent has there by now.
#[test]
fn stacks_of_a_child_whose_parent_replaces_a_library_are_whole() {
    let steps = ["fork", "swap", "allocate in the child"];
    assert_stacks_of_child_are_whole("parent", &steps);
}

/// Nor by what its parent had there until a moment before the fork.
#[test]
fn stacks_of_a_child_that_is_forked_right_after_a_library_was_replaced_are_whole() {
    assert_stacks_of_child_are_whole("before", &["swap and fork"]);
}

fn assert_stacks_of_child_are_whole(who_swaps: &str, steps: &[&str]) {
    const BARE: [&str; 4] = ["-shared", "-fPIC", "-DLIBRARY", "-fomit-frame-pointer"];
    let program = Program::c("swapped_in_child.c");
    let libraries = ["-DFRAME=64", "-DFRAME=1024"]
        .map(|frame| program.clone().with(&BARE).with(&[frame]).path());
    let paths = libraries.each_ref().map(|path| path.to_string_lossy());
    let mut target = Target::start(&program, &[&paths[0], &paths[1], who_swaps]);
    let options = ["--follow-forks", "--interval", "200ms"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    let mut truth = target.work();
    for step in steps {
        // What a process had mapped before a report was begun is known in it.
        for _ in 0..5 {
            tracer.next_report();
        }
        truth = target.answer(step);
    }
    assert_eq!(truth.number("same_place"), 1, "the test shows nothing");
    // The child is there until its code was read: of what ends before nobody knows it.
    let mut reports = (0..100).map(|_| tracer.next_report());
    let has_all =
        |report: &Report| report.held_by("heap", "hold_in_child").count == truth.number("blocks");
    assert!(reports.any(|report| has_all(&report)), "no report of all");
    target.end();
    let session = tracer.wait();
    let of_child = session.reports.iter().rev().find(|report| has_all(report));
    let of_child = of_child.expect("the child has a final report");
    for site in of_child.sites("heap") {
        if site.is_called_by("hold_in_child") {
            let frames = site.frames();
            let leads_on = |name| frames.iter().any(|frame| frame.function() == Some(name));
            assert!(leads_on("work_in_child") && leads_on("main"), "{frames:?}");
        }
    }
}

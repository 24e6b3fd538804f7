//! Whatever allocator a program has, and however it came to it, every byte and every block is
//! counted once.

use std::path::PathBuf;
use std::process::Command;

use leaktrace_tests::{
    Program, Target, Tracer, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true,
};

const JEMALLOC: &str = "libjemalloc.so.2";
const TCMALLOC: &str = "libtcmalloc.so.4";
const TCMALLOC_MINIMAL: &str = "libtcmalloc_minimal.so.4";
const MIMALLOC: &str = "libmimalloc.so.2";

fn library(name: &str) -> PathBuf {
    let path = PathBuf::from("/usr/lib/x86_64-linux-gnu").join(name);
    let there = path.exists();
    assert!(there, "{name} is missing; cargo xtask setup installs it");
    path
}

fn assert_exact(mut target: Target) {
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    let report = session.final_report();
    assert_sites_are_true(report, &truth);
    assert_totals_are_true(report, &truth);
    assert_nothing_lost(report);
    let (_, status) = target.end();
    assert!(status.success(), "the program has ended with {status}");
}

fn preloaded(allocator: &str, program: &Program, arguments: &[&str]) -> Target {
    let mut command = Command::new(program.path());
    Target::start_command(
        command
            .args(arguments)
            .env("LD_PRELOAD", library(allocator)),
    )
}

/// What the exact tests promise, with the C library's allocator replaced.
fn assert_exact_with(allocator: &str) {
    let mut each = Program::c("each_function.c");
    if allocator == JEMALLOC {
        // It leaves pvalloc to the C library, whose blocks its free does not know.
        each = each.with(&["-DNO_PVALLOC"]);
    }
    for argument in ["leak", "no_leak"] {
        assert_exact(preloaded(allocator, &each, &[argument]));
    }
    let threads = Program::c("thread_leaks.c");
    assert_exact(preloaded(allocator, &threads, &["2", "100000", "4"]));
    assert_exact(preloaded(allocator, &threads, &["100", "1000", "24"]));
    assert_exact(preloaded(allocator, &Program::c("cross_free.c"), &[]));
    assert_exact(preloaded(allocator, &Program::c("late.c"), &[]));
    assert_exact(preloaded(allocator, &Program::cpp("new_delete.cc"), &[]));
    // mimalloc's operators abort where others throw.
    let throws = if allocator == MIMALLOC {
        "no_throw"
    } else {
        "throw"
    };
    assert_exact(preloaded(
        allocator,
        &Program::cpp("operators.cc"),
        &[throws],
    ));
}

#[test]
fn jemalloc_preloaded_is_exact() {
    assert_exact_with(JEMALLOC);
}

#[test]
fn tcmalloc_preloaded_is_exact() {
    assert_exact_with(TCMALLOC);
}

#[test]
fn minimal_tcmalloc_preloaded_is_exact() {
    assert_exact_with(TCMALLOC_MINIMAL);
}

#[test]
fn mimalloc_preloaded_is_exact() {
    assert_exact_with(MIMALLOC);
}

#[test]
fn operators_that_throw_are_exact_where_they_call_malloc() {
    assert_exact(Target::start(&Program::cpp("operators.cc"), &[]));
}

#[test]
fn a_static_program_is_exact() {
    let each = Program::c("each_function.c").with(&["-static"]);
    assert_exact(Target::start(&each, &["leak"]));
    let threads = Program::c("thread_leaks.c").with(&["-static"]);
    assert_exact(Target::start(&threads, &["2", "100000", "4"]));
    let operators = Program::cpp("operators.cc").with(&["-static"]);
    assert_exact(Target::start(&operators, &[]));
}

#[test]
fn musl_is_exact() {
    for link in ["-static", "-rdynamic"] {
        let flags = ["-DNO_PVALLOC", link];
        let each = Program::musl("each_function.c").with(&flags);
        assert_exact(Target::start(&each, &["leak"]));
        let threads = Program::musl("thread_leaks.c").with(&flags);
        assert_exact(Target::start(&threads, &["2", "100000", "4"]));
        let late = Program::musl("late.c").with(&flags);
        assert_exact(Target::start(&late, &[]));
    }
}

#[test]
fn jemalloc_linked_into_the_program_is_exact() {
    let operators = Program::cpp("operators.cc").linked(&["-l:libjemalloc.a", "-ldl"]);
    assert_exact(Target::start(&operators, &[]));
}

#[test]
fn tcmalloc_linked_into_the_program_is_exact() {
    let operators = Program::cpp("operators.cc").linked(&["-l:libtcmalloc_minimal.a"]);
    assert_exact(Target::start(&operators, &[]));
}

//! Whatever allocator a program has, and however it came to it, every byte and every block is
//! counted once.

use std::path::PathBuf;
use std::process::Command;

use leaktrace_tests::{
    Program, Target, Tracer, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true,
    code_at,
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
    let each = Program::c("each_function.c");
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

/// What an exception has left on the stack is taken for no call that is under way.
#[test]
fn calls_after_exceptions_through_operator_new_and_pairs_are_counted() {
    let pair = "pool_new()/pool_delete(0)";
    let program = Program::cpp("thrown_out.cc");
    let mut targets = vec![Target::start(&program, &[])];
    for allocator in [JEMALLOC, TCMALLOC, TCMALLOC_MINIMAL] {
        targets.push(preloaded(allocator, &program, &[]));
    }
    for mut target in targets {
        let tracer = Tracer::attach(target.pid(), &["--pair", pair]);
        let truth = target.work();
        let session = tracer.stop();
        let report = session.final_report();
        let mapped = report.held_by("mmap", "map_below").bytes;
        assert_eq!(mapped, truth.number("map_below"), "{}", report.0);
        let held = &report.0["pairs"][0];
        assert_eq!(held["live_count"], truth.number("objects"), "{held}");
    }
}

/// What the program maps when jemalloc asks it to is jemalloc's own, and what jemalloc makes of it is counted.
#[test]
fn what_hooks_of_jemalloc_map_is_counted_once() {
    let _is_there = library(JEMALLOC);
    let hooks = Program::c("extent_hooks.c").linked(&["-l:libjemalloc.so.2"]);
    let mut target = Target::start(&hooks, &[]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    let report = session.final_report();
    assert_sites_are_true(report, &truth);
    let mapped = report.held_by("mmap", "map_extent").bytes;
    assert_eq!(mapped, truth.number("of_arena"), "{}", report.0);
    assert!(truth.number("in_allocations") > 0);
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
        let flags = [link];
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

/// Debian's static jemalloc with the names that the crates for it give its functions.
fn renamed_jemalloc(directory: &std::path::Path) {
    let archive = directory.join("lib_rjem.a");
    let unfinished = directory.join(format!("lib_rjem.{}", std::process::id()));
    let names = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "mallocx",
        "rallocx",
        "xallocx",
        "sallocx",
        "dallocx",
        "sdallocx",
        "nallocx",
        "mallctl",
        "mallctlnametomib",
        "mallctlbymib",
        "malloc_usable_size",
        "malloc_stats_print",
    ];
    let renamed = names.map(|name| format!("--redefine-sym={name}=_rjem_{name}"));
    let status = Command::new("objcopy")
        .args(renamed)
        .arg(library("libjemalloc.a"))
        .arg(&unfinished)
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "objcopy has failed"
    );
    let renamed = std::fs::rename(unfinished, archive);
    assert!(renamed.is_ok(), "{renamed:?}");
}

#[test]
fn jemalloc_under_other_names_in_a_program_of_rust_is_exact() {
    let directory = leaktrace_tests::traced_programs();
    renamed_jemalloc(&directory);
    let search = format!("-Clink-arg=-L{}", directory.display());
    let program = Program::rust("jemalloc_rust.rs").with(&[
        Box::leak(search.into_boxed_str()),
        "-Clink-args=-l:lib_rjem.a -lstdc++ -lm",
    ]);
    assert_exact(Target::start(&program, &[]));
}

#[test]
fn a_reallocf_that_fails_has_freed_the_block() {
    let library = library(MIMALLOC).display().to_string();
    let program = Program::c("reallocf.c").linked(&[Box::leak(library.into_boxed_str())]);
    assert_exact(Target::start(&program, &[]));
}

#[test]
fn frees_that_know_the_size_are_frees() {
    let library = Program::c("sized_frees.c").with(&["-DLIBRARY", "-shared", "-fPIC"]);
    let path = library.path();
    let program = Program::c("sized_frees.c")
        .linked(&[Box::leak(path.display().to_string().into_boxed_str())]);
    assert_exact(Target::start(&program, &[]));
}

#[test]
fn tcmalloc_linked_into_the_program_is_exact() {
    let operators = Program::cpp("operators.cc").linked(&["-l:libtcmalloc_minimal.a"]);
    assert_exact(Target::start(&operators, &[]));
}

#[test]
fn an_allocator_that_is_loaded_under_trace_is_traced_from_then_on() {
    let library = library("libmimalloc.so.2");
    let program = Program::c("late_allocator.c").linked(&["-ldl"]);
    let mut target = Target::start(&program, &[&library.to_string_lossy()]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    let entry = target.work().number("late_malloc");
    // A report comes from the loop that attaches as well: when the code has a breakpoint before a
    // report, all probes are in place after it.
    let before = on_disk(&library, target.pid(), entry);
    while code_at(target.pid(), entry, before.len() / 2) == before {
        tracer.next_report();
    }
    tracer.next_report();
    let truth = target.work();
    let session = tracer.stop();
    assert_sites_are_true(session.final_report(), &truth);
    assert_nothing_lost(session.final_report());
    let loaded = session.targets.iter().find(|line| line["event"] == "load");
    let probes = loaded.map(|line| line["probes"].to_string());
    assert!(probes.is_some_and(|probes| probes.contains("mi_malloc")));
}

/// The code that a library has in its file where a process has it mapped, in hex.
fn on_disk(library: &std::path::Path, pid: u32, address: u64) -> String {
    let library = std::fs::canonicalize(library).unwrap_or_else(|error| panic!("{error}"));
    let maps = leaktrace_tests::read(std::path::Path::new(&format!("/proc/{pid}/maps")));
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
    let offset = maps.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let offset = fields.nth(1)?;
        let inside = (number(start)..number(end)).contains(&address);
        let is_it = line.ends_with(library.to_str()?);
        (inside && is_it).then(|| address - number(start) + number(offset))
    });
    let Some(offset) = offset else {
        panic!("{address:x} is not in {}", library.display());
    };
    let bytes = std::fs::read(&library).unwrap_or_else(|error| panic!("{error}"));
    let code = &bytes[offset as usize..][..64];
    code.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_place_that_the_kernel_refuses_costs_that_function_alone() {
    let mut target = Target::start(&Program::c("refused_place.c"), &[]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    let report = session.final_report();
    assert_sites_are_true(report, &truth);
    assert_totals_are_true(report, &truth);
    let probes = session.start["probes"].as_array().map(Vec::as_slice);
    let mut of_program = probes
        .unwrap_or_default()
        .iter()
        .filter(|probe| probe["function"] == "je_valloc");
    let refused = of_program.next();
    let reason = refused.map(|probe| (&probe["attached"], probe["note"].is_string()));
    assert_eq!(reason, Some((&serde_json::Value::Bool(false), true)));
    assert!(session.errors.contains("je_valloc"), "{}", session.errors);
    let notices = report.0["notices"].to_string();
    assert!(notices.contains("not counted: je_valloc ("), "{notices}");
}

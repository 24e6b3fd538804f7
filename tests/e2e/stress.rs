//! Everything at once: eight threads, every function, blocks that other threads free, mappings that
//! are cut, forks and libraries in between. `LEAKTRACE_STRESS_SECONDS` makes it long.

use leaktrace_tests::{Program, Report, Target, Tracer, Truth};

const FUNCTIONS: [&str; 9] = [
    "by_malloc",
    "by_calloc",
    "by_realloc",
    "by_posix_memalign",
    "by_aligned_alloc",
    "by_memalign",
    "by_reallocarray",
    "by_valloc",
    "by_pvalloc",
];

fn stress(mode: &[&str], options: &[&str]) -> (Report, Truth) {
    let seconds: u64 = std::env::var("LEAKTRACE_STRESS_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6);
    let milliseconds = (seconds * 1000).to_string();
    let seed = std::process::id().to_string();
    let mut arguments = vec![milliseconds.as_str(), seed.as_str()];
    arguments.extend(mode);
    let mut target = Target::start(&Program::c("stress.c"), &arguments);
    let tracer = Tracer::attach(target.pid(), options);
    target.say("go");
    let truth = target.await_answer(std::time::Duration::from_secs(seconds));
    let session = tracer.stop();
    (session.final_report().clone(), truth)
}

/// Allocations that the functions of the program made, as leaktrace counts them.
fn handed_out(report: &Report) -> u64 {
    let sites = report.sites("heap");
    let of_program = sites.filter(|site| FUNCTIONS.iter().any(|name| site.is_called_by(name)));
    of_program.map(|site| site.allocated_count()).sum()
}

#[test]
fn eight_threads_that_do_everything_are_counted_exactly() {
    let (report, truth) = stress(&["all"], &[]);
    let seed = truth.number("seed");
    assert_eq!(report.losses(), [], "seed {seed}: {}", report.0["losses"]);
    for (caller, held) in truth.sites() {
        assert_eq!(
            report.held_by("heap", &caller),
            held,
            "seed {seed}: {caller}"
        );
    }
    assert_eq!(
        report.held_by("mmap", "by_mmap").bytes,
        truth.number("mapped_bytes"),
        "seed {seed}"
    );
    assert_eq!(
        handed_out(&report),
        truth.number("handed_out"),
        "seed {seed}"
    );
}

#[test]
fn what_a_full_map_cannot_hold_is_counted_as_lost() {
    let (report, truth) = stress(&["forks"], &["--max-live", "512"]);
    let lost = report.loss("live_map_full");
    assert!(lost > 0, "the map is never full");
    // Every thread has its stack and its place for thread-local data from the C library.
    let of_library: u64 = report
        .sites("heap")
        .filter(|site| !FUNCTIONS.iter().any(|name| site.is_called_by(name)))
        .map(|site| site.allocated_count())
        .sum();
    assert_eq!(
        report.total("allocated_count") - of_library + lost,
        truth.number("handed_out"),
        "seed {}: {}",
        truth.number("seed"),
        report.0["losses"]
    );
}

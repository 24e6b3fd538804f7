//! Everything at once: eight threads, every function, blocks that other threads free, mappings that
//! are cut, forks and libraries in between; with maps of the usual size, and with maps that are far too
//! small. `LEAKTRACE_STRESS_SECONDS` makes it long.

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

fn stress(program: &Program, mode: &str, options: &[&str]) -> (Report, Truth) {
    let seconds: u64 = std::env::var("LEAKTRACE_STRESS_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(6);
    let milliseconds = (seconds * 1000).to_string();
    let seed = std::process::id().to_string();
    let arguments = [milliseconds.as_str(), seed.as_str(), mode];
    let mut target = Target::start(program, &arguments);
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
    let (report, truth) = stress(&Program::c("stress.c"), "all", &[]);
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

/// The program that counts what the C library and the dynamic linker allocate in it as well: of what a
/// small map has lost, nobody can tell whose it was.
fn counts_others() -> Program {
    Program::c("stress.c").with(&["-DCOUNTS_OTHERS"])
}

/// All that was handed out, to the program and to others.
fn all_handed_out(truth: &Truth) -> u64 {
    truth.number("handed_out") + truth.number("others_handed_out")
}

#[test]
fn what_a_full_map_cannot_hold_is_counted_as_lost() {
    let (report, truth) = stress(&counts_others(), "all", &["--max-live", "512"]);
    let lost = report.loss("live_map_full");
    assert!(lost > 0, "the map is never full");
    assert_eq!(
        report.total("allocated_count") + lost,
        all_handed_out(&truth),
        "seed {}: {}",
        truth.number("seed"),
        report.0["losses"]
    );
    assert_eq!(report.losses(), [("live_map_full", lost)]);
    assert_eq!(report.mapped_bytes(), truth.number("mapped_bytes"));
}

#[test]
fn what_has_no_room_for_its_stack_is_counted_without() {
    let (report, truth) = stress(&counts_others(), "all", &["--max-stacks", "4"]);
    let seed = truth.number("seed");
    let lost = report.loss("stack_map_full");
    assert!(lost > 0, "the map is never full");
    // What has no stack has none that is whole.
    let losses = [("stack_map_full", lost), ("stack_truncated", lost)];
    assert_eq!(report.losses(), losses, "seed {seed}");
    let held = truth.sites().into_iter().map(|(_, held)| held);
    let (bytes, count) = held.fold((0, 0), |sum, held| (sum.0 + held.bytes, sum.1 + held.count));
    let others = |name| truth.number(name);
    assert_eq!(
        (report.total("live_bytes"), report.total("live_count")),
        (
            bytes + others("others_bytes"),
            count + others("others_count")
        ),
        "seed {seed}"
    );
    assert_eq!(
        report.total("allocated_count"),
        all_handed_out(&truth),
        "seed {seed}"
    );
    // That an arena is the allocator's, when free has mapped it, only its stack tells; it is set aside.
    let set_aside = report.0["mapped"]["reserved_bytes"].as_u64();
    assert_eq!(
        report.mapped_bytes() - set_aside.unwrap_or_default(),
        truth.number("mapped_bytes"),
        "seed {seed}"
    );
}

/// Most of the threads have no place for a call that is under way, and what they do is lost. Only the place
/// tells that a call is part of another one (of realloc's to malloc, of reallocarray's to realloc): without
/// it, each is said to be lost. So none of the functions here calls another one; and as no library is
/// loaded, nobody else allocates while places are missing.
#[test]
fn what_threads_without_a_place_allocate_is_counted_as_lost() {
    let options = ["--max-pending", "4"];
    let (report, truth) = stress(&Program::c("stress.c"), "flat", &options);
    let lost = report.loss("pending_map_full");
    assert!(lost > 0, "there is a place for every thread");
    assert_eq!(
        handed_out(&report) + lost,
        truth.number("handed_out"),
        "seed {}: {}",
        truth.number("seed"),
        report.0["losses"]
    );
    // A block that stays when it has been moved is found again where another one is.
    assert_eq!(report.loss("free_missed"), 0, "{}", report.0["losses"]);
    for (caller, held) in truth.sites() {
        let seen = report.held_by("heap", &caller);
        let is_held = seen.bytes <= held.bytes && seen.count <= held.count;
        assert!(is_held, "{caller}: {seen:?} of {held:?}");
    }
}

//! Everything at once: eight threads, every function of C and C++, calls that fail, blocks that other threads
//! free, mappings that are cut, moved and covered, forks, libraries and threads that come and go; with maps of
//! the usual size, and with maps that are far too small. `LEAKTRACE_STRESS_SECONDS` makes it long.

use leaktrace_tests::{Program, Report, Target, Tracer, Truth};
use rustix::process::Signal;

const FUNCTIONS: [&str; 13] = [
    "by_malloc",
    "by_calloc",
    "by_realloc",
    "by_posix_memalign",
    "by_aligned_alloc",
    "by_memalign",
    "by_reallocarray",
    "by_valloc",
    "by_pvalloc",
    "by_new",
    "by_new_array",
    "by_new_nothrow",
    "by_new_aligned",
];

fn program() -> Program {
    Program::c("stress.c").linked_with_cpp()
}

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
    // A reader that does not read: what does not fit into the buffer is lost for certain.
    let is_deaf = options.contains(&"--event-buffer");
    if is_deaf {
        tracer.signal(Signal::STOP);
    }
    target.say("go");
    let truth = target.await_answer(std::time::Duration::from_secs(seconds));
    if is_deaf {
        tracer.signal(Signal::CONT);
    }
    let session = tracer.stop();
    (session.final_report().clone(), truth)
}

/// What is mapped by the program: by those that mapped it first, covered it, or moved it.
fn mapped_by_the_program(report: &Report) -> u64 {
    let functions = ["by_mmap", "by_mmap_over", "by_mremap"];
    let held = functions.map(|function| report.held_by("mmap", function).bytes);
    held.iter().sum()
}

#[track_caller]
fn assert_heap_is_true(report: &Report, truth: &Truth) {
    let seed = truth.number("seed");
    for (caller, held) in truth.sites() {
        let seen = report.held_by("heap", &caller);
        assert_eq!(seen, held, "seed {seed}: {caller}");
    }
    // A site that holds nothing any more is in no report, but in the total, where those of others are, too.
    let told = truth.number("handed_out");
    let (listed, all) = (handed_out(report), report.total("allocated_count"));
    assert!(
        listed <= told && told <= all,
        "seed {seed}: {listed}, {told}, {all}"
    );
}

/// Calls that changed mappings.
fn changes(truth: &Truth) -> u64 {
    ["maps", "moves", "unmaps"]
        .map(|name| truth.number(name))
        .iter()
        .sum()
}

/// Allocations that the functions of the program made, as leaktrace counts them.
fn handed_out(report: &Report) -> u64 {
    let sites = report.sites("heap");
    let of_program = sites.filter(|site| FUNCTIONS.iter().any(|name| site.is_called_by(name)));
    of_program.map(|site| site.allocated_count()).sum()
}

#[test]
fn eight_threads_that_do_everything_are_counted_exactly() {
    let (report, truth) = stress(&program(), "all", &[]);
    let seed = truth.number("seed");
    assert_eq!(report.lost_from_numbers(), [], "seed {seed}");
    assert_heap_is_true(&report, &truth);
    let mapped = truth.number("mapped_bytes");
    assert_eq!(mapped_by_the_program(&report), mapped, "seed {seed}");
    eprintln!(
        "{} blocks handed out, {} changes of mappings, seed {seed}",
        truth.number("handed_out"),
        changes(&truth)
    );
}

#[test]
fn eight_threads_and_all_that_the_c_library_does_for_them_are_counted_exactly() {
    let (report, truth) = stress(&counts_others(), "all", &[]);
    assert_eq!(report.lost_from_numbers(), []);
    assert_all_is_counted(&report, &truth);
}

/// All that was handed out and is held, to the program and to others.
#[track_caller]
fn assert_all_is_counted(report: &Report, truth: &Truth) {
    let seed = truth.number("seed");
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
        all_handed_out(truth),
        "seed {seed}"
    );
}

/// Changes of mappings alone go through the buffer: the heap stays exact, and what is not mapped any more is
/// not reported.
#[test]
fn changes_that_did_not_fit_into_the_buffer_are_counted_as_lost() {
    let (report, truth) = stress(&program(), "all", &["--event-buffer", "4096"]);
    let seed = truth.number("seed");
    assert_heap_is_true(&report, &truth);
    let lost = report.loss("event_lost");
    assert_eq!(report.lost_from_numbers(), [("event_lost", lost)]);
    let sites = report.sites("mmap");
    let own =
        sites.filter(|site| site.is_called_by("by_mmap") || site.is_called_by("by_mmap_over"));
    let seen: u64 = own.map(|site| site.allocated_count()).sum();
    let (maps, changes) = (truth.number("maps"), changes(&truth));
    assert!(seen + lost >= maps, "seed {seed}: {seen} + {lost}, {maps}");
    // Others change mappings as well: libraries that come and go.
    assert!(lost > changes / 2, "seed {seed}: {lost} of {changes}");
    let (mapped, told) = (mapped_by_the_program(&report), truth.number("mapped_bytes"));
    assert!(mapped <= told, "seed {seed}: {mapped} of {told}");
}

/// The program that counts what the C library and the dynamic linker allocate in it as well: of what a
/// small map has lost, nobody can tell whose it was.
fn counts_others() -> Program {
    program().with(&["-DCOUNTS_OTHERS"])
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
    assert_eq!(report.lost_from_numbers(), [("live_map_full", lost)]);
    assert_eq!(report.mapped_bytes(), truth.number("mapped_bytes"));
}

/// What glibc maps for an arena: HEAP_MAX_SIZE of its malloc/arena.c, where addresses have 64 bits.
const ARENA_BYTES: u64 = 64 << 20;

#[test]
fn what_has_no_room_for_its_stack_is_counted_without() {
    let (report, truth) = stress(&counts_others(), "all", &["--max-stacks", "4"]);
    let seed = truth.number("seed");
    let lost = report.loss("stack_map_full");
    assert!(lost > 0, "the map is never full");
    assert_eq!(report.lost_from_numbers(), [("stack_map_full", lost)]);
    // What has no stack has none that is whole; but what was refused holds nothing, and a mapping that is moved
    // is no new one.
    let cut = report.loss("stack_truncated");
    let least = lost - truth.number("moves") - truth.number("refused");
    assert!(
        (least..=lost).contains(&cut),
        "seed {seed}: {cut} of {lost}, least {least}"
    );
    assert_all_is_counted(&report, &truth);
    // That an arena is the allocator's, when free has mapped it, only its stack tells. It is of one size,
    // and most of it is only reserved.
    let reserved = report.0["mapped"]["reserved_bytes"].as_u64();
    let arenas = reserved.unwrap_or_default().div_ceil(ARENA_BYTES);
    assert_eq!(
        report.mapped_bytes(),
        truth.number("mapped_bytes") + arenas * ARENA_BYTES,
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
    let (report, truth) = stress(&program(), "flat", &options);
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

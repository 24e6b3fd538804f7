//! Who holds what a process has grown by, on programs that grow in ways that they tell.

use std::time::Instant;

use leaktrace_tests::{PATIENCE, Program, Report, Target, Tracer, Truth};
use rustix::process::Signal;

const MIB: i64 = 1 << 20;

/// Page tables of the C library, stacks, pages of libraries that are touched by and by.
const NOISE_BYTES: i64 = 384 * 1024;

fn traced(ways: &[&str], options: &[&str]) -> (Report, Truth) {
    let mut target = Target::start(&Program::c("owners.c"), ways);
    let tracer = Tracer::attach(target.pid(), options);
    let truth = target.work();
    let resident = resident_bytes(target.pid());
    let session = tracer.stop();
    let report = session.final_report().clone();
    let said = report.0["process"]["rss_bytes"].as_i64();
    let said = said.unwrap_or_else(|| panic!("no resident set in {}", report.0));
    assert!((said - resident).abs() < NOISE_BYTES, "{said}, {resident}");
    assert_parts_are_the_whole(&report);
    (report, truth)
}

/// What the kernel says when it counts pages, not by its counters.
fn resident_bytes(pid: u32) -> i64 {
    let text = leaktrace_tests::read(format!("/proc/{pid}/smaps_rollup").as_ref());
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    number.unwrap_or_else(|| panic!("no resident set in {text}")) * 1024
}

fn of(report: &Report, owner: &str) -> i64 {
    let bytes = report.0["process"]["growth_by_owner"][owner].as_i64();
    bytes.unwrap_or_else(|| panic!("no {owner} in {}", report.0["process"]))
}

#[track_caller]
fn assert_parts_are_the_whole(report: &Report) {
    let parts = [
        "heap_bytes",
        "allocator_bytes",
        "mapped_bytes",
        "data_bytes",
        "file_bytes",
        "shared_bytes",
        "untracked_bytes",
    ];
    let sum: i64 = parts.iter().map(|part| of(report, part)).sum();
    let growth = report.0["process"]["rss_growth_bytes"].as_i64();
    assert_eq!(Some(sum - of(report, "swapped_bytes")), growth);
}

#[track_caller]
fn assert_near(report: &Report, owner: &str, bytes: i64) {
    let said = of(report, owner);
    assert!(
        (said - bytes).abs() < NOISE_BYTES,
        "{owner} is {bytes}, said {said} in {}",
        report.0["process"]
    );
}

fn ratio(report: &Report) -> Option<f64> {
    report.0["process"]["explained_ratio"].as_f64()
}

#[test]
fn growth_of_every_kind_is_told_apart() {
    let ways = [
        "leaks", "frees", "mapped", "raw", "before", "file", "shared", "static",
    ];
    let (report, truth) = traced(&ways, &[]);
    let number = |name: &str| truth.number(name).cast_signed();
    assert_eq!(of(&report, "heap_bytes"), number("heap_bytes"));
    let allocator = number("allocator_has") - number("heap_bytes");
    assert_near(&report, "allocator_bytes", allocator);
    assert_near(&report, "mapped_bytes", number("mapped_bytes"));
    assert_near(&report, "untracked_bytes", number("raw_bytes") + 48 * MIB);
    assert_near(&report, "file_bytes", 20 * MIB);
    assert_near(&report, "shared_bytes", 12 * MIB);
    assert_near(&report, "data_bytes", 8 * MIB);
    let named = &report.0["process"]["growth_by_owner"];
    let path = |kind: &str| named[kind]["path"].as_str().unwrap_or_default().to_owned();
    assert!(
        path("largest_file").contains("leaktrace-owners-"),
        "{named}"
    );
    assert!(path("largest_shared").contains("memfd:owners"), "{named}");
    let explained = number("allocator_has") + number("mapped_bytes");
    let growth = explained + number("raw_bytes") + 88 * MIB;
    let truth = explained as f64 / growth as f64;
    assert!(
        ratio(&report).is_some_and(|said| (said - truth).abs() < 0.02),
        "{truth}, said {:?}",
        ratio(&report)
    );
    assert!(report.0["process"]["next_tool"].is_string());
}

#[test]
fn a_program_that_only_leaks_is_explained() {
    let (report, truth) = traced(&["leaks", "mapped"], &[]);
    assert!(ratio(&report) >= Some(0.97), "{}", report.0["process"]);
    let heap_bytes = truth.number("heap_bytes").cast_signed();
    assert_eq!(of(&report, "heap_bytes"), heap_bytes);
    assert!(report.0["process"]["next_tool"].is_null());
}

#[test]
fn a_block_that_is_touched_in_part_counts_as_far_as_it_is_resident() {
    let (report, _) = traced(&["half_touched"], &[]);
    assert_eq!(of(&report, "heap_bytes"), 30 * MIB);
    assert_near(&report, "allocator_bytes", -15 * MIB);
    assert!(ratio(&report) >= Some(0.97), "{}", report.0["process"]);
}

#[test]
fn what_is_given_back_of_old_memory_does_not_hide_a_leak() {
    let (report, truth) = traced(&["given_back", "leaks"], &[]);
    assert_near(&report, "untracked_bytes", -64 * MIB);
    let number = |name: &str| truth.number(name).cast_signed();
    let allocator = number("allocator_has") - number("heap_bytes");
    assert_near(&report, "allocator_bytes", allocator);
    assert_eq!(ratio(&report), None, "it has not grown");
}

#[test]
fn what_is_left_out_by_size_is_not_called_explained() {
    let (report, _) = traced(&["leaks"], &["--min-size", "1k"]);
    assert_eq!(of(&report, "heap_bytes"), 0);
    assert_eq!(ratio(&report), None, "{}", report.0["process"]);
}

#[test]
fn the_last_look_at_a_killed_process_is_kept_and_is_of_one_time() {
    let mut target = Target::start(&Program::c("owners.c"), &["leaks"]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "1s"]);
    let truth = target.work();
    let heap_bytes = truth.number("heap_bytes").cast_signed();
    let begun = Instant::now();
    while of(&tracer.next_report(), "heap_bytes") != heap_bytes {
        assert!(begun.elapsed() < PATIENCE, "nobody has looked");
    }
    target.signal(Signal::KILL);
    let session = tracer.wait();
    let report = session.final_report();
    let process = &report.0["process"];
    assert!(process["rss_bytes"].is_null(), "{process}");
    assert_eq!(of(report, "heap_bytes"), heap_bytes);
    assert!(ratio(report) >= Some(0.97), "{process}");
    let untracked = process["growth_by_kind"]["untracked_anonymous_bytes"].as_i64();
    assert!(untracked >= Some(0), "{process}");
    let at = process["growth_by_owner"]["at_s"].as_f64();
    assert!(at > Some(0.0) && at < report.0["elapsed_s"].as_f64());
}

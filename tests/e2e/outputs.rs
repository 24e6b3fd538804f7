//! What leaktrace prints, as text and as JSON, and the options that choose what is in it.

use std::collections::BTreeSet;

use leaktrace_tests::{
    PATIENCE, Program, Spawned, Target, Truth, leaktrace, read, run_to_end, scratch, trace,
    trace_with,
};
use rustix::process::Signal;

/// Traces a program with text output into a file; the truth and the text.
fn text_report(program: &Program, options: &[&str]) -> (Truth, String) {
    let directory = scratch();
    let output = directory.path().join("report");
    let Ok(file) = std::fs::File::create(&output) else {
        panic!("cannot create {}", output.display());
    };
    let mut target = Target::start(program, &[]);
    // JSON says when all is armed; text follows the same course, so wait for its first report.
    let mut command = leaktrace();
    command
        .args(["--pid", &target.pid().to_string(), "--interval", "300ms"])
        .args(options)
        .stdout(file)
        .stderr(std::process::Stdio::null());
    let mut process = Spawned::start(&mut command);
    let begun = std::time::Instant::now();
    while read(&output).is_empty() {
        assert!(begun.elapsed() < PATIENCE, "there is no report");
        assert!(
            !process.ends_within(std::time::Duration::from_millis(20)),
            "it has ended"
        );
    }
    let truth = target.work();
    process.signal(Signal::INT);
    assert!(process.wait(PATIENCE).success());
    (truth, read(&output))
}

#[test]
fn a_text_report_fits_100_columns_and_names_the_leaks() {
    let (truth, text) = text_report(&Program::c("each_function.c"), &["--top", "0"]);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "too wide: {line:?}");
        assert_eq!(line, line.trim_end(), "blanks at the end: {line:?}");
    }
    assert!(!text.contains('\x1b'), "colour without a terminal");
    for (caller, _) in truth.sites() {
        assert!(text.contains(&caller), "{caller} is not in {text}");
    }
}

#[test]
fn long_names_fit_100_columns_too() {
    let (_, text) = text_report(&Program::cpp("names.cc"), &[]);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "too wide: {line:?}");
    }
    assert!(text.contains("shop::Cart<shop::Apple>::add"), "{text}");
}

#[test]
fn every_json_line_has_the_fields_of_the_contract() {
    let traced = trace(&Program::c("chain.c"), &[]);
    let keys = |value: &serde_json::Value| -> BTreeSet<String> {
        let object = value.as_object();
        object
            .map(|o| o.keys().cloned().collect())
            .unwrap_or_default()
    };
    let has = |value: &serde_json::Value, wanted: &[&str]| {
        let keys = keys(value);
        for key in wanted {
            assert!(keys.contains(*key), "{key} is missing in {value}");
        }
    };
    let session = &traced.session;
    has(
        &session.start,
        &["kind", "version", "targets", "probes", "stacks"],
    );
    has(&session.start["targets"][0], &["pid", "comm", "exe"]);
    has(
        &session.start["probes"][0],
        &["object", "function", "offset", "attached"],
    );
    has(&session.end, &["kind", "reason"]);
    let report = &traced.report.0;
    has(
        report,
        &[
            "kind",
            "seq",
            "final",
            "elapsed_s",
            "pid",
            "process",
            "totals",
            "losses",
            "sites",
        ],
    );
    has(&report["process"], &["rss_bytes", "rss_growth_bytes"]);
    let totals = [
        "live_bytes",
        "live_count",
        "allocated_bytes",
        "allocated_count",
        "freed_bytes",
    ];
    has(&report["totals"], &totals);
    has(&report["totals"], &["freed_count", "unmatched_frees"]);
    has(
        &report["losses"],
        &["live_map_full", "stack_map_full", "stack_truncated"],
    );
    let Some(site) = traced.report.sites("heap").next().map(|site| site.0) else {
        panic!("there is no heap site in {report}");
    };
    has(
        site,
        &[
            "id",
            "source",
            "live_bytes",
            "live_count",
            "allocated_count",
            "verdict",
            "frames",
        ],
    );
    let frame = [
        "function", "module", "address", "offset", "file", "line", "inlined",
    ];
    has(&site["frames"][0], &frame);
    let verdicts = ["leaking", "growing", "steady", "shrinking", "unknown"];
    assert!(verdicts.iter().any(|verdict| site["verdict"] == *verdict));
}

#[test]
fn top_limits_the_sites_and_not_the_totals() {
    let traced = trace_with(
        &Program::c("each_function.c"),
        &["leak"],
        &["--top", "3", "--sort", "bytes", "--no-mmap"],
    );
    assert_eq!(traced.report.sites("heap").count(), 3);
    assert_eq!(
        traced.report.total("live_bytes"),
        traced.truth.number("live_bytes")
    );
}

#[test]
fn sort_puts_the_largest_first() {
    for (order, key) in [("bytes", "live_bytes"), ("count", "live_count")] {
        let traced = trace_with(&Program::c("realloc_cases.c"), &[], &["--sort", order]);
        let values: Vec<_> = traced
            .report
            .sites("heap")
            .map(|s| s.0[key].as_u64())
            .collect();
        assert!(values.len() > 3);
        assert!(values.is_sorted_by(|a, b| a >= b), "{order}: {values:?}");
    }
}

#[test]
fn sizes_outside_the_range_are_not_counted() {
    let options = ["--min-size", "1002", "--max-size", "1006"];
    let traced = trace_with(&Program::c("realloc_cases.c"), &[], &options);
    let held: Vec<_> = traced
        .report
        .sites("heap")
        .map(|site| site.held().bytes)
        .collect();
    let wanted: Vec<_> = traced
        .truth
        .sites()
        .into_iter()
        .filter(|(_, held)| (1002..=1006).contains(&held.bytes))
        .collect();
    assert_eq!(held.len(), wanted.len(), "{held:?} for {wanted:?}");
    for (caller, held) in wanted {
        assert_eq!(traced.report.held_by("heap", &caller), held);
    }
}

#[test]
fn blocks_that_are_too_young_are_not_listed() {
    let traced = trace_with(
        &Program::c("each_function.c"),
        &["leak"],
        &["--older", "1h"],
    );
    assert_eq!(traced.report.sites("heap").count(), 0);
}

/// What a terminal gets of a session with a leak in it, or a pipe.
fn said(terminal: bool, no_color: Option<&str>) -> String {
    let mut tracer = leaktrace();
    tracer.args(["-q", "--interval", "1s", "--"]);
    tracer.arg(Program::c("ends_after.c").path());
    tracer.args(["leaks", "14", "0"]);
    let mut command = match terminal {
        false => tracer,
        true => {
            let words = [tracer.get_program()].into_iter().chain(tracer.get_args());
            let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
            let mut command = std::process::Command::new("script");
            command.args(["--quiet", "--return", "--command"]);
            command.arg(words.join(" ")).arg("/dev/null");
            command
        }
    };
    match no_color {
        Some(value) => command.env("NO_COLOR", value),
        None => command.env_remove("NO_COLOR"),
    };
    let finished = run_to_end(&mut command);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.output.contains("leaking"), "{finished:?}");
    finished.output
}

#[test]
fn verdicts_are_coloured_on_a_terminal_unless_no_color_says_otherwise() {
    Program::c("ends_after.c").path();
    let cases = [
        (true, None, true),
        // As no-color.org has it, an empty value says nothing.
        (true, Some(""), true),
        (true, Some("1"), false),
        (false, None, false),
    ];
    let runs =
        cases.map(|(terminal, no_color, _)| std::thread::spawn(move || said(terminal, no_color)));
    for ((terminal, no_color, coloured), run) in cases.into_iter().zip(runs) {
        let Ok(text) = run.join() else {
            panic!("a session failed");
        };
        let escapes = text.contains('\x1b');
        assert_eq!(escapes, coloured, "{terminal} {no_color:?}: {text}");
    }
}

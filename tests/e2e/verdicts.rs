//! Verdicts on a real program whose sites say in their names what they do.

use std::collections::BTreeSet;
use std::process::Command;

use leaktrace_tests::{Program, Target, Tracer};

/// Sites whose behaviour the program names, with the verdict and its reason.
fn judged(program: &'static str, seconds: &str) -> Vec<(String, String, String)> {
    let mut target = Target::start(&Program::c(program), &[seconds]);
    let tracer = Tracer::attach(target.pid(), &["--interval", "1s"]);
    target.work();
    let session = tracer.stop();
    let mut judged = Vec::new();
    for site in session.final_report().sites("heap") {
        let frames = site.frames();
        let Some(function) = frames.first().and_then(|frame| frame.function()) else {
            continue;
        };
        if function.starts_with("leak_") || function.starts_with("fine_") {
            let text = |key: &str| site.0[key].as_str().unwrap_or_default().to_owned();
            judged.push((function.to_owned(), text("verdict"), text("reason")));
        }
        let rate = site.0["growth_bytes_per_s"].as_f64();
        let interval = &site.0["growth_interval_bytes_per_s"];
        let (low, high) = (interval[0].as_f64(), interval[1].as_f64());
        assert!(rate.is_some() && low <= rate && rate <= high, "{}", site.0);
    }
    judged
}

#[test]
fn what_leaks_is_called_leaking_and_nothing_else_is() {
    assert_only_leaks_are_called_leaking("behaviours.c");
}

#[test]
fn slow_leaks_among_many_larger_sites_are_called_leaking_and_nothing_else_is() {
    assert_only_leaks_are_called_leaking("labelled.c");
}

#[track_caller]
fn assert_only_leaks_are_called_leaking(program: &'static str) {
    let judged = judged(program, "30");
    let names: BTreeSet<_> = judged.iter().map(|(name, ..)| name).collect();
    let leaks = names.iter().filter(|name| name.starts_with("leak_"));
    assert_eq!(leaks.count(), 4, "every leak is listed: {judged:?}");
    for (name, verdict, reason) in &judged {
        eprintln!("{name}: {verdict}: {reason}");
        assert_eq!(
            name.starts_with("leak_"),
            verdict == "leaking",
            "{name}: {reason}"
        );
        assert!(!reason.is_empty(), "{name} has no reason");
    }
}

#[test]
fn a_limit_of_the_process_is_shown_with_what_is_used_of_it() {
    let program = Program::c("behaviours.c");
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--as={}", 1_u64 << 30))
        .arg(program.command().get_program())
        .arg("10");
    let mut target = Target::start_command(&mut command);
    let tracer = Tracer::attach(target.pid(), &["--interval", "1s"]);
    target.work();
    let session = tracer.stop();
    let report = session.final_report();
    let limits = report.0["limits"].as_array().cloned().unwrap_or_default();
    let own = limits.iter().find(|limit| limit["kind"] == "address-space");
    let own = own.unwrap_or_else(|| panic!("no limit of the process in {limits:?}"));
    assert_eq!(own["limit_bytes"], 1_u64 << 30);
    assert!(own["used_bytes"].as_u64() > report.0["process"]["rss_bytes"].as_u64());
    assert_eq!(report.0["process"]["rss_pattern"], "climbing");
}

#[test]
fn sites_of_one_function_are_one_when_asked() {
    let mut target = Target::start(&Program::c("behaviours.c"), &["5"]);
    let options = ["--interval", "1s", "--group-by", "function"];
    let tracer = Tracer::attach(target.pid(), &options);
    target.work();
    let session = tracer.stop();
    let mut functions = Vec::new();
    for site in session.final_report().sites("heap") {
        let suspect = site.0["suspect_frame"].as_u64().map(|index| index as usize);
        let frames = site.frames();
        let frame = suspect.and_then(|index| frames.get(index));
        functions.extend(frame.and_then(|frame| frame.function()).map(str::to_owned));
    }
    let distinct: BTreeSet<_> = functions.iter().collect();
    assert_eq!(distinct.len(), functions.len(), "twice in {functions:?}");
    assert!(functions.iter().any(|function| function == "leak_half"));
}

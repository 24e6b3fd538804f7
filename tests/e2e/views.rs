//! Other views of what was counted: merged by function, line or module, and by how often it comes.

use std::collections::BTreeMap;
use std::path::Path;

use leaktrace_tests::{Held, Program, Report, Site, trace_with};

/// What the sites of the heap hold, by what a view calls them.
fn held_by(report: &Report, name: impl Fn(&Site<'_>) -> String) -> BTreeMap<String, Held> {
    let mut held = BTreeMap::new();
    for site in report.sites("heap") {
        let before = held.insert(name(&site), site.held());
        assert_eq!(before, None, "one of them is in two sites: {}", report.0);
    }
    held
}

/// The frame to look at.
fn frame<'a>(site: &Site<'a>) -> leaktrace_tests::Frame<'a> {
    let index = site.0["suspect_frame"].as_u64().unwrap_or(0) as usize;
    site.frames()[index]
}

#[test]
fn sites_are_merged_by_line_function_or_module_and_lose_nothing() {
    let program = Program::c("lines.c");
    let module = program.path().display().to_string();
    for by in ["stack", "line", "function", "module"] {
        let traced = trace_with(&program, &[], &["--group-by", by]);
        let mut truth: BTreeMap<String, Held> = BTreeMap::new();
        for line in traced.truth.lines("line") {
            let number = |name: &str| line[name].as_u64().unwrap_or_default();
            let name = match (by, number("line")) {
                ("line", line) => format!("lines.c:{line}"),
                ("function", 16) => "one_place".to_owned(),
                ("function", _) => "two_places".to_owned(),
                _ => module.clone(),
            };
            let held = truth.entry(name).or_default();
            held.bytes += number("bytes");
            held.count += number("count");
        }
        let seen = match by {
            // Three callers of two places, and one of the third.
            "stack" => {
                assert_eq!(traced.report.sites("heap").count(), 7);
                continue;
            }
            "line" => held_by(&traced.report, |site| {
                let frame = frame(site);
                let line = frame.line().unwrap_or_default();
                format!("{}:{line}", frame.file_name().unwrap_or_default())
            }),
            "function" => held_by(&traced.report, |site| {
                frame(site).function().unwrap_or_default().to_owned()
            }),
            _ => held_by(&traced.report, |site| {
                let module = frame(site).module().unwrap_or_default().to_owned();
                assert!(Path::new(&module).exists(), "{module}");
                module
            }),
        };
        assert_eq!(seen, truth, "by {by}: {}", traced.report.0);
    }
}

#[test]
fn rates_of_sites_are_those_of_the_program_the_busiest_first() {
    let traced = trace_with(
        &Program::c("rates.c"),
        &["6"],
        &["--churn", "--interval", "1s", "--no-mmap"],
    );
    let report = &traced.report;
    let elapsed_s = report.0["elapsed_s"].as_f64().unwrap_or_default();
    let sites = report.0["churn"].as_array().cloned().unwrap_or_default();
    let of = |rank: usize, key: &str| sites[rank][key].as_f64();
    let places = [("often", 200.0), ("seldom", 3000.0)];
    for (rank, (function, bytes)) in places.into_iter().enumerate() {
        assert_eq!(sites[rank]["frames"][0]["function"], function);
        let told = traced.truth.number(function) as f64;
        let near = |seen: Option<f64>, told: f64| {
            seen.is_some_and(|seen| (seen - told).abs() <= 0.001 * told)
        };
        let allocations = of(rank, "allocations_per_s").map(|rate| rate * elapsed_s);
        assert!(near(allocations, told), "{told}: {}", report.0["churn"]);
        let all_bytes = of(rank, "bytes_per_s").map(|rate| rate * elapsed_s);
        assert!(near(all_bytes, told * bytes), "{}", report.0["churn"]);
    }
    let (all, held) = (
        traced.truth.number("often") as f64,
        traced.truth.number("often_held") as f64,
    );
    let freed = of(0, "freed_share").unwrap_or_default();
    assert!((freed - (all - held) / all).abs() < 0.001, "{freed}");
    assert_eq!(of(1, "freed_share"), Some(0.0));
    assert!(
        of(1, "mean_lifetime_s").is_none(),
        "nothing of it was freed"
    );
    // A block lives until as many others have come as are held; the first reading comes before all of them.
    let lifetime = of(0, "mean_lifetime_s").unwrap_or_default();
    let told = held * elapsed_s / all;
    assert!(
        (lifetime - told).abs() < 0.25 * told,
        "{lifetime}, told {told}"
    );
}

#[test]
fn sites_that_free_right_after_birth_come_first_when_asked_with_what_they_free_so() {
    let traced = trace_with(
        &Program::c("temporary.c"),
        &["20"],
        &["--churn=temporary", "--interval", "1s", "--no-mmap"],
    );
    let report = &traced.report;
    let sites = report.0["churn"].as_array().cloned().unwrap_or_default();
    let of = |function: &str| {
        let mut sites = sites.iter().zip(1..);
        let found = sites.find(|(site, _)| site["frames"][0]["function"] == function);
        let (site, rank) = found.unwrap_or_else(|| panic!("no {function} in {sites:?}"));
        let within_s = site["freed_young_within_s"].as_f64().unwrap_or_default();
        assert!(within_s > 0.0 && within_s < 5.0, "{site}");
        (site["freed_young_share"].as_f64().unwrap_or_default(), rank)
    };
    // By bytes, not by calls: that of the many small blocks is behind.
    let (at_once, first) = of("at_once");
    let (half, second) = of("half_of_it");
    let (often, third) = of("often");
    assert_eq!((first, second, third), (1, 2, 3), "{sites:?}");
    for share in [at_once, often] {
        assert!(share > 0.99, "{share}");
    }
    assert!((half - 0.5).abs() < 0.05, "{half}");
    // What is freed five seconds later, or never, is not freed right after birth.
    for function in ["later", "never"] {
        assert!(of(function).0 < 0.02, "{sites:?}");
    }
    let rounds = traced.truth.number("rounds") as f64;
    let elapsed_s = report.0["elapsed_s"].as_f64().unwrap_or_default();
    let rate = sites[0]["allocations_per_s"].as_f64().unwrap_or_default();
    assert!((rate * elapsed_s / rounds - 1.0).abs() < 0.01, "{rate}");
}

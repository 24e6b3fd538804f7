//! Only what is old, only some sizes: of blocks and of mappings, as the program tells what it holds.

use leaktrace_tests::{Program, Report, Traced, Truth, assert_nothing_lost, trace_with};

/// More blocks than are asked for their age one by one.
const MANY: &str = "1200000";

fn traced(blocks: &str, options: &[&str]) -> Traced {
    let traced = trace_with(&Program::c("ages.c"), &[blocks], options);
    assert_nothing_lost(&traced.report);
    traced
}

fn mapped_by(report: &Report, caller: &str) -> u64 {
    report.held_by("mmap", caller).bytes
}

#[track_caller]
fn assert_old_mappings(report: &Report, truth: &Truth) {
    for site in ["old_mapping", "mixed_mappings"] {
        assert_eq!(mapped_by(report, site), truth.number(site), "{site}");
    }
    assert_eq!(mapped_by(report, "young_mapping"), 0);
    assert_eq!(report.mapped_bytes(), truth.number("mapped_bytes"));
}

#[test]
fn only_blocks_and_mappings_of_the_age_are_counted_and_each_is_asked_while_they_are_few() {
    let traced = traced("1000", &["--older", "3s"]);
    let (report, truth) = (&traced.report, &traced.truth);
    for (caller, held) in truth.sites() {
        assert_eq!(report.held_by("heap", &caller), held, "{}", report.0);
    }
    assert_eq!(report.total("live_bytes"), truth.number("live_bytes"));
    assert_eq!(report.total("live_count"), truth.number("live_count"));
    assert_old_mappings(report, truth);
    assert_eq!(report.0["older_s"], 3.0);
    assert!(report.0["older_counted_s"].is_null(), "{}", report.0);
    // The age chooses what is listed; the process is explained as a whole.
    assert!(report.0["process"]["growth_by_owner"].is_object());
}

#[test]
fn of_very_many_blocks_bytes_are_told_by_the_counters_of_births_and_no_number_is_made_up() {
    let traced = traced(MANY, &["--older", "3s", "--interval", "30s"]);
    let (report, truth) = (&traced.report, &traced.truth);
    let counted_s = report.0["older_counted_s"].as_f64();
    // At least the age asked for, and younger than what is old.
    assert!(
        counted_s.is_some_and(|age_s| (3.0..10.5).contains(&age_s)),
        "{counted_s:?}"
    );
    for (caller, held) in truth.sites() {
        let mut sites = report.sites("heap");
        let site = sites.find(|site| site.is_called_by(&caller));
        let bytes = site.as_ref().map(|site| site.0["live_bytes"].as_u64());
        assert_eq!(bytes.flatten().unwrap_or(0), held.bytes, "{caller}");
        let count = site.as_ref().map(|site| &site.0["live_count"]);
        assert!(count.is_none_or(serde_json::Value::is_null), "{caller}");
    }
    assert_eq!(report.total("live_bytes"), truth.number("live_bytes"));
    assert!(report.0["totals"]["live_count"].is_null());
    let notices = report.0["notices"].to_string();
    assert!(
        notices.contains("how many they are is not known"),
        "{notices}"
    );
    assert_old_mappings(report, truth);
}

#[test]
fn sizes_choose_blocks_and_mappings() {
    // Five pages that become ten, three and three, and eleven.
    let traced = traced("1000", &["--min-size", "500", "--max-size", "40k"]);
    let (report, truth) = (&traced.report, &traced.truth);
    let page = truth.number("page");
    assert_eq!(page, 4096, "the sizes below are those of such pages");
    assert_eq!(mapped_by(report, "old_mapping"), 10 * page);
    assert_eq!(mapped_by(report, "mixed_mappings"), 6 * page);
    assert_eq!(mapped_by(report, "young_mapping"), 0);
    assert_eq!(report.mapped_bytes(), 16 * page);
    assert_eq!(report.held_by("heap", "old_blocks").count, 0);
    assert_eq!(report.held_by("heap", "mixed_blocks").count, 80);
    assert_eq!(report.held_by("heap", "young_blocks").count, 300);
}

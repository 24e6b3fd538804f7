//! Pairs of functions that the user has named: ledgers of their own, beside an exact heap.

use leaktrace_tests::{
    Program, Report, Target, Traced, assert_nothing_lost, assert_refused, assert_sites_are_true,
    assert_totals_are_true, run, trace_with,
};
use serde_json::Value;

fn pair<'a>(report: &'a Report, text: &str) -> &'a Value {
    let pairs = report.0["pairs"].as_array().map(Vec::as_slice);
    let pairs = pairs.unwrap_or_default();
    match pairs.iter().find(|pair| pair["pair"] == text) {
        Some(pair) => pair,
        None => panic!("no pair {text} in {}", report.0),
    }
}

/// Sum over the sites of a pair with this caller.
fn bytes_of(pair: &Value, caller: &str) -> u64 {
    let sites = pair["sites"].as_array().map(Vec::as_slice);
    sites
        .unwrap_or_default()
        .iter()
        .filter(|site| site["frames"][0]["function"] == caller)
        .filter_map(|site| site["live_bytes"].as_u64())
        .sum()
}

#[test]
fn a_pool_and_the_heap_below_it_are_both_exact() {
    assert_pools_are_exact(&[]);
}

/// Several pairs, or a pair and the heap, can share a function: each has a probe of its own in it.
#[test]
fn pools_of_a_followed_process_are_exact() {
    assert_pools_are_exact(&["--follow-forks"]);
}

#[track_caller]
fn assert_pools_are_exact(more: &[&str]) {
    let pool = "pool_alloc(0i)/pool_free(1)/pool_realloc(0,1*2)";
    let handles = "handle_open(,>1)/handle_close(0)";
    let tickets = "ticket()/handle_close(0)";
    let blocks = "malloc(0)/free(0)";
    let mut options = ["--pair", pool, "--pair", handles, "--pair", tickets].to_vec();
    options.extend(["--pair", blocks]);
    options.extend(more);
    let Traced { report, truth, .. } = trace_with(&Program::c("pools.c"), &[], &options);
    assert_totals_are_true(&report, &truth);
    assert_sites_are_true(&report, &truth);
    assert_nothing_lost(&report);
    let held = pair(&report, pool);
    assert_eq!(held["unit"], "bytes");
    for name in [
        "live_bytes",
        "live_count",
        "allocated_count",
        "unmatched_frees",
    ] {
        assert_eq!(held[name], truth.number(&format!("pool_{name}")), "{held}");
    }
    for caller in ["leak_pool", "leak_grown"] {
        let truth = truth.number(&format!("{caller}_bytes"));
        assert_eq!(bytes_of(held, caller), truth, "{caller}: {held}");
    }
    let held = pair(&report, handles);
    assert_eq!(held["unit"], "objects");
    assert!(held.get("live_bytes").is_none(), "{held}");
    assert_eq!(held["live_count"], truth.number("handles_live_count"));
    assert_eq!(
        held["allocated_count"],
        truth.number("handles_allocated_count")
    );
    let held = pair(&report, tickets);
    assert_eq!(held["live_count"], 0);
    for name in ["allocated_count", "freed_count"] {
        assert_eq!(held[name], truth.number(&format!("tickets_{name}")));
    }
    let held = pair(&report, blocks);
    for name in ["live_bytes", "live_count", "unmatched_frees"] {
        assert_eq!(held[name], truth.number(name), "{held}");
    }
}

#[test]
fn handles_and_memory_of_a_library_are_counted() {
    let memory = "libsqlite3:sqlite3_malloc(0i)/libsqlite3:sqlite3_free(0)/sqlite3_realloc(0,1i)";
    let databases = "sqlite3_open(,>1)/sqlite3_close(0)";
    let statements = "sqlite3_prepare_v2(,>3)/sqlite3_finalize(0)";
    let options = ["--pair", memory, "--pair", databases, "--pair", statements];
    let program = Program::c("database.c").linked(&["-lsqlite3"]);
    let Traced { report, truth, .. } = trace_with(&program, &[], &options);
    assert_nothing_lost(&report);
    let held = pair(&report, memory);
    // The library uses these functions itself, too.
    assert_eq!(bytes_of(held, "main"), truth.number("bytes"), "{held}");
    assert_eq!(
        pair(&report, databases)["live_count"],
        truth.number("databases")
    );
    assert_eq!(
        pair(&report, statements)["live_count"],
        truth.number("statements")
    );
    assert!(report.total("live_bytes") > truth.number("bytes"));
}

#[test]
fn a_pair_that_is_not_there_is_refused_with_its_name() {
    let target = Target::start(&Program::c("late.c"), &[]);
    let pid = target.pid().to_string();
    for spec in ["no_such_alloc(0)/free(0)", "malloc(0)/libzzz:free(0)"] {
        let name = spec.split(['(', '/']).next().unwrap_or_default();
        let name = if name == "malloc" { "libzzz" } else { name };
        assert_refused(&run(&["--pid", &pid, "--pair", spec]), &[&pid, name]);
    }
}

#[test]
fn what_is_no_pair_is_wrong_usage() {
    for wrong in ["malloc", "malloc(0)", "malloc(9)/free(0)", "malloc(0)/free"] {
        let finished = run(&["--pid", "1", "--pair", wrong]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(!finished.errors.contains("panicked"), "{finished:?}");
    }
    let mut many = vec!["--pid", "1"];
    for _ in 0..9 {
        many.extend(["--pair", "malloc(0)/free(0)"]);
    }
    assert_eq!(run(&many).code, Some(2));
}

//! Stacks of threads that interrupt each other in the middle of being traced: none may be made of
//! pieces of two. `LEAKTRACE_CHAINED_ALLOCATIONS` makes it long; `cargo xtask vm` takes a million.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use leaktrace_tests::{Frame, Program, Report, Target, Tracer, Truth};

const BY_DEFAULT: u64 = 100_000;

/// More than anything takes for an allocation, emulated processors included.
const LONGEST: Duration = Duration::from_millis(1);

/// How often each chain was gone through, by its functions.
fn told(truth: &Truth) -> BTreeMap<String, u64> {
    let chain = |line: &serde_json::Value| {
        let name = line["chain"].as_str().expect("a name").to_owned();
        (name, line["count"].as_u64().expect("a count"))
    };
    truth.lines("chain").map(chain).collect()
}

/// The same as leaktrace has it. Sites that are no chain have a name that no chain has.
fn seen(report: &Report) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for site in report.sites("heap") {
        let frames = site.frames();
        let names: Vec<&str> = frames
            .iter()
            .map(|frame| Frame::function(frame).unwrap_or("?"))
            .collect();
        // Behind these two there is only the C library.
        let end = names
            .windows(2)
            .position(|two| two == ["go_through", "thread_main"]);
        let chain = match end {
            Some(end) => names[..end].concat(),
            None => names.join(";"),
        };
        let before = counts.insert(chain, site.allocated_count());
        assert_eq!(before, None, "a chain has two sites: {names:?}");
    }
    counts
}

#[test]
fn no_stack_of_threads_that_interrupt_each_other_is_made_up() {
    let allocations: u64 = std::env::var("LEAKTRACE_CHAINED_ALLOCATIONS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(BY_DEFAULT);
    let program = Program::c("chains.c").with(&["-O2", "-fomit-frame-pointer"]);
    let mut target = Target::start(&program, &[&allocations.to_string()]);
    let tracer = Tracer::attach(target.pid(), &["--interval", "1h"]);
    target.say("go");
    let truth = target.await_answer(LONGEST * u32::try_from(allocations).expect("a number"));
    let session = tracer.stop();
    let report = session.final_report();
    let (told, seen) = (told(&truth), seen(report));
    assert_eq!(told.values().sum::<u64>(), allocations);
    let made_up: Vec<_> = seen
        .iter()
        .filter(|(chain, _)| !told.contains_key(*chain))
        .collect();
    assert!(made_up.is_empty(), "made up: {made_up:?}");
    assert_eq!(report.losses(), [], "lost: {}", report.0["losses"]);
    assert_eq!(seen, told);
}

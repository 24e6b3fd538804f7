//! What was found, probed, left out and never called is said, and so is a session that has come too
//! late to see anything freed.

use leaktrace_tests::{Program, Session, Target, Tracer, trace};
use serde_json::Value;

fn probes(session: &Session) -> &[Value] {
    let probes = session.start["probes"].as_array();
    probes.map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// Every row of the start line's table stands in that of `-v`, with its place and its reason.
#[test]
fn the_table_of_probes_says_what_was_probed_where_and_what_was_left_out_why() {
    let mut target = Target::start(&Program::c("refused_place.c"), &[]);
    let tracer = Tracer::attach(target.pid(), &["-v"]);
    target.work();
    let session = tracer.stop();
    let rows: Vec<Vec<&str>> = session
        .errors
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(probes(&session).len() > 10, "{}", session.start);
    let (mut probed, mut left_out) = (0, 0);
    for probe in probes(&session) {
        let (function, object) = (text(probe, "function"), text(probe, "object"));
        let offset = probe["offset"].as_u64().unwrap_or_default();
        let attached = probe["attached"] == true;
        let row = match attached {
            true => vec![
                format!("{function}+{offset}"),
                "probed".into(),
                object.into(),
            ],
            false => vec![function.into(), "left".into(), "out".into(), object.into()],
        };
        let found = rows.iter().any(|found| found.starts_with_row(&row));
        assert!(found, "no {row:?} in {}", session.errors);
        if !attached {
            let reason = text(probe, "note");
            assert!(!reason.is_empty() && session.errors.contains(reason));
            left_out += 1;
        }
        probed += u32::from(attached);
    }
    assert!(probed > 10 && left_out > 0, "{}", session.errors);
}

trait Row {
    fn starts_with_row(&self, row: &[String]) -> bool;
}

impl Row for Vec<&str> {
    fn starts_with_row(&self, row: &[String]) -> bool {
        self.len() >= row.len() && self.iter().zip(row).all(|(a, b)| a == b)
    }
}

#[test]
fn frees_of_blocks_from_before_the_session_are_said_to_be_all_there_was() {
    let traced = trace(&Program::c("late_frees.c"), &[]);
    let unmatched = traced.truth.number("unmatched_frees");
    assert_eq!(traced.report.total("unmatched_frees"), unmatched);
    for (caller, held) in traced.truth.sites() {
        assert_eq!(traced.report.held_by("heap", &caller), held);
    }
    let notices = traced.report.0["notices"].to_string();
    assert!(notices.contains("all 2,000 frees"), "{notices}");
    assert!(notices.contains("let it run longer"), "{notices}");
}

#[test]
fn functions_whose_probes_have_not_fired_are_named() {
    let mut target = Target::start(&Program::c("late_frees.c"), &[]);
    let mut tracer = Tracer::attach(target.pid(), &["-v", "--interval", "3s"]);
    target.work();
    tracer.next_report();
    let session = tracer.stop();
    let mut lines = session.errors.lines();
    let Some(line) = lines.find(|line| line.contains("has not called: ")) else {
        panic!("nothing is said to be silent: {}", session.errors);
    };
    let named: Vec<&str> = line
        .split_once("has not called: ")
        .map_or("", |(_, names)| names)
        .split(", ")
        .collect();
    for silent in ["calloc", "realloc", "posix_memalign", "aligned_alloc"] {
        assert!(named.contains(&silent), "{silent} is not in {named:?}");
    }
    for called in ["malloc", "free"] {
        assert!(!named.contains(&called), "{called} is in {named:?}");
    }
}

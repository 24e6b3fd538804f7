//! The JSON lines of the interface.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::export::samples;
use crate::report::{Container, End, EndReason, ProbeLine, Start, TargetLine};

fn written(line: &Line) -> String {
    let mut bytes = Vec::new();
    write_line(&mut bytes, line).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// One value a line, so that a changed field is one changed line of the snapshot.
fn pretty(line: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

#[test]
fn start_line() {
    let line = written(&Line::Start(Start {
        version: "0.1.0".to_owned(),
        targets: vec![TargetLine {
            parent_pid: None,
            epoch: None,
            pid: 4242,
            comm: "api".to_owned(),
            exe: Some("/usr/bin/api".to_owned()),
            container: Some(Container {
                runtime: Some("docker"),
                id: "0123456789abcdef".repeat(4),
            }),
        }],
        probes: vec![ProbeLine {
            pid: 4242,
            object: "/usr/lib/libc.so.6".to_owned(),
            function: "malloc".to_owned(),
            offset: 0,
            attached: true,
            note: None,
        }],
        stacks: "frame-pointer".to_owned(),
        unwind_table_bytes: 262_144,
    }));
    insta::assert_snapshot!(line);
}

#[test]
fn report_line() {
    insta::assert_snapshot!(pretty(&written(&Line::Report(samples::report()))));
}

#[test]
fn end_line() {
    let line = written(&Line::End(End {
        out_of_memory: false,
        reason: EndReason::TargetKilled,
        pid: Some(4242),
        exit_code: None,
        signal: Some(9),
    }));
    insta::assert_snapshot!(line);
}

#[test]
fn every_line_is_one_object_on_one_line() {
    let text =
        written(&Line::Report(samples::report())) + &written(&Line::Report(samples::empty()));
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["kind"], "report");
    }
}

#[test]
fn what_is_unknown_is_absent() {
    let value: serde_json::Value =
        serde_json::from_str(&written(&Line::Report(samples::empty()))).unwrap();
    assert_eq!(value["process"], serde_json::json!({}));
    assert!(value.get("mapped").is_none());
    let value: serde_json::Value =
        serde_json::from_str(&written(&Line::Report(samples::report()))).unwrap();
    assert!(value["sites"][2].get("growth_bytes_per_s").is_none());
}

#[test]
fn hostile_names_are_escaped_and_read_back_as_they_were() {
    let hostile = samples::hostile();
    let line = written(&Line::Report(hostile.clone()));
    assert!(!line.trim_end().chars().any(is_unsafe));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["comm"], hostile.comm);
    for (i, frame) in hostile.sites[0].frames.iter().enumerate() {
        let read = &value["sites"][0]["frames"][i];
        assert_eq!(read["function"], *frame.function.as_ref().unwrap());
        assert_eq!(read["module"], *frame.module.as_ref().unwrap());
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let mut full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let error = write_line(&mut full, &Line::Report(samples::empty())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

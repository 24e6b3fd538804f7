//! Text reports as people see them, and the promises that hold for any report.

use super::*;
use crate::export::columns::{MAX_COLUMNS, width};
use crate::export::samples;
use crate::export::sanitize::is_unsafe;
use crate::report::Frame;

fn plain_text(of: &Report) -> String {
    report(of, Style { colour: false })
}

fn assert_fits(text: &str) {
    for line in text.lines() {
        let columns = width(line);
        assert!(columns <= MAX_COLUMNS, "{columns} columns: {line}");
    }
}

#[test]
fn report_with_sites() {
    let text = plain_text(&samples::report());
    assert_fits(&text);
    insta::assert_snapshot!(text);
}

#[test]
fn report_with_losses_and_notices() {
    let mut sample = samples::report();
    for (i, lost) in sample.losses.values_mut().enumerate() {
        *lost = (i as u64 % 8) * 1_234_567;
    }
    sample.notices = vec![
        "The process has been replaced by exec since the start; what it held before is gone."
            .to_owned(),
        "Probes on reallocarray and pvalloc have not fired.".to_owned(),
    ];
    sample.sites.truncate(1);
    sample.site_count = 1;
    let text = plain_text(&sample);
    assert_fits(&text);
    insta::assert_snapshot!(text);
}

#[test]
fn report_with_nothing_live() {
    insta::assert_snapshot!(plain_text(&samples::empty()));
}

#[test]
fn silence_is_said() {
    let mut silent = samples::empty();
    silent.totals = Default::default();
    assert!(plain_text(&silent).ends_with("no allocation was seen in 10.0 s\n\n"));
    silent.totals.live_count = 5;
    assert!(plain_text(&silent).contains("5 blocks live, none of them at a site that is listed"));
}

#[test]
fn long_and_many_frames_fit_and_say_what_is_left_out() {
    let mut sample = samples::report();
    let long = "std::vector<std::map<std::string, std::shared_ptr<Session>>>::".repeat(5);
    let frame = |i: u32| Frame {
        function: Some(format!("{long}push_back(int)")),
        module: Some("/usr/bin/api".to_owned()),
        offset: Some(0x1234),
        file: Some(format!("/src/{}.cpp", "very_long_file_name_".repeat(6))),
        line: Some(i),
        inlined: i.is_multiple_of(2),
        ..Frame::default()
    };
    sample.sites[0].frames = (0..100).map(frame).collect();
    sample.sites[0].live_count = 1_234_567_890;
    sample.sites[0].growth_bytes_per_s = Some(-1_073_000_000.0);
    sample.sites[0].verdict = Verdict::Shrinking;
    sample.comm = "计".repeat(200);
    let text = plain_text(&sample);
    assert_fits(&text);
    assert!(text.contains("… 68 more\n"));
    assert!(text.contains("push_back(int)+0x1234"), "{text}");
    assert!(
        text.contains(":99 (inlined)") || text.contains(":30 (inlined)"),
        "{text}"
    );
}

#[test]
fn hostile_names_reach_the_terminal_as_escapes() {
    let text = plain_text(&samples::hostile());
    assert!(
        text.lines().all(|line| !line.chars().any(is_unsafe)),
        "{text}"
    );
    assert_fits(&text);
    insta::assert_snapshot!(text);
}

#[test]
fn colour_changes_nothing_but_the_verdicts() {
    let sample = samples::report();
    let coloured = report(&sample, Style { colour: true });
    assert!(coloured.contains("\x1b[1;31mleaking  \x1b[0m"));
    let stripped = coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", "");
    assert_eq!(stripped, plain_text(&sample));
}

//! Text reports as people see them, and the promises that hold for any report.

use super::*;
use crate::export::columns::{MAX_COLUMNS, width};
use crate::export::samples;
use crate::export::sanitize::is_unsafe;
use crate::report::{Frame, KindsLine, Site};

fn plain_text(of: &Report) -> String {
    report(of, Style::default())
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
    silent.totals.live_count = Some(5);
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
    sample.sites[0].live_count = Some(1_234_567_890);
    sample.sites[0].growth_bytes_per_s = Some(-1_073_000_000.0);
    sample.sites[0].verdict = Verdict::Shrinking;
    sample.comm = "计".repeat(200);
    let text = detailed(&sample, Detail::Whole);
    assert_fits(&text);
    assert!(text.contains("… 68 more\n"));
    assert!(text.contains("push_back(int)+0x1234"), "{text}");
    assert!(
        text.contains(":99 (inlined)") || text.contains(":30 (inlined)"),
        "{text}"
    );
}

/// A leak among eight small sites at rest, one that is small and unknown, and one that is large.
fn many_sites() -> Report {
    let mut sample = samples::report();
    let leak = sample.sites[0].clone();
    let at_rest = Site {
        verdict: Verdict::Steady,
        growth_bytes_per_s: Some(0.0),
        live_bytes: 5_000,
        live_count: Some(5),
        ..leak.clone()
    };
    let unknown = Site {
        verdict: Verdict::Unknown,
        growth_bytes_per_s: None,
        ..at_rest.clone()
    };
    let large = Site {
        live_bytes: 12_000_000,
        ..at_rest.clone()
    };
    sample.sites = vec![leak, unknown, large];
    sample.sites.extend(vec![at_rest; 8]);
    sample
}

fn detailed(of: &Report, detail: Detail) -> String {
    let style = Style {
        detail,
        ..Style::default()
    };
    report(of, style)
}

fn listed(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with('#')).count()
}

#[test]
fn small_sites_that_do_not_grow_are_one_line_unless_they_were_asked_for() {
    let mut sample = many_sites();
    sample.site_count = 11;
    let text = plain_text(&sample);
    assert_eq!(listed(&text), 3, "{text}");
    let line = "… 8 more sites that do not grow and hold less than 1% each, ";
    assert!(text.contains(line), "{text}");
    sample.site_count = 40;
    let text = plain_text(&sample);
    assert_fits(&text);
    let line = "… 37 more sites with ";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("the next 8 do not grow"), "{text}");
    sample.unlisted_growth_bytes_per_s = Some(6_815_744.0);
    let text = plain_text(&sample);
    assert_fits(&text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    assert!(words.contains("the fastest at +6.5 MiB/s"), "{text}");
    for detail in [Detail::Chosen, Detail::Whole] {
        assert_eq!(listed(&detailed(&sample, detail)), 11);
    }
}

#[test]
fn merged_stacks_that_are_empty_hide_none_that_is_left_out() {
    let mut sample = many_sites();
    sample.sites[0].stacks = 40;
    sample.sites[0].empty_stacks = 38;
    sample.site_count = 12;
    let text = plain_text(&sample);
    let line = "… 8 more sites that do not grow";
    assert!(text.contains(line), "{text}");
}

#[test]
fn where_all_sites_are_small_and_at_rest_the_first_are_listed() {
    let mut sample = many_sites();
    sample.sites.drain(..3);
    sample.site_count = 8;
    let text = plain_text(&sample);
    assert_eq!(listed(&text), 3, "{text}");
    assert!(text.contains("… 5 more sites that do not grow"), "{text}");
}

#[test]
fn a_stack_where_nothing_grows_is_cut_behind_the_frame_to_look_at() {
    let mut sample = many_sites();
    let frame = sample.sites[0].frames[0].clone();
    for site in &mut sample.sites {
        site.frames = vec![frame.clone(); 20];
        site.suspect_frame = Some(10);
    }
    sample.sites.truncate(3);
    let text = plain_text(&sample);
    // The leak, the one of which nothing is known, and the large one that rests.
    let frames = text.matches("leak_a+0x9").count();
    assert_eq!(frames, 20 + 20 + 12, "{text}");
    assert!(text.contains("… 8 more\n"), "{text}");
}

#[test]
fn a_child_in_which_nothing_happens_is_a_line_with_what_was_lost() {
    let mut child = samples::empty();
    child.parent_pid = Some(77);
    child.totals.unmatched_frees = Some(0);
    let text = plain_text(&child);
    let line = "pid 4242 (api) after 10.0 s, final report: 0 B live in 0 blocks (1,204 allocated, 1,204 freed)\n";
    assert_eq!(text, line);
    child.losses.insert("event_lost".to_owned(), 3);
    child.notices.push("It was so.".to_owned());
    let text = plain_text(&child);
    assert!(text.contains("\n  lost  event_lost 3\n"), "{text}");
    assert!(text.ends_with("\n  note  It was so.\n"), "{text}");
}

#[test]
fn a_child_that_leaks_or_holds_much_is_reported_in_full() {
    let mut leaks = samples::report();
    leaks.parent_pid = Some(77);
    leaks.totals.live_bytes = 1000;
    leaks.mapped = None;
    let mut holds = samples::empty();
    holds.parent_pid = Some(77);
    holds.totals.live_bytes = 2 << 20;
    let mut quiet = samples::empty();
    quiet.parent_pid = Some(77);
    for (of, detail) in [
        (&leaks, Detail::Brief),
        (&holds, Detail::Brief),
        (&quiet, Detail::Whole),
    ] {
        let text = detailed(of, detail);
        assert!(text.contains("\n  heap  "), "{text}");
    }
    assert!(!detailed(&quiet, Detail::Chosen).contains("\n  heap  "));
}

#[test]
fn a_child_that_grows_by_what_is_not_tracked_is_reported_in_full() {
    let child = |change: &dyn Fn(&mut Report)| {
        let mut child = samples::empty();
        child.parent_pid = Some(77);
        child.process.growth_by_kind = Some(KindsLine {
            file_bytes: 30 << 20,
            ..KindsLine::default()
        });
        change(&mut child);
        plain_text(&child)
    };
    let is_in_full = |text: String| text.contains("\n  heap  ");
    assert!(!is_in_full(child(&|_| {})), "pages of files are its code");
    let kinds = |change: fn(&mut KindsLine)| {
        child(&|child| child.process.growth_by_kind.iter_mut().for_each(change))
    };
    assert!(is_in_full(kinds(|kinds| kinds.anonymous_bytes = 3 << 30)));
    assert!(is_in_full(kinds(|kinds| kinds.shared_bytes = 3 << 30)));
    assert!(is_in_full(kinds(|kinds| kinds.swapped_bytes = 3 << 30)));
    assert!(is_in_full(child(&|child| {
        child.process.growth_by_kind = None;
        child.process.rss_growth_bytes = Some(3 << 30);
    })));
    assert!(is_in_full(child(&|child| {
        child.process.next_tool = Some("pmap".to_owned());
    })));
    assert!(is_in_full(child(&|child| {
        child.time_left.time_left_s = Some([20.0, 30.0]);
    })));
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
    let coloured = report(
        &sample,
        Style {
            colour: true,
            ..Style::default()
        },
    );
    assert!(coloured.contains("\x1b[1;31mleaking  \x1b[0m"));
    let stripped = coloured.replace("\x1b[1;31m", "").replace("\x1b[0m", "");
    assert_eq!(stripped, plain_text(&sample));
}

//! Reports that the tests of the formats share.

use std::collections::BTreeMap;

use leaktrace_common::loss::Loss;

use crate::report::{
    Frame, GrownFile, KindsLine, LimitLine, MappedLine, OwnersLine, ProcessLine, Report, Site,
    TimeLeftLine, TotalsLine, Verdict,
};

fn frame(function: &str, file: Option<(&str, u32)>) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        module: Some("/usr/bin/api".to_owned()),
        address: 0x0040_1182,
        offset: Some(0x9),
        file: file.map(|(file, _)| file.to_owned()),
        line: file.map(|(_, line)| line),
        inlined: false,
        is_exact: false,
    }
}

fn site(id: &str, source: &'static str, live_bytes: u64, frames: Vec<Frame>) -> Site {
    Site {
        id: id.to_owned(),
        source,
        live_bytes,
        live_count: Some(1_234),
        allocated_count: 1_300,
        allocated_bytes: live_bytes + 4_096,
        live_bytes_since_s: None,
        growth_bytes_per_s: Some(524_288.0),
        growth_interval_bytes_per_s: Some([419_430.4, 629_145.6]),
        verdict: Verdict::Leaking,
        reason: "grew in 11 of 12 intervals, 98% of what outlived 30.0 s is still live, \
                 +512.0 KiB/s ± 102.4 KiB/s"
            .to_owned(),
        complete: true,
        truncated: None,
        suspect_frame: Some(0),
        stacks: 1,
        empty_stacks: 0,
        frames,
    }
}

fn losses() -> BTreeMap<String, u64> {
    let mut losses: BTreeMap<String, u64> = Loss::ALL
        .iter()
        .map(|loss| (loss.name().to_owned(), 0))
        .collect();
    losses.insert("stack_truncated".to_owned(), 0);
    losses
}

/// A leak with named and inlined frames, a stripped one whose stack is cut, and a mapping.
pub(super) fn report() -> Report {
    let leak = site(
        "9f3c0123456789ab",
        "heap",
        12_897_484,
        vec![
            frame("leak_a", Some(("src/leak.c", 4))),
            Frame {
                inlined: true,
                offset: None,
                ..frame("handle", Some(("src/api/handle.c", 120)))
            },
            frame("main", Some(("src/main.c", 10))),
            Frame {
                module: Some("/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned()),
                ..frame("__libc_start_main", None)
            },
        ],
    );
    let stripped = Frame {
        function: None,
        module: Some("/opt/vendor/libclosed.so.3".to_owned()),
        address: 0x7f12_3400_1234,
        offset: Some(0x1234),
        ..Frame::default()
    };
    let mut cut = site("00ff00ff00ff00ff", "heap", 15_000_000, vec![stripped]);
    cut.growth_bytes_per_s = Some(-3.25);
    cut.growth_interval_bytes_per_s = Some([-20.0, 12.0]);
    cut.verdict = Verdict::Steady;
    cut.reason = "has not changed in 10.0 s".to_owned();
    cut.live_count = Some(1);
    cut.complete = false;
    cut.truncated = Some("the caller keeps no frame pointer");
    let mut mapping = site(
        "abcdef0123456789",
        "mmap",
        4_194_304,
        vec![frame("grow_arena", None), frame("main", None)],
    );
    mapping.growth_bytes_per_s = None;
    mapping.growth_interval_bytes_per_s = None;
    mapping.reason = "too little was seen: 1.0 s".to_owned();
    mapping.verdict = Verdict::Unknown;
    mapping.live_count = Some(3);
    Report {
        parent_pid: None,
        epoch: None,
        unseen_s: None,
        older_s: None,
        older_counted_s: None,
        seq: 1,
        is_final: false,
        time: std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_795_293_241_042),
        elapsed_s: 10.0,
        pid: 4242,
        comm: "api".to_owned(),
        process: ProcessLine {
            rss_bytes: Some(129_394_278),
            rss_growth_bytes: Some(29_360_128),
            explained_ratio: Some(0.97),
            rss_pattern: Some("climbing"),
            growth_by_kind: Some(KindsLine {
                anonymous_bytes: 29_000_000,
                file_bytes: 360_128,
                untracked_anonymous_bytes: 1_040_000,
                ..KindsLine::default()
            }),
            rss_at_start_bytes: Some(100_034_150),
            growth_by_owner: Some(OwnersLine {
                at_s: 10.0,
                heap_bytes: 23_000_000,
                allocator_bytes: 1_305_696,
                mapped_bytes: 4_194_304,
                file_bytes: 360_128,
                untracked_bytes: 500_000,
                largest_file: Some(GrownFile {
                    path: "/var/lib/api/index\u{1b}[2J".to_owned(),
                    bytes: 300_000,
                }),
                ..OwnersLine::default()
            }),
            runtime: Some("cpython"),
            next_tool: None,
        },
        limits: vec![LimitLine {
            kind: "cgroup",
            limit_bytes: 268_435_456,
            used_bytes: 140_000_000,
        }],
        time_left: TimeLeftLine {
            time_left_s: Some([220.0, 290.0]),
            time_left_until: Some("cgroup"),
        },
        totals: TotalsLine {
            live_bytes: 28_660_000,
            live_count: Some(1_300),
            allocated_bytes: 40_000_000,
            allocated_count: 56_780,
            freed_bytes: 11_340_000,
            freed_count: 55_480,
            unmatched_frees: Some(87),
        },
        mapped: Some(MappedLine {
            live_bytes: 4_194_304,
            live_count: 3,
            reserved_bytes: 0,
        }),
        losses: losses(),
        truncated_stacks: BTreeMap::from([("no_unwind_info", 12), ("too_deep", 0)]),
        lost_bytes: BTreeMap::new(),
        unwind_table_bytes: 524_288,
        sites: vec![leak, cut, mapping],
        site_count: 15,
        unlisted_growth_bytes_per_s: None,
        pairs: Vec::new(),
        churn: Vec::new(),
        alerts: Vec::new(),
        alert_changes: Vec::new(),
        notices: Vec::new(),
    }
}

/// Everything that was allocated is freed.
pub(super) fn empty() -> Report {
    Report {
        is_final: true,
        seq: 2,
        process: ProcessLine::default(),
        limits: Vec::new(),
        time_left: TimeLeftLine::default(),
        totals: TotalsLine {
            allocated_bytes: 99_000,
            allocated_count: 1_204,
            freed_bytes: 99_000,
            freed_count: 1_204,
            live_count: Some(0),
            ..TotalsLine::default()
        },
        mapped: None,
        sites: Vec::new(),
        site_count: 0,
        unlisted_growth_bytes_per_s: None,
        ..report()
    }
}

/// Names that try to steer terminals, XML readers and readers of folded stacks.
pub(super) fn hostile() -> Report {
    let names = [
        "<b>&\"']]>",
        "esc\u{1b}[2J\u{9b}31m",
        "bidi\u{202e}\u{2066}gpj.exe",
        "zero\u{200b}\u{feff}width",
        "line\nbreak;semi 4096",
        "nul\u{0}\u{ffff}",
    ];
    let mut report = report();
    report.comm = "# <a&\u{1b}\u{202e}> 7".to_owned();
    let mut frames: Vec<Frame> = names.map(|name| frame(name, Some((name, 1)))).into();
    for frame in &mut frames {
        frame.module = Some("/tmp/\u{1b}]0;x\u{7}\n".to_owned());
    }
    report.notices = vec!["a notice\u{1b}[31m".to_owned()];
    report.sites = vec![site("1", "heap", 4096, frames)];
    report.site_count = 1;
    report
}

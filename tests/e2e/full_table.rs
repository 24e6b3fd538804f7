//! A process that runs another program when there is no room for one more: what it held before is not
//! shown as the new program's, and that nothing is counted is said.

use std::time::{Duration, Instant};

use leaktrace_tests::{PATIENCE, Program, Report, Target, Tracer};

/// The table has room for 256 processes and programs.
const CHILDREN: &str = "262";

/// Waits for a report of this process.
fn report_of(tracer: &mut Tracer, pid: u32, is_meant: impl Fn(&Report) -> bool) -> Report {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let report = tracer.next_report();
        if report.0["pid"] == pid && is_meant(&report) {
            return report;
        }
    }
    panic!("no such report of process {pid}");
}

#[test]
fn a_program_without_a_place_is_not_shown_with_the_blocks_of_the_one_before() {
    let mut target = Target::start(&Program::c("full_table.c"), &[CHILDREN]);
    let pid = target.pid();
    let mut tracer = Tracer::attach(pid, &["--follow-forks", "--interval", "2s"]);
    let truth = target.work();
    let (site, held) = truth.sites()[0].clone();
    let before = report_of(&mut tracer, pid, |report| {
        report.loss("process_table_full") > 0 && report.held_by("heap", &site) == held
    });
    assert!(before.0["epoch"].is_null(), "{}", before.0);

    target.say("run the other one");
    target.await_answer(Duration::ZERO);
    let last = report_of(&mut tracer, pid, |report| {
        report.loss("process_table_full") > before.loss("process_table_full")
    });
    assert!(last.0["epoch"].is_null(), "{}", last.0);
    assert_eq!(last.held_by("heap", &site), held);

    let next = report_of(&mut tracer, pid, |_| true);
    assert_is_uncounted(&next);
    let session = tracer.stop();
    let mut reports = session.reports.iter().rev();
    let Some(last) = reports.find(|report| report.0["pid"] == pid) else {
        panic!("no report of process {pid}");
    };
    assert!(last.is_final(), "{}", last.0);
    assert_is_uncounted(last);
    target.end();
}

#[track_caller]
fn assert_is_uncounted(report: &Report) {
    assert_eq!(report.0["epoch"], 2, "{}", report.0);
    assert_eq!(report.total("live_bytes"), 0);
    assert_eq!(report.sites("heap").count(), 0, "{}", report.0);
    let process = &report.0["process"];
    assert!(process["explained_ratio"].is_null(), "{}", report.0);
    assert!(process["growth_by_owner"].is_null(), "{}", report.0);
    let notices = report.0["notices"].to_string();
    assert!(notices.contains("nothing of that is counted"), "{notices}");
}

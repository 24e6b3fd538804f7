//! Attach, detach and reports are quick, and reports stay cheap when much is live. Times hold for a
//! release build on a machine with nothing else to do; each measured value is printed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use leaktrace_tests::{
    Program, Target, Tracer, assert_totals_are_true, cpu_time, peak_resident_bytes,
};

const ATTACH: Duration = Duration::from_millis(500);
const DETACH: Duration = Duration::from_millis(300);
const CPU_SHARE: f64 = 0.05;
const RESIDENT_BYTES: u64 = 150_000_000;
const REPORTS: u32 = 10;

/// A measurement does not run beside another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The least of five: whatever else the machine does only adds.
fn least(measure: impl FnMut() -> Duration) -> Duration {
    let values = std::iter::repeat_with(measure).take(5);
    values.min().unwrap_or_default()
}

fn assert_quick(what: &str, pid: u32) {
    let mut detached = Vec::new();
    let attached = least(|| {
        let tracer = Tracer::attach(pid, &[]);
        let attached_in = tracer.attached_in;
        detached.push(tracer.stop().ended_in);
        attached_in
    });
    let detached = detached.into_iter().min().unwrap_or_default();
    eprintln!("{what}: attached in {attached:?}, detached in {detached:?}");
    assert!(attached <= ATTACH, "{what}: attached in {attached:?}");
    assert!(detached <= DETACH, "{what}: detached in {detached:?}");
}

#[test]
fn attach_takes_less_than_500_ms_and_detach_less_than_300_ms() {
    let _alone = alone();
    let idle = Target::start(&Program::c("thread_leaks.c"), &["20", "1", "1"]);
    assert_quick("an idle target", idle.pid());
    drop(idle);
    let busy = Target::start(&Program::c("churn.c"), &["1"]);
    assert_quick("a busy target", busy.pid());
}

#[test]
fn a_million_live_blocks_of_ten_thousand_stacks_are_reported_cheaply() {
    let _alone = alone();
    let mut target = Target::start(&Program::c("many_sites.c"), &["10000", "100"]);
    let options = ["--interval", "1s", "--top", "10"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    target.work();
    // The first two reports see everything for the first time.
    tracer.next_report();
    tracer.next_report();
    let (begun, cpu_begun) = (Instant::now(), cpu_time(tracer.pid()));
    for _ in 0..REPORTS {
        tracer.next_report();
    }
    let share = (cpu_time(tracer.pid()) - cpu_begun).as_secs_f64() / begun.elapsed().as_secs_f64();
    let resident = peak_resident_bytes(tracer.pid());
    let truth = target.answer("stop");
    let session = tracer.stop();
    eprintln!(
        "{:.1}% of a core, {} MB, detached in {:?}",
        share * 100.0,
        resident / 1_000_000,
        session.ended_in
    );
    assert_totals_are_true(session.final_report(), &truth);
    assert!(session.final_report().total("live_count") >= 1_000_000);
    assert!(share < CPU_SHARE, "{:.1}% of a core", share * 100.0);
    assert!(resident < RESIDENT_BYTES, "{resident} bytes resident");
    assert!(
        session.ended_in <= DETACH,
        "detached in {:?}",
        session.ended_in
    );
}

//! The usual course of a test: a program is ready, leaktrace attaches, the program works, leaktrace
//! stops, and what it said is compared with what the program knows about itself.

use crate::report::Held;
use crate::{Program, Report, Session, Target, Tracer, Truth};

/// A program that has worked under leaktrace.
#[derive(Debug)]
pub struct Traced {
    /// What leaktrace said last.
    pub report: Report,
    /// All that leaktrace said.
    pub session: Session,
    /// What the program said.
    pub truth: Truth,
    /// The program, which still waits.
    pub target: Target,
}

/// Lets a program work under leaktrace.
pub fn trace(program: &Program, arguments: &[&str]) -> Traced {
    trace_with(program, arguments, &[])
}

/// Lets a program work under leaktrace with more options.
pub fn trace_with(program: &Program, arguments: &[&str], options: &[&str]) -> Traced {
    let mut target = Target::start(program, arguments);
    let tracer = Tracer::attach(target.pid(), options);
    let truth = target.work();
    let session = tracer.stop();
    Traced {
        report: session.final_report().clone(),
        session,
        truth,
        target,
    }
}

/// Asserts that each caller holds what the program says, and that no heap site has another caller
/// if the program has told what it holds in all.
#[track_caller]
pub fn assert_sites_are_true(report: &Report, truth: &Truth) {
    for (caller, held) in truth.sites() {
        let seen = report.held_by("heap", &caller);
        assert_eq!(seen, held, "live through {caller}; report: {}", report.0);
    }
    let mut sum = Held::default();
    for site in report.sites("heap") {
        assert!(
            site.held().count > 0,
            "a site without live blocks: {}",
            site.0
        );
        sum.bytes += site.held().bytes;
        sum.count += site.held().count;
    }
    assert_eq!(
        sum.bytes,
        report.total("live_bytes"),
        "sites add up to the total"
    );
    assert_eq!(
        sum.count,
        report.total("live_count"),
        "sites add up to the total"
    );
}

/// Asserts that every total that the program tells is the one reported.
#[track_caller]
pub fn assert_totals_are_true(report: &Report, truth: &Truth) {
    let names = [
        "live_bytes",
        "live_count",
        "allocated_bytes",
        "allocated_count",
        "freed_bytes",
        "freed_count",
        "unmatched_frees",
    ];
    for name in names {
        if let Some(value) = truth.find(name) {
            assert_eq!(report.total(name), value, "{name}; report: {}", report.0);
        }
    }
    let live = report.total("allocated_bytes") - report.total("freed_bytes");
    assert_eq!(
        live,
        report.total("live_bytes"),
        "allocated less freed is live"
    );
    let live = report.total("allocated_count") - report.total("freed_count");
    assert_eq!(
        live,
        report.total("live_count"),
        "allocated less freed is live"
    );
}

/// Asserts that no allocation escaped.
#[track_caller]
pub fn assert_nothing_lost(report: &Report) {
    assert_eq!(report.lost_from_numbers(), [], "lost");
}

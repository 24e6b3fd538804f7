//! The target does what it would do alone, and its code is whole again when leaktrace is gone, however
//! it went.

use std::time::{Duration, Instant};

use leaktrace_tests::{PATIENCE, Program, Target, Tracer, Truth, code_at};
use rustix::process::Signal;

/// Functions whose code in memory is not what the program had before anybody touched it.
fn changed_functions(pid: u32, truth: &Truth) -> Vec<String> {
    truth
        .lines("code")
        .filter(|line| {
            let original = line["bytes"].as_str().unwrap_or_default();
            let address = line["address"].as_u64().unwrap_or_default();
            code_at(pid, address, original.len() / 2) != original
        })
        .map(|line| line["function"].to_string())
        .collect()
}

/// The kernel removes the probes of a killed process behind its back.
fn wait_until_original(pid: u32, truth: &Truth) -> Duration {
    let begun = Instant::now();
    loop {
        let changed = changed_functions(pid, truth);
        if changed.is_empty() {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "still changed: {changed:?}");
        std::thread::yield_now();
    }
}

fn assert_runs_on(target: &mut Target) {
    let before = target.answer("?").number("rounds");
    let begun = Instant::now();
    while target.answer("?").number("rounds") < before + 20_000 {
        assert!(begun.elapsed() < PATIENCE, "the target does not run on");
    }
}

#[test]
fn a_killed_leaktrace_leaves_a_target_under_full_load_running_and_unchanged() {
    let mut target = Target::start(&Program::c("churn.c"), &["8"]);
    let truth = target.truth().clone();
    let tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    let probed = changed_functions(target.pid(), &truth);
    assert!(
        probed.contains(&"\"malloc\"".to_owned()),
        "probed: {probed:?}"
    );
    target.answer("?");
    tracer.signal(Signal::KILL);
    drop(tracer);
    let restored_in = wait_until_original(target.pid(), &truth);
    eprintln!("original code {restored_in:?} after the kill");
    assert_runs_on(&mut target);
    target.answer("stop");
    let (_, status) = target.end();
    assert!(status.success(), "{status}");
}

#[test]
fn leaktrace_leaves_nothing_in_the_target_when_it_ends() {
    let mut target = Target::start(&Program::c("churn.c"), &["8"]);
    let truth = target.truth().clone();
    let tracer = Tracer::attach(target.pid(), &[]);
    tracer.stop().final_report();
    assert_eq!(
        changed_functions(target.pid(), &truth),
        Vec::<String>::new()
    );
    assert_runs_on(&mut target);
    target.answer("stop");
    assert!(target.end().1.success());
}

#[test]
fn a_leaktrace_that_comes_and_goes_often_does_no_harm() {
    let mut target = Target::start(&Program::c("churn.c"), &["4"]);
    for round in 0..6 {
        let tracer = Tracer::attach(target.pid(), &[]);
        if round % 2 == 0 {
            tracer.stop().final_report();
        } else {
            tracer.signal(Signal::KILL);
        }
    }
    let truth = target.truth().clone();
    wait_until_original(target.pid(), &truth);
    assert_runs_on(&mut target);
    target.answer("stop");
    assert!(target.end().1.success());
}

#[test]
fn output_and_exit_code_are_the_same_with_and_without_leaktrace() {
    let program = Program::c("identity.c");
    let mut alone = Target::start(&program, &[]);
    alone.say("go");
    let (output_alone, status_alone) = alone.end();
    assert_eq!(status_alone.code(), Some(42));
    assert_eq!(output_alone.last().map(String::as_str), Some("end"));

    let mut target = Target::start(&program, &[]);
    let tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    target.say("go");
    let (output, status) = target.end();
    let session = tracer.wait();
    assert_eq!(output, output_alone);
    assert_eq!(status, status_alone);
    assert!(session.final_report().total("allocated_count") > 10_000);
    assert_eq!(session.end["exit_code"], 42);
}

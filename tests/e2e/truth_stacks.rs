//! Stacks of code without frame pointers, against those that glibc's `backtrace` finds inside the
//! process for the same allocations.

use std::path::Path;
use std::process::Command;

use leaktrace_tests::{Agreement, Program, compare_stacks};

/// What no compiler driver does by itself, and distributions build with.
const OPTIMISED: [&str; 2] = ["-O2", "-fomit-frame-pointer"];

#[track_caller]
fn assert_true(name: &str, agreement: &Agreement, at_least: f64) {
    let report = agreement.session.final_report();
    println!(
        "{name}: {} stacks, {:.3}% equal and complete, {} wrong, {} cut: {}",
        agreement.taken,
        agreement.ratio() * 100.0,
        agreement.wrong,
        agreement.truncated,
        report.0["truncated_stacks"],
    );
    assert!(
        agreement.taken > 100,
        "{name} has allocated next to nothing"
    );
    assert_eq!(agreement.wrong, 0, "{name}: {:#?}", agreement.examples);
    assert!(
        agreement.ratio() >= at_least,
        "{name}: {} of {} are equal; {}",
        agreement.equal,
        agreement.taken,
        report.0["truncated_stacks"]
    );
}

/// A program of the distribution, if it is there.
fn installed(program: &str) -> Option<Command> {
    if Path::new(program).exists() {
        return Some(Command::new(program));
    }
    println!("{program} is not installed: skipped");
    None
}

#[test]
fn every_shape_of_c_frames_is_unwound() {
    let program = Program::c("stack_shapes.c").with(&OPTIMISED);
    let agreement = compare_stacks(&mut Command::new(program.path()), &[]);
    assert_true("C", &agreement, 1.0);
}

#[test]
fn frames_of_cpp_are_unwound_while_exceptions_fly() {
    let program = Program::cpp("stack_exceptions.cc").with(&OPTIMISED);
    let agreement = compare_stacks(&mut Command::new(program.path()), &[]);
    assert_true("C++", &agreement, 1.0);
}

#[test]
fn a_stripped_interpreter_is_unwound() {
    let Some(mut perl) = installed("/usr/bin/perl") else {
        return;
    };
    let script = r#"my %h; for my $i (1..2000) { $h{"key $i"} = [map { "value $_" } 1..3]; }
        my @k = sort { $h{$a}[0] cmp $h{$b}[0] || $a cmp $b } keys %h; $_ =~ s/(\d+)/<$1>/ for @k;"#;
    let agreement = compare_stacks(perl.args(["-e", script]), &[]);
    assert_true("perl", &agreement, 0.999);
}

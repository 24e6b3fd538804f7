//! Stacks of code without frame pointers, against those that glibc's `backtrace` finds inside the
//! process for the same allocations.

#![expect(
    clippy::print_stdout,
    reason = "tests say how far stacks agree, and what they skip"
)]

use std::path::Path;
use std::process::Command;

use leaktrace_tests::{Agreement, Program, compare_stacks};

/// What no compiler driver does by itself, and distributions build with.
const OPTIMISED: [&str; 2] = ["-O2", "-fomit-frame-pointer"];

#[track_caller]
fn assert_true(name: &str, agreement: &Agreement, at_least: f64) {
    let report = agreement.session.final_report();
    println!(
        "{name}: {} stacks, {:.3}% equal and complete, {} wrong, {} missing, {} cut: {}",
        agreement.taken,
        agreement.ratio() * 100.0,
        agreement.wrong,
        agreement.missing,
        agreement.truncated,
        report.0["truncated_stacks"],
    );
    assert!(
        agreement.taken > 100,
        "{name} has allocated next to nothing"
    );
    assert_eq!(agreement.wrong, 0, "{name}: {:#?}", agreement.examples);
    assert_eq!(agreement.missing, 0, "{name}: {}", report.0["losses"]);
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

#[test]
fn an_interpreter_that_loads_modules_is_unwound() {
    let Some(mut python) = installed("/usr/bin/python3") else {
        return;
    };
    let script = "import json, re, decimal, random, collections\n\
        d = {str(i): [random.random()] * 3 for i in range(500)}\n\
        t = json.loads(json.dumps(d))\n\
        w = collections.Counter(re.findall('[0-9]+', str(t)))\n\
        s = sum(decimal.Decimal(k) for k in w)\n";
    let agreement = compare_stacks(
        python
            .env("PYTHONMALLOC", "malloc")
            .args(["-S", "-c", script]),
        &[],
    );
    // The first calls into a module that has just been loaded can come before its table.
    assert_true("python3", &agreement, 0.999);
}

#[test]
fn a_database_without_frame_pointers_is_unwound() {
    let Some(mut sqlite) = installed("/usr/bin/sqlite3") else {
        return;
    };
    let statements = "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 \
        from n where i < 2000) insert into t select i, 'x' || i from n; create index k on t(b); \
        select count(*) from t a join t b on a.b = b.b; select group_concat(b) from t;";
    let agreement = compare_stacks(sqlite.args([":memory:", statements]), &[]);
    assert_true("sqlite3", &agreement, 0.999);
}

/// A library with frames of its own size.
fn plugin(words: &'static str) -> std::path::PathBuf {
    let flags = ["-O2", "-fomit-frame-pointer", "-shared", "-fPIC"];
    Program::c("stack_plugin.c")
        .with(&flags)
        .with(&[words])
        .path()
}

#[test]
fn code_that_takes_the_place_of_other_code_is_never_mistaken_for_it() {
    let program = Program::c("stack_plugins.c").with(&OPTIMISED);
    let plugins = [plugin("-DWORDS=10"), plugin("-DWORDS=14")];
    let agreement = compare_stacks(Command::new(program.path()).args(plugins), &[]);
    // Libraries that live for less than a millisecond are gone before anybody has looked at them.
    assert_true("plugins", &agreement, 0.0);
}

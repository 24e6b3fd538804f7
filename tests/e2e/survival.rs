//! What tracers have killed: exceptions, coroutines, cancelled threads, signal stacks, cgo, seccomp,
//! children and libraries that come and go. Each program says and ends the same with leaktrace and
//! without, and what it holds is counted exactly.

use leaktrace_tests::{
    Program, Survived, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true,
    survives, trace,
};

const EXIT_CODE: i32 = 42;

#[track_caller]
fn survives_exactly(program: &Program, arguments: &[&str]) -> Survived {
    let survived = survives_truly(program, arguments);
    assert_nothing_lost(survived.session.final_report());
    survived
}

/// A thread that begins a call on another stack in the middle of a call looks like one that has left
/// the first by a jump: that one is counted as lost, with its bytes.
#[track_caller]
fn survives_but_for_interrupted_calls(program: &Program, arguments: &[&str]) {
    let Survived { session, truth } = survives_truly(program, arguments);
    let report = session.final_report();
    assert_eq!(
        report
            .losses()
            .into_iter()
            .find(|(reason, _)| *reason != "stack_truncated"),
        Some(("call_abandoned", truth.number("interrupted_calls")))
    );
    assert_eq!(
        report.0["lost_bytes"]["call_abandoned"],
        truth.number("interrupted_bytes")
    );
}

#[track_caller]
fn survives_truly(program: &Program, arguments: &[&str]) -> Survived {
    let survived = survives(|| {
        let mut command = program.command();
        command.args(arguments);
        command
    });
    assert_eq!(survived.session.end["exit_code"], EXIT_CODE);
    let report = survived.session.final_report();
    assert_sites_are_true(report, &survived.truth);
    assert_totals_are_true(report, &survived.truth);
    survived
}

#[test]
fn exceptions_and_failed_new_are_caught_as_ever() {
    survives_exactly(&Program::cpp("exceptions.cc"), &[]);
}

#[test]
fn coroutines_of_cpp_are_resumed_by_any_thread() {
    survives_exactly(&Program::cpp("coroutines.cc").with(&["-std=c++20"]), &[]);
}

#[test]
fn contexts_switch_between_stacks_and_threads() {
    survives_exactly(&Program::c("contexts.c"), &[]);
}

#[test]
fn a_call_that_is_left_for_another_stack_and_comes_back_is_counted() {
    survives_but_for_interrupted_calls(&Program::c("contexts.c"), &["in_the_middle"]);
}

#[test]
fn threads_are_cancelled_while_they_allocate() {
    let survived = survives_exactly(&Program::c("cancelled.c"), &[]);
    assert_eq!(survived.truth.number("cancelled"), 120);
}

#[test]
fn handlers_allocate_on_signal_stacks() {
    survives_but_for_interrupted_calls(&Program::c("alt_stacks.c"), &[]);
}

#[test]
fn go_calls_c_and_back() {
    let survived = survives_exactly(&Program::go("cgo.go"), &[]);
    let report = survived.session.final_report();
    let by_c_malloc: u64 = report
        .sites("heap")
        .filter(|site| {
            let frames = site.frames();
            let caller = frames.first().and_then(|frame| frame.function());
            // The name has a hash of the package in it.
            caller.is_some_and(|name| name.ends_with("_Cfunc__Cmalloc"))
        })
        .map(|site| site.held().bytes)
        .sum();
    assert_eq!(by_c_malloc, survived.truth.number("by_c_malloc"));
}

#[test]
fn a_program_confined_by_a_seccomp_filter_makes_no_forbidden_call() {
    survives_exactly(&Program::c("confined.c"), &["filter"]);
}

#[test]
fn a_program_in_strict_seccomp_mode_makes_no_forbidden_call() {
    survives_exactly(&Program::c("confined.c"), &["strict"]);
}

#[test]
fn a_program_that_confines_itself_later_makes_no_forbidden_call() {
    survives_exactly(&Program::c("confined.c"), &["late"]);
}

#[test]
fn children_are_started_in_every_way() {
    survives_exactly(&Program::c("spawns.c"), &[]);
}

#[test]
fn libraries_come_and_go() {
    let plugin = Program::c("plugin.c").with(&["-shared", "-fPIC"]).path();
    // The program is gone before a reading can say where the library was.
    survives_exactly(
        &Program::c("plugins.c"),
        &[&plugin.to_string_lossy(), "unnamed"],
    );
}

#[test]
fn a_library_that_came_and_went_is_named() {
    let plugin = Program::c("plugin.c").with(&["-shared", "-fPIC"]).path();
    let traced = trace(&Program::c("plugins.c"), &[&plugin.to_string_lossy()]);
    assert_sites_are_true(&traced.report, &traced.truth);
    assert_nothing_lost(&traced.report);
}

//! What cannot be traced: one line that says what and why, and exit code 1. Wrong usage: 2.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use leaktrace_tests::{
    Finished, PATIENCE, Program, Spawned, Target, Tracer, assert_refused, assert_totals_are_true,
    copy, leaktrace, read, run, run_to_end, scratch,
};
use rustix::process::Signal;

fn run_on(pid: u32) -> Finished {
    run(&["--format", "json", "--pid", &pid.to_string()])
}

#[test]
fn a_pid_that_nobody_has_is_refused() {
    // Above the largest pid that a kernel can hand out.
    assert_refused(&run(&["--pid", "4194305"]), &["4194305"]);
}

#[test]
fn a_kernel_thread_is_refused() {
    assert_eq!(
        read(Path::new("/proc/2/comm")),
        "kthreadd
"
    );
    assert_refused(&run_on(2), &["2", "kernel"]);
}

#[test]
fn a_zombie_is_refused() {
    let zombie = Spawned::start(&mut Command::new("true"));
    assert!(zombie.ends_within(PATIENCE));
    assert_refused(
        &run_on(zombie.pid()),
        &[&zombie.pid().to_string(), "zombie"],
    );
}

#[test]
fn leaktrace_itself_is_refused() {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "exec \"$0\" --pid $$"])
        .arg(leaktrace().get_program());
    assert_refused(&run_to_end(&mut shell), &["itself"]);
}

#[test]
fn a_thread_that_is_no_process_is_refused() {
    let target = Target::start(&Program::c("thread_leaks.c"), &["1", "1", "1"]);
    let pid = target.pid().to_string();
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        panic!("cannot list the threads of process {pid}");
    };
    let names = tasks
        .flatten()
        .map(|task| task.file_name().to_string_lossy().into_owned());
    let Some(thread) = names.into_iter().find(|name| *name != pid) else {
        panic!("process {pid} has one thread");
    };
    assert_refused(&run(&["--pid", &thread]), &[&thread, "thread"]);
}

#[test]
fn a_32_bit_program_is_refused() {
    let program = Program::bare("thirty_two_bits.s").with(&["-m32"]);
    let target = Target::start_mute(&mut Command::new(program.path()));
    assert_refused(
        &run_on(target.pid()),
        &[&target.pid().to_string(), "32-bit"],
    );
}

#[test]
fn a_program_without_an_allocator_is_refused() {
    let program = Program::bare("no_allocator.c");
    let target = Target::start_mute(&mut Command::new(program.path()));
    assert_refused(
        &run_on(target.pid()),
        &[&target.pid().to_string(), "allocat"],
    );
}

/// A copy of leaktrace where every user can reach it.
fn reachable_leaktrace() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = scratch();
    let binary = directory.path().join("leaktrace");
    copy(Path::new(leaktrace().get_program()), &binary);
    (directory, binary)
}

#[test]
fn a_user_without_privilege_is_told_what_is_missing() {
    let target = Target::start(&Program::c("late.c"), &[]);
    let (_directory, binary) = reachable_leaktrace();
    let mut command = Command::new(binary);
    command
        .args(["--pid", &target.pid().to_string()])
        .uid(65534)
        .gid(65534);
    assert_refused(&run_to_end(&mut command), &["CAP_", "sudo"]);
}

#[test]
fn root_without_capabilities_is_told_what_is_missing() {
    let target = Target::start(&Program::c("late.c"), &[]);
    let (_directory, binary) = reachable_leaktrace();
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(binary)
        .args(["--pid", &target.pid().to_string()]);
    assert_refused(&run_to_end(&mut command), &["CAP_"]);
}

#[test]
fn a_target_that_dies_while_leaktrace_attaches_is_reported_or_refused() {
    let program = Program::c("late.c");
    for step in 0..24 {
        let target = Target::start(&program, &[]);
        let pid = target.pid().to_string();
        let killer = std::thread::spawn(move || {
            // A sweep over the moments of an attach, not a wait for any of them.
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(step * 10) {
                std::thread::yield_now();
            }
            target.signal(Signal::KILL);
            target
        });
        let finished = run(&["--format", "json", "--pid", &pid]);
        assert!(killer.join().is_ok());
        if finished.code == Some(1) {
            assert_refused(&finished, &[&pid]);
        } else {
            assert_eq!(finished.code, Some(0), "{finished:?}");
            let last = finished.output.lines().last().unwrap_or_default();
            assert!(last.contains("\"target-killed\""), "{finished:?}");
        }
    }
}

#[test]
fn output_that_cannot_be_written_is_refused_before_anything_is_traced() {
    let target = Target::start(&Program::c("late.c"), &[]);
    let pid = target.pid().to_string();
    let directory = scratch();
    let missing = directory.path().join("missing").join("out");
    for option in ["--folded", "--flamegraph"] {
        for path in [directory.path(), &missing] {
            let path = path.to_string_lossy();
            let finished = run(&["--format", "json", "--pid", &pid, option, &path]);
            assert_refused(&finished, &[&path]);
        }
    }
}

#[test]
fn wrong_usage_ends_with_code_2() {
    let wrong: &[&[&str]] = &[
        &[],
        &["--no-such-option"],
        &["--pid"],
        &["--pid", "abc"],
        &["--pid", "-1"],
        &["--pid", "1", "--interval", "soon"],
        &["--pid", "1", "--interval", "0s"],
        &["--pid", "1", "--duration", "-5s"],
        &["--pid", "1", "--top", "many"],
        &["--pid", "1", "--sort", "luck"],
        &["--pid", "1", "--stacks", "guess"],
        &["--pid", "1", "--format", "xml"],
        &["--pid", "1", "--min-size", "big"],
        &["no-such-command"],
    ];
    for arguments in wrong {
        let finished = run(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert_eq!(finished.output, "", "{arguments:?}");
        assert!(!finished.errors.is_empty(), "{arguments:?}");
        assert!(!finished.errors.contains("panicked"), "{finished:?}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for argument in ["--help", "--version"] {
        let finished = run(&[argument]);
        assert_eq!(finished.code, Some(0));
        assert!(finished.output.contains("leaktrace"), "{finished:?}");
    }
}

#[test]
fn doctor_says_that_this_machine_can_trace() {
    let finished = run(&["doctor"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.output.lines().count() > 3, "{finished:?}");
}

/// A library that a target may have: a real one, not much larger than what is broken in it.
fn library() -> Vec<u8> {
    let path = Program::c("plugin.c").with(&["-shared", "-fPIC"]).path();
    std::fs::read(&path).unwrap_or_else(|error| panic!("cannot read a library: {error}"))
}

#[test]
fn a_file_that_is_truncated_while_it_is_read_costs_names_and_nothing_else() {
    let directory = scratch();
    let path = directory.path().join("plugin.so");
    assert!(std::fs::write(&path, library()).is_ok());
    let path = path.to_string_lossy();
    let mut target = Target::start(&Program::c("hostile.c"), &["truncate", &path]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    let truth = target.work();
    let report = tracer.report_of(&truth);
    assert_eq!(report.held_by("heap", "leak_in_the_plugin").count, 1);
    // Now the file is being read, and what is left of it is nothing.
    let truth = target.work();
    tracer.report_of(&truth);
    let session = tracer.stop();
    assert_totals_are_true(session.final_report(), &truth);
    let notices = session.final_report().0["notices"].to_string();
    assert!(notices.contains("could not be read"), "{notices}");
}

#[test]
fn files_that_only_look_like_libraries_cost_names_and_nothing_else() {
    let directory = scratch();
    let good = library();
    let mut files = vec![b"no library at all".repeat(5000), vec![0; 1 << 16]];
    // Every number of the headers becomes a large one, and bytes all over the file change, in
    // the same places in every run.
    for at in 16..64 {
        let mut bad = good.clone();
        bad[at] = 0xff;
        files.push(bad);
    }
    let mut state = 1_u64;
    for _ in 0..12 {
        let mut bad = good.clone();
        for _ in 0..200 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % (bad.len() - 64) + 64;
            bad[at] = (state >> 24) as u8;
        }
        files.push(bad);
    }
    let paths: Vec<String> = (0..files.len())
        .map(|number| {
            directory
                .path()
                .join(format!("{number}.so"))
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    for (path, bytes) in paths.iter().zip(&files) {
        assert!(std::fs::write(path, bytes).is_ok());
    }
    let mut arguments = vec!["junk"];
    arguments.extend(paths.iter().map(String::as_str));
    let mut target = Target::start(&Program::c("hostile.c"), &arguments);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    assert_totals_are_true(session.final_report(), &truth);
}

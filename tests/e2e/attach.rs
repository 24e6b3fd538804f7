//! Targets that are not the simple case: another user, another root, a fixed load address, a C library
//! whose file has been replaced.

use std::os::unix::process::CommandExt;
use std::process::Command;

use leaktrace_tests::{
    Program, Target, Tracer, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true,
    copy, fill_root, mapped_files, scratch,
};

const NOBODY: u32 = 65534;

fn assert_traced_exactly(mut target: Target) {
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    assert_sites_are_true(session.final_report(), &truth);
    assert_totals_are_true(session.final_report(), &truth);
    assert_nothing_lost(session.final_report());
}

#[test]
fn a_program_with_a_fixed_load_address_is_traced() {
    let program = Program::c("each_function.c").with(&["-no-pie", "-fno-pie"]);
    assert_traced_exactly(Target::start(&program, &["leak"]));
}

#[test]
fn a_program_of_another_user_is_traced() {
    let directory = scratch();
    let program = directory.path().join("program");
    copy(&Program::c("each_function.c").path(), &program);
    let mut command = Command::new(&program);
    assert_traced_exactly(Target::start_command(command.uid(NOBODY).gid(NOBODY)));
}

#[test]
fn a_program_in_another_root_is_traced_through_that_root() {
    let root = scratch();
    let program = Program::c("each_function.c");
    fill_root(root.path(), &program);
    let mut command = Command::new("chroot");
    command.arg(root.path()).arg(program.path());
    assert_traced_exactly(Target::start_command(&mut command));
}

#[test]
fn a_library_whose_file_was_replaced_is_still_the_one_that_is_traced() {
    let directory = scratch();
    let program = Program::c("each_function.c");
    let files = mapped_files(Target::start(&program, &[]).pid());
    let library = files.iter().find(|file| file.ends_with("libc.so.6"));
    let Some(library) = library else {
        panic!("the program has no C library: {files:?}");
    };
    let copied = directory.path().join("libc.so.6");
    copy(library, &copied);
    let mut command = Command::new(program.path());
    let target = Target::start_command(command.env("LD_LIBRARY_PATH", directory.path()));
    let replacement = directory.path().join("new");
    assert!(std::fs::write(&replacement, "not a library at all").is_ok());
    assert!(std::fs::rename(&replacement, &copied).is_ok());
    assert_traced_exactly(target);
}

#[test]
fn a_program_that_never_allocates_is_said_to_be_silent() {
    let mut target = Target::start(&Program::c("silent.c"), &[]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "300ms"]);
    let report = tracer.next_report();
    let notices = report.0["notices"].to_string();
    assert!(notices.contains("no allocation"), "{}", report.0);
    let truth = target.work();
    let session = tracer.stop();
    assert_totals_are_true(session.final_report(), &truth);
}

#[test]
fn the_start_line_names_the_target_and_every_probe() {
    let target = Target::start(&Program::c("late.c"), &[]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let session = tracer.stop();
    let start = &session.start;
    assert_eq!(start["targets"][0]["pid"], target.pid());
    let exe = Program::c("late.c").path();
    assert_eq!(start["targets"][0]["exe"], exe.to_string_lossy().as_ref());
    assert!(start["version"].is_string());
    let probes = start["probes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for function in [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "posix_memalign",
        "mmap",
        "munmap",
    ] {
        let probe = probes.iter().find(|probe| probe["function"] == function);
        let attached = probe.is_some_and(|probe| probe["attached"] == true);
        assert!(attached, "{function} in {start}");
    }
}

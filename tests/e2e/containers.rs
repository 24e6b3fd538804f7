//! Targets whose files are not where their names say: in other mount, pid and user namespaces, behind
//! pivot_root, in layers, or replaced and deleted since. What is traced is what is mapped, and names
//! and lines come from the target's own files.

use std::path::{Path, PathBuf};
use std::process::Command;

use leaktrace_tests::{
    Program, Report, Session, Target, Tracer, Truth, assert_nothing_lost, assert_sites_are_true,
    assert_totals_are_true, children, copy, copy_mapped, fill_root, leaktrace, mapped_files,
    scratch,
};

const ID: &str = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e";

#[track_caller]
fn assert_exact_with_lines(report: &Report, truth: &Truth) {
    assert_sites_are_true(report, truth);
    assert_totals_are_true(report, truth);
    assert_nothing_lost(report);
    let site = report
        .sites("heap")
        .find(|site| site.is_called_by("leak_in_the_container"));
    let frame = site.and_then(|site| site.frames().first().copied());
    let line = frame.and_then(|frame| frame.line());
    assert_eq!(line, Some(truth.number("line")), "{}", report.0);
}

/// Traces the process, which has not worked yet, by its pid out here.
#[track_caller]
fn traced(mut target: Target, pid: u32) -> (Session, Truth) {
    let tracer = Tracer::attach(pid, &[]);
    let truth = target.work();
    let session = tracer.stop();
    assert_exact_with_lines(session.final_report(), &truth);
    (session, truth)
}

/// A leaktrace with what it needs and no more: it may not open what is mapped in /proc/PID/map_files.
fn modest(pid: u32) -> Tracer {
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-sys_admin,-checkpoint_restore"])
        .arg(leaktrace().get_program())
        .args(["--format", "json", "--top", "0", "--pid", &pid.to_string()]);
    Tracer::start(&mut command)
}

/// Where the program is in the image, and its decoy outside: another program under the same path.
fn image_and_decoy(directory: &Path, program: &Program) -> PathBuf {
    let image = directory.join("image");
    fill_root(&image, program);
    let path = directory.join("program");
    let inside = image.join(path.strip_prefix("/").unwrap_or(&path));
    copy(&program.path(), &inside);
    copy(&Program::c("silent.c").path(), &path);
    assert!(std::fs::create_dir(directory.join("new")).is_ok());
    path
}

/// A program in namespaces and a root of its own; its pid out here.
fn contained(directory: &Path, how: &str) -> (Target, u32) {
    let path = image_and_decoy(directory, &Program::c("contained.c"));
    let mut command = Command::new(Program::c("enter_container.c").path());
    let target = Target::start_command(command.arg(how).arg(directory).arg(&path));
    let children = children(target.pid());
    assert_eq!(children.len(), 1, "the container has one process");
    (target, children[0])
}

#[test]
fn a_program_in_a_root_that_no_path_leads_to_is_traced_and_named() {
    let directory = scratch();
    let (target, pid) = contained(directory.path(), "tmpfs");
    let (session, truth) = traced(target, pid);
    assert_eq!(truth.number("pid"), 1, "its pid in there");
    assert_eq!(session.start["targets"][0]["pid"], pid);
    let exe = directory.path().join("program");
    assert_eq!(
        session.start["targets"][0]["exe"],
        exe.to_string_lossy().as_ref()
    );
}

#[test]
fn a_program_in_an_overlay_is_traced_and_named() {
    let directory = scratch();
    let (target, pid) = contained(directory.path(), "overlay");
    traced(target, pid);
}

#[test]
fn without_sys_admin_files_are_found_by_their_names_in_the_container() {
    for how in ["tmpfs", "overlay"] {
        let directory = scratch();
        let (mut target, pid) = contained(directory.path(), how);
        let tracer = modest(pid);
        let truth = target.work();
        let session = tracer.stop();
        assert_exact_with_lines(session.final_report(), &truth);
    }
}

/// A root for leaktrace that has nothing but leaktrace, /proc and /sys, as an image for a privileged
/// container may, and the command that runs it in there.
fn leaktrace_in_a_root(root: &Path, pid: u32) -> Command {
    let target = Target::start(&Program::c("late.c"), &[]);
    copy_mapped(root, Tracer::attach(target.pid(), &[]).pid());
    let inside = root.join("leaktrace");
    copy(Path::new(leaktrace().get_program()), &inside);
    for directory in ["proc", "sys"] {
        assert!(std::fs::create_dir(root.join(directory)).is_ok());
    }
    let mounts = "mount -t proc proc $0/proc && mount -t sysfs sysfs $0/sys && exec chroot $0 $@";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", mounts]).arg(root);
    command.args(["/leaktrace", "--format", "json", "--top", "0"]);
    command.args(["--pid", &pid.to_string()]);
    command
}

#[test]
fn leaktrace_in_a_container_names_with_the_files_of_the_target_not_with_its_own() {
    let directory = scratch();
    let root = scratch();
    let (mut target, pid) = contained(directory.path(), "overlay");
    let tracer = Tracer::start(&mut leaktrace_in_a_root(root.path(), pid));
    let truth = target.work();
    let session = tracer.stop();
    assert_exact_with_lines(session.final_report(), &truth);
}

#[test]
fn a_container_that_ends_is_reported_with_names_and_code() {
    let directory = scratch();
    let (mut target, pid) = contained(directory.path(), "tmpfs");
    let tracer = Tracer::attach(pid, &[]);
    let truth = target.work();
    assert_eq!(target.end().1.code(), Some(42));
    let session = tracer.wait();
    assert_exact_with_lines(session.final_report(), &truth);
    assert_eq!(session.end["exit_code"], 42, "{}", session.end);
}

#[test]
fn a_program_in_a_chroot_is_named_with_the_files_in_there() {
    let directory = scratch();
    let path = image_and_decoy(directory.path(), &Program::c("contained.c"));
    let mut command = Command::new("chroot");
    command.arg(directory.path().join("image")).arg(&path);
    let target = Target::start_command(&mut command);
    let pid = target.pid();
    traced(target, pid);
}

/// A running copy of the program with a C library of its own, and where both lie.
fn with_files_of_its_own(directory: &Path) -> (Target, [PathBuf; 2]) {
    let program = Program::c("contained.c");
    let files = mapped_files(Target::start(&program, &[]).pid());
    let Some(library) = files.iter().find(|file| file.ends_with("libc.so.6")) else {
        panic!("the program has no C library: {files:?}");
    };
    let own = [directory.join("program"), directory.join("libc.so.6")];
    copy(&program.path(), &own[0]);
    copy(library, &own[1]);
    let mut command = Command::new(&own[0]);
    let target = Target::start_command(command.env("LD_LIBRARY_PATH", directory));
    (target, own)
}

#[test]
fn files_deleted_while_the_program_runs_are_still_the_ones_traced_and_named() {
    let directory = scratch();
    let (target, files) = with_files_of_its_own(directory.path());
    for file in &files {
        assert!(std::fs::remove_file(file).is_ok());
    }
    let pid = target.pid();
    traced(target, pid);
}

#[test]
fn files_replaced_by_others_while_the_program_runs_name_nothing() {
    let directory = scratch();
    let (target, files) = with_files_of_its_own(directory.path());
    // An update puts other functions at the same addresses.
    let newer = directory.path().join("newer");
    for file in &files {
        copy(&Program::c("many_sites.c").path(), &newer);
        assert!(std::fs::rename(&newer, file).is_ok());
    }
    let pid = target.pid();
    traced(target, pid);
}

/// A control group named as docker names those of its containers, gone when it is dropped.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn make() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
        let of_version_2 = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
        })?;
        let path = of_version_2.join(format!("docker-{ID}.scope"));
        std::fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Whoever was in it has ended.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn the_container_is_told_by_the_control_group() {
    let Some(group) = ControlGroup::make() else {
        eprintln!("skipped: no control group of version 2 can be made here");
        return;
    };
    let target = Target::start(&Program::c("contained.c"), &[]);
    let pid = target.pid();
    assert!(std::fs::write(group.0.join("cgroup.procs"), pid.to_string()).is_ok());
    let (session, _) = traced(target, pid);
    let container = &session.start["targets"][0]["container"];
    assert_eq!(container["id"], ID, "{}", session.start);
    assert_eq!(container["runtime"], "docker", "{}", session.start);
}

#[test]
fn a_program_in_no_container_is_said_to_be_in_none() {
    let target = Target::start(&Program::c("contained.c"), &[]);
    let pid = target.pid();
    let (session, _) = traced(target, pid);
    assert!(session.start["targets"][0]["container"].is_null());
}

//! A command that leaktrace has started: it gets leaktrace's signals, its output is its own, and it has
//! no more rights than who called sudo.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::os::unix::process::CommandExt;
use std::process::Command;

use leaktrace_tests::{
    PATIENCE, Program, Spawned, Target, Tracer, leaktrace, leaktrace_of_commands, read, run,
    run_to_end, scratch,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;

/// Every signal that is passed on: by name, and real-time ones by number, of which musl has the first for
/// itself.
const SIGNALS: [(&str, u64); 11] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("WINCH", 28),
    ("35", 35),
    ("64", 64),
];

fn kill(signal: &str, pid: u32) {
    let pid = pid.to_string();
    let mut process = Spawned::start(Command::new("kill").args(["-s", signal, &pid]));
    assert!(process.wait(PATIENCE).success(), "kill -s {signal} {pid}");
}

#[test]
fn signals_reach_the_command_and_reports_do_not_mix_with_its_output() {
    let directory = scratch();
    let reports = directory.path().join("reports");
    let program = Program::c("signals.c");
    let mut command = leaktrace_of_commands();
    command
        .args(["--format", "json", "--interval", "100ms", "--output"])
        .arg(&reports)
        .arg("--")
        .arg(program.path())
        .arg(SIGNALS.len().to_string());
    // Anything but the program's own lines on standard output fails the test.
    let mut target = Target::start_command(&mut command);
    for (name, number) in SIGNALS {
        kill(name, target.pid());
        let truth = target.await_answer(std::time::Duration::ZERO);
        assert_eq!(truth.number("signal"), number, "{name}");
    }
    let (rest, status) = target.end();
    assert_eq!(rest, [""; 0]);
    assert_eq!(status.code(), Some(9));
    let text = read(&reports);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(lines[0]["kind"], "start");
    let last = lines.last().expect("a line");
    assert_eq!(
        (&last["kind"], &last["exit_code"]),
        (&"end".into(), &9.into())
    );
    assert!(lines.iter().any(|line| line["kind"] == "report"));
}

#[test]
fn text_reports_go_to_the_file_too_and_a_bad_one_is_refused_before_anything_starts() {
    let directory = scratch();
    let reports = directory.path().join("reports");
    let reports = reports.to_str().expect("a name");
    let finished = run(&["-q", "--output", reports, "--", "sh", "-c", "echo its own"]);
    assert_eq!(finished.output, "its own\n");
    assert!(read(reports.as_ref()).contains("final report"));
    let refused = run(&["--output", "/no/such/place", "--", "sh", "-c", "echo ran"]);
    leaktrace_tests::assert_refused(&refused, &["/no/such/place", "create its directory"]);
}

/// The signal comes from somebody else than the terminal, which has not sent it to the command as well.
#[test]
fn an_interrupt_that_no_terminal_has_sent_reaches_a_command_in_the_foreground() {
    let directory = scratch();
    let reports = directory.path().join("reports");
    let program = Program::c("signals.c");
    let mut leaktrace = leaktrace_of_commands();
    leaktrace.args(["-q", "--output"]).arg(&reports);
    leaktrace.arg("--").arg(program.path()).arg("1");
    let words = std::iter::once(leaktrace.get_program()).chain(leaktrace.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.display())).collect();
    let line = format!("stty -onlcr; exec {}", words.join(" "));
    // script(1) gives it a terminal, in whose foreground it is.
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut target = Target::start_command(&mut command);
    let runs = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "leaktrace"
    };
    let tracer = leaktrace_tests::children(target.pid());
    let tracer = tracer.iter().find(|pid| runs(pid)).expect("leaktrace");
    kill("INT", *tracer);
    assert_eq!(
        target
            .await_answer(std::time::Duration::ZERO)
            .number("signal"),
        2
    );
    assert_eq!(target.end().1.code(), Some(9));
}

#[test]
fn signals_go_to_the_command_and_its_end_ends_the_session() {
    let mut command = leaktrace_of_commands();
    command.args(["--format", "json", "--", "sleep", "1000"]);
    let tracer = Tracer::start(&mut command);
    tracer.signal(rustix::process::Signal::TERM);
    let session = tracer.wait();
    assert_eq!(session.end["reason"], "target-killed", "{}", session.end);
    assert_eq!(session.end["signal"], 15, "{}", session.end);
    assert_eq!(session.status.code(), Some(128 + 15));
}

/// The groups that leaktrace itself is in must not be the command's.
#[test]
fn a_command_started_through_sudo_has_the_groups_of_its_user_alone() {
    let directory = scratch();
    let leaktrace = leaktrace();
    let mut command = Command::new("setpriv");
    command.args(["--groups", "4,20,24"]);
    command
        .arg(leaktrace.get_program())
        .args(["-q", "--output"]);
    command.arg(directory.path().join("reports"));
    command.args(["--", "sh", "-c", "id -u; id -g; id -G"]);
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    let finished = run_to_end(&mut command);
    assert_eq!(finished.output, "65534\n65534\n65534\n", "{finished:?}");
}

#[test]
fn a_command_started_through_sudo_does_not_run_as_root() {
    let of = |as_root: &[&str]| {
        let mut command: Command = leaktrace();
        command.args(["-q", "--top", "1"]).args(as_root);
        command.args(["--", "sh", "-c", "exit $(( $(id -u) % 200 ))"]);
        command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
        run_to_end(&mut command).code
    };
    assert_eq!(of(&[]), Some(65534 % 200));
    assert_eq!(of(&["--as-root"]), Some(0));
}

/// A followed process takes a file for each probe and thread: more than fit here.
#[test]
fn few_open_files_are_the_commands_limit_and_not_leaktraces() {
    const FILES: u64 = 64;
    let directory = scratch();
    let told = directory.path().join("limits");
    let mut command = leaktrace_of_commands();
    command
        .args(["--format", "json", "--follow-forks", "--", "sh", "-c"])
        .arg(r#"{ ulimit -Sn; ulimit -Hn; } > "$0"; ls > /dev/null"#)
        .arg(&told);
    let given = getrlimit(Resource::Nofile);
    let few = Rlimit {
        current: Some(FILES),
        ..given
    };
    // SAFETY: one system call between fork and exec.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(Resource::Nofile, few)?));
    }
    let session = Tracer::start(&mut command).wait();
    let hard = given
        .maximum
        .map_or("unlimited".to_owned(), |most| most.to_string());
    assert_eq!(read(&told), format!("{FILES}\n{hard}\n"));
    assert!(!session.errors.contains("open files"), "{}", session.errors);
    let probes = session.start["probes"].as_array();
    let refused = probes.into_iter().flatten().find(|probe| {
        let note = probe["note"].as_str().unwrap_or_default();
        note.contains("refused")
    });
    assert_eq!(refused, None);
}

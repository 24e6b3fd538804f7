//! leaktrace itself in a pid namespace, as in a privileged container: the numbers of processes and
//! threads there are not those that the kernel side sees.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use leaktrace_tests::{
    PATIENCE, Program, Spawned, Target, Tracer, assert_nothing_lost, assert_sites_are_true,
    children, leaktrace, read,
};

/// A pid namespace with a /proc of its own and an init that does nothing.
struct Namespace {
    _unshare: Spawned,
    init: String,
}

impl Namespace {
    fn make() -> Self {
        let mut command = Command::new("unshare");
        command.args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sleep",
            "3600",
        ]);
        let unshare = Spawned::start(&mut command);
        let begun = Instant::now();
        // /proc is mounted when the init executes its program.
        let init = loop {
            let init = children(unshare.pid()).first().map(ToString::to_string);
            if let Some(init) = init
                && read(Path::new(&format!("/proc/{init}/comm"))) == "sleep\n"
            {
                break init;
            }
            assert!(begun.elapsed() < PATIENCE, "no pid namespace");
            std::thread::yield_now();
        };
        Self {
            _unshare: unshare,
            init,
        }
    }

    /// A command in there; it ends as the program ends.
    fn enter(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &self.init, "--pid", "--mount"]);
        entered.arg(command.get_program()).args(command.get_args());
        entered
    }
}

/// The pid in there of the only child of a process out here.
fn inner_pid(outer: u32) -> String {
    let children = children(outer);
    assert_eq!(children.len(), 1, "one process entered the namespace");
    let status = read(Path::new(&format!("/proc/{}/status", children[0])));
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inner = pids.and_then(|pids| pids.split_whitespace().nth(1));
    inner
        .unwrap_or_else(|| panic!("in no pid namespace: {status}"))
        .to_owned()
}

#[test]
fn exits_of_threads_and_of_the_process_are_seen_in_a_pid_namespace() {
    let namespace = Namespace::make();
    let program = Program::c("cancelled.c").command();
    let mut target = Target::start_command(&mut namespace.enter(&program));
    let pid = inner_pid(target.pid());
    let mut command = leaktrace();
    command.args(["--format", "json", "--top", "0", "--pid", &pid]);
    // Far fewer than there are threads: each place is given back when its thread exits.
    command.args(["--max-pending", "24"]);
    let tracer = Tracer::start(&mut namespace.enter(&command));
    let truth = target.work();
    assert_eq!(target.end().1.code(), Some(42));
    let session = tracer.wait();
    assert_sites_are_true(session.final_report(), &truth);
    assert_nothing_lost(session.final_report());
    assert_eq!(session.start["targets"][0]["pid"].to_string(), pid);
    assert_eq!(session.end["reason"], "target-exited", "{}", session.end);
    assert_eq!(session.end["exit_code"], 42, "{}", session.end);
}

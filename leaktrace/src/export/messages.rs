//! The start and the end of a session → lines for people, for the caller to print to standard
//! error.

use std::fmt::Write;

use crate::report::{End, EndReason, NewTarget, ProbeLine, Start, TargetLine};

use super::sanitize::plain;
use crate::units;

/// What is traced and how: a line for each target, and one for each probe that is not in place.
pub fn start(start: &Start) -> String {
    let mut out = String::new();
    for target in &start.targets {
        push_target(&mut out, start, target);
    }
    out
}

/// The table of probes: what was found, where its probe stands, and what has none.
pub fn probes(start: &Start) -> String {
    let place = |probe: &ProbeLine| match probe.attached {
        true => format!("{}+{}", probe.function, probe.offset),
        false => probe.function.clone(),
    };
    let columns = start.probes.iter().map(|probe| place(probe).len()).max();
    let columns = columns.unwrap_or(0);
    let mut out = String::new();
    for probe in &start.probes {
        let state = match probe.attached {
            true => "probed",
            false => "left out",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "  {:<columns$}  {state:<8}  {}",
            plain(&place(probe)),
            plain(&probe.object)
        );
        if let Some(note) = &probe.note {
            let _ = write!(out, "  ({})", plain(note));
        }
        out.push('\n');
    }
    out
}

/// What is traced from now on too: one line.
pub fn new_target(new: &NewTarget) -> String {
    let target = &new.target;
    let comm = plain(&target.comm);
    let parent = target.parent_pid;
    match (new.event, parent) {
        ("exit", _) => ended(new),
        ("load", _) => loaded(new),
        // Libraries that are probed already are so in every program that has them.
        ("exec", _) if new.probes.is_empty() => format!(
            "pid {} now runs {comm}, with the probes that are in place; what it held before is gone\n",
            target.pid,
        ),
        ("exec", _) => format!(
            "pid {} now runs {comm}: {} attached; what it held before is gone\n",
            target.pid,
            units::counted(new.probes.len() as u64, "probe"),
        ),
        (_, Some(parent)) => format!(
            "tracing pid {} ({comm}) too, a child of {parent}\n",
            target.pid
        ),
        (_, None) => format!("tracing pid {} ({comm}) too\n", target.pid),
    }
}

fn loaded(new: &NewTarget) -> String {
    let mut objects: Vec<&str> = new.probes.iter().map(|probe| &*probe.object).collect();
    objects.dedup();
    format!(
        "pid {} has loaded {}: {} more attached\n",
        new.target.pid,
        plain(&objects.join(", ")),
        units::counted(new.probes.len() as u64, "probe"),
    )
}

fn ended(new: &NewTarget) -> String {
    let pid = new.target.pid;
    match (new.exit_code, new.signal) {
        _ if new.out_of_memory => {
            format!("pid {pid} was killed by the kernel because memory was out\n")
        }
        (Some(code), _) => format!("pid {pid} exited with code {code}\n"),
        (None, Some(signal)) => format!("pid {pid} was killed by {}\n", signal_name(signal)),
        (None, None) => format!("pid {pid} exited\n"),
    }
}

/// Why the session ended: one line.
pub fn end(end: &End) -> String {
    let target = match end.pid {
        Some(pid) => format!("pid {pid}"),
        None => "the target".to_owned(),
    };
    let why = match (end.reason, end.exit_code, end.signal) {
        (EndReason::Duration, ..) => "stopped: the time asked for has passed".to_owned(),
        (EndReason::Interrupted, ..) => "stopped: interrupted".to_owned(),
        (EndReason::TargetExited, Some(code), _) => {
            format!("stopped: {target} exited with code {code}")
        }
        (EndReason::TargetExited, None, _) => format!("stopped: {target} exited"),
        (EndReason::TargetKilled, ..) if end.out_of_memory => format!(
            "stopped: {target} was killed by the kernel because memory was out (its cgroup's or the \
             machine's)"
        ),
        (EndReason::TargetKilled, _, Some(signal)) => {
            format!("stopped: {target} was killed by {}", signal_name(signal))
        }
        (EndReason::TargetKilled, _, None) => format!("stopped: {target} was killed"),
    };
    format!("{why}\n")
}

fn push_target(out: &mut String, start: &Start, target: &TargetLine) {
    let probes = || start.probes.iter().filter(|probe| probe.pid == target.pid);
    let attached = probes().filter(|probe| probe.attached).count() as u64;
    let stacks = match start.stacks.as_str() {
        "frame-pointer" => "frame pointer",
        "eh-frame" => ".eh_frame",
        other => other,
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "tracing pid {} ({}){}: {} attached, stacks by {}",
        target.pid,
        plain(&target.comm),
        place(target),
        units::counted(attached, "probe"),
        plain(stacks),
    );
    for probe in probes().filter(|probe| !probe.attached) {
        let why = probe.note.as_deref().unwrap_or("no reason is known");
        let _ = writeln!(
            out,
            "  not attached: {} in {}: {}",
            plain(&probe.function),
            plain(&probe.object),
            plain(why),
        );
    }
}

fn place(target: &TargetLine) -> String {
    match &target.container {
        Some(container) => format!(" in {}", plain(&container.short())),
        None => String::new(),
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSYS => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    format!("signal {signal} ({name})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Container, ProbeLine};

    fn probe(function: &str, note: Option<&str>) -> ProbeLine {
        ProbeLine {
            pid: 4242,
            object: "/usr/lib/libc.so.6".to_owned(),
            function: function.to_owned(),
            offset: 0,
            attached: note.is_none(),
            note: note.map(str::to_owned),
        }
    }

    #[test]
    fn start_names_target_probes_and_what_is_missing() {
        let line = Start {
            version: "0.1.0".to_owned(),
            targets: vec![TargetLine {
                parent_pid: None,
                epoch: None,
                pid: 4242,
                comm: "a\u{1b}pi".to_owned(),
                exe: None,
                container: Some(Container {
                    runtime: Some("docker"),
                    id: "0123456789abcdef".repeat(4),
                }),
            }],
            probes: vec![
                probe("malloc", None),
                probe("free", None),
                probe("valloc", Some("it is not in the object")),
            ],
            stacks: "frame-pointer".to_owned(),
            unwind_table_bytes: 0,
        };
        assert_eq!(
            start(&line),
            "tracing pid 4242 (a\\u{1b}pi) in docker 0123456789ab: 2 probes attached, stacks by frame \
             pointer\n  \
             not attached: valloc in /usr/lib/libc.so.6: it is not in the object\n"
        );
    }

    #[test]
    fn end_says_why_in_one_line() {
        let of = |reason, exit_code, signal| {
            end(&End {
                out_of_memory: false,
                reason,
                pid: Some(7),
                exit_code,
                signal,
            })
        };
        assert_eq!(
            of(EndReason::TargetKilled, None, Some(9)),
            "stopped: pid 7 was killed by signal 9 (SIGKILL)\n"
        );
        assert_eq!(
            of(EndReason::TargetExited, Some(3), None),
            "stopped: pid 7 exited with code 3\n"
        );
        assert_eq!(
            of(EndReason::TargetExited, None, None),
            "stopped: pid 7 exited\n"
        );
        assert_eq!(
            of(EndReason::Interrupted, None, None),
            "stopped: interrupted\n"
        );
    }
}

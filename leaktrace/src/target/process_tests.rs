//! Which processes are taken, and that the end of one is seen.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

#[test]
fn pids_that_cannot_be_traced_are_told_apart() {
    assert!(matches!(
        Process::open(u32::MAX),
        Err(TargetError::NoSuchProcess { .. })
    ));
    assert!(matches!(
        Process::open(0),
        Err(TargetError::NoSuchProcess { .. })
    ));
    assert!(matches!(
        Process::open(std::process::id()),
        Err(TargetError::Myself { .. })
    ));
}

#[test]
fn a_child_is_opened_and_its_end_is_seen() {
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    // Between fork and the end of exec the child still is this program, or has no arguments.
    let process = loop {
        match Process::open(child.id()) {
            Ok(process) if process.command_line() == "sleep 60" => break process,
            Ok(_) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(process.comm(), "sleep");
    assert!(process.rss_bytes().is_some());
    assert!(process.mappings().unwrap().executable().next().is_some());
    assert!(!process.has_exited());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(process.has_exited());
    assert!(process.mappings().is_err());
    assert!(process.rss_bytes().is_none());
}

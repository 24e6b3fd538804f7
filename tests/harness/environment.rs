//! What traced programs run with when it is not this machine's C library: another root, a preloaded
//! allocator, another C library. Compiles and starts nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The root that traced programs run in when it is not this machine's (`LEAKTRACE_TARGET_ROOT`).
pub(crate) fn root() -> Option<PathBuf> {
    std::env::var_os("LEAKTRACE_TARGET_ROOT").map(PathBuf::from)
}

/// The root that traced programs run in, this machine's or another.
pub fn root_of_targets() -> PathBuf {
    root().unwrap_or_else(|| PathBuf::from("/"))
}

/// The library that they have preloaded (`LEAKTRACE_TARGET_PRELOAD`).
fn preloaded() -> Option<OsString> {
    std::env::var_os("LEAKTRACE_TARGET_PRELOAD")
}

/// The compiler of C that they are made with (`LEAKTRACE_TARGET_CC`).
pub(crate) fn c_compiler() -> Option<OsString> {
    std::env::var_os("LEAKTRACE_TARGET_CC")
}

/// Lets a command that becomes a traced program have the library that is to be preloaded, unless the test
/// has another one.
pub fn preload(command: &mut Command) {
    let has_one = command.get_envs().any(|(name, _)| name == "LD_PRELOAD");
    if let Some(library) = preloaded().filter(|_| !has_one) {
        command.env("LD_PRELOAD", library);
    }
}

/// Asserts that what leaktrace says it traces runs with what is meant: a test that starts its programs in
/// its own way would otherwise pass for an environment that it was never in.
#[track_caller]
pub(crate) fn assert_is_meant(start: &Value) {
    let targets = start["targets"].as_array().map(Vec::as_slice);
    for pid in targets.unwrap_or_default().iter().map(|one| &one["pid"]) {
        let begun = Instant::now();
        // A command that has only just begun has not loaded its libraries.
        while let Some(wrong) = what_is_not_meant(pid) {
            assert!(begun.elapsed() < crate::PATIENCE, "{pid} {wrong}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What a process runs with that it should not; nothing is wrong with one that has ended.
fn what_is_not_meant(pid: &Value) -> Option<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    if maps.is_empty() {
        return None;
    }
    if let Some(library) = preloaded() {
        let real = std::fs::canonicalize(&library).unwrap_or_else(|_| PathBuf::from(&library));
        // Behind the path of the root, where it has one of its own.
        let names = [real.as_os_str(), &library].map(|name| name.to_string_lossy().into_owned());
        let is_it = |line: &str| names.iter().any(|known| name(line).ends_with(known));
        if !maps.lines().any(is_it) {
            return Some(format!("runs without {}", names[0]));
        }
    }
    if c_compiler().is_some() && maps.lines().any(|line| name(line).ends_with("/libc.so.6")) {
        return Some("runs with the usual C library".to_owned());
    }
    let root = std::fs::canonicalize(root()?).ok();
    let actual = std::fs::read_link(format!("/proc/{pid}/root")).ok();
    (actual != root).then(|| format!("runs in the root {actual:?} instead of {root:?}"))
}

/// The file of a line of mappings.
fn name(line: &str) -> &str {
    line.find('/').map_or("", |at| &line[at..])
}

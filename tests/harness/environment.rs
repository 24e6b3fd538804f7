//! What traced programs run with when it is not this machine's C library: another root, a preloaded
//! allocator, another C library. Compiles and starts nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// The root that traced programs run in when it is not this machine's (`LEAKTRACE_TARGET_ROOT`).
pub(crate) fn root() -> Option<PathBuf> {
    std::env::var_os("LEAKTRACE_TARGET_ROOT").map(PathBuf::from)
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
        // Absent when the process has ended.
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        if maps.is_empty() {
            continue;
        }
        if let Some(library) = preloaded() {
            let real = std::fs::canonicalize(&library).unwrap_or_else(|_| PathBuf::from(&library));
            // Behind the path of the root, where it has one of its own.
            let names =
                [real.as_os_str(), &library].map(|name| name.to_string_lossy().into_owned());
            let is_it = |line: &str| names.iter().any(|known| name(line).ends_with(known));
            assert!(maps.lines().any(is_it), "{pid} runs without {}", names[0]);
        }
        if c_compiler().is_some() {
            let other = maps.lines().find(|line| name(line).ends_with("/libc.so.6"));
            assert_eq!(other, None, "{pid} runs with the usual C library");
        }
        if let Some(root) = root() {
            let actual = std::fs::read_link(format!("/proc/{pid}/root")).ok();
            assert_eq!(actual, std::fs::canonicalize(root).ok(), "root of {pid}");
        }
    }
}

/// The file of a line of mappings.
fn name(line: &str) -> &str {
    line.find('/').map_or("", |at| &line[at..])
}

//! Runs the unit tests of the host crates and the end-to-end tests, with what they need set up.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    command::{is_root, output, run, say},
    matrix, setup, workspace,
};

/// One at a time: end-to-end tests measure times, and share the two cores of a small machine with
/// the processes that they trace.
const ONE_AT_A_TIME: &str = "--test-threads=1";

/// Runs everything; with arguments, only the end-to-end tests, and `cargo test` gets the
/// arguments.
pub(crate) fn test(arguments: &[String]) -> Result<()> {
    prepare("test")?;
    if arguments.is_empty() {
        say("test: unit tests");
        run(cargo("test")
            .args(["--quiet", "--workspace", "--no-fail-fast"])
            .args(["--exclude=leaktrace-ebpf", "--exclude=leaktrace-tests"]))?;
    }
    build_leaktrace()?;
    say("test: end to end");
    run(cargo("test")
        .args(["--release", "--package=leaktrace-tests", "--no-fail-fast"])
        .args(end_to_end(arguments)))?;
    if arguments.is_empty() {
        matrix::in_short()?;
    }
    say("test: all passed");
    Ok(())
}

/// Installs what the end-to-end tests need.
///
/// # Errors
/// When this process is not root, with the task to run as root, or something cannot be installed.
pub(crate) fn prepare(task: &str) -> Result<()> {
    if !is_root() {
        bail!(
            "the end-to-end tests trace real processes and need root; \
             run: sudo env PATH=\"$PATH\" cargo xtask {task}"
        );
    }
    setup::tests()
}

/// Builds the program as users get it.
pub(crate) fn build_leaktrace() -> Result<()> {
    say("building leaktrace (the first time takes some minutes)");
    run(cargo("build").args(["--release", "--quiet", "--package=leaktrace"]))
}

/// Builds the end-to-end tests, and says where the executables of these are.
///
/// # Errors
/// When they cannot be built.
pub(crate) fn executables(suites: &[&str]) -> Result<Vec<PathBuf>> {
    let mut build = cargo("test");
    build.args([
        "--release",
        "--package=leaktrace-tests",
        "--no-run",
        "--quiet",
    ]);
    let told = output(build.arg("--message-format=json"))?;
    let built: Vec<serde_json::Value> = told
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    suites
        .iter()
        .map(|suite| {
            let of = |message: &&serde_json::Value| message["target"]["name"] == *suite;
            let mut paths = built
                .iter()
                .filter(of)
                .map(|message| &message["executable"]);
            let path = paths.find_map(serde_json::Value::as_str);
            let path = path.with_context(|| format!("there are no end-to-end tests {suite}"))?;
            Ok(PathBuf::from(path))
        })
        .collect()
}

fn cargo(task: &str) -> Command {
    let mut command = Command::new(workspace::cargo());
    command.current_dir(workspace::root()).arg(task);
    // The harness looks for programs beside the build, wherever the caller put that.
    command.env("CARGO_TARGET_DIR", workspace::target());
    command
}

/// The caller's arguments, with the default put where the test binaries read it.
fn end_to_end(arguments: &[String]) -> Vec<String> {
    let dashes = arguments.iter().position(|argument| argument == "--");
    let (cargo, binaries) = arguments.split_at(dashes.unwrap_or(arguments.len()));
    let mut all = cargo.to_vec();
    all.extend(["--".to_owned(), ONE_AT_A_TIME.to_owned()]);
    all.extend(binaries.iter().skip(1).cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_on(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        end_to_end(&arguments)
    }

    #[test]
    fn arguments_reach_cargo_and_the_test_binaries() {
        assert_eq!(passed_on(&[]), ["--", ONE_AT_A_TIME]);
        assert_eq!(
            passed_on(&["--test", "exact", "--", "--nocapture"]),
            ["--test", "exact", "--", ONE_AT_A_TIME, "--nocapture"]
        );
    }
}

//! Runs the unit tests of the host crates and the end-to-end tests, with what they need set up.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    command::{is_root, output, run, say},
    matrix, setup,
    suites::{self, Run},
    workspace,
};

/// One at a time: end-to-end tests measure times, and share the two cores of a small machine with
/// the processes that they trace.
const ONE_AT_A_TIME: &str = "--test-threads=1";

/// Suites that assert times which a neighbour could cost them.
const ALONE: [&str; 4] = ["attach", "forecast", "harmless", "quick"];

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
    if arguments.is_empty() {
        every_suite()?;
        matrix::in_short()?;
    } else {
        run(cargo("test")
            .args(["--release", "--package=leaktrace-tests", "--no-fail-fast"])
            .args(end_to_end(arguments)))?;
    }
    say("test: all passed");
    Ok(())
}

/// Runs every suite, those that measure times without a neighbour.
fn every_suite() -> Result<()> {
    let runs = built_suites()?
        .into_iter()
        .map(|(name, executable)| Run::of(name, &executable));
    let (alone, together): (Vec<Run>, Vec<Run>) =
        runs.partition(|run| ALONE.contains(&run.name.as_str()));
    if alone.len() != ALONE.len() {
        bail!("one of the suites {} is not there", ALONE.join(", "));
    }
    let names: Vec<String> = together
        .iter()
        .chain(&alone)
        .map(|run| run.name.clone())
        .collect();
    let mut outcomes = suites::run_all(together, "test")?;
    outcomes.extend(suites::run_alone(alone, "test")?);
    let ended = names.iter().zip(&outcomes);
    let bad: Vec<&str> = ended
        .filter(|(_, outcome)| !outcome.is_good())
        .map(|(name, _)| name.as_str())
        .collect();
    match bad.as_slice() {
        [] => Ok(()),
        bad => bail!("{} failed; what they said is above", bad.join(", ")),
    }
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
    let mut built = built_suites()?;
    suites
        .iter()
        .map(|suite| {
            let path = built.remove(*suite);
            path.with_context(|| format!("there are no end-to-end tests {suite}"))
        })
        .collect()
}

/// Builds the end-to-end tests: the executable of every suite, by name.
fn built_suites() -> Result<BTreeMap<String, PathBuf>> {
    let mut build = cargo("test");
    build.args([
        "--release",
        "--package=leaktrace-tests",
        "--no-run",
        "--quiet",
    ]);
    let told = output(build.arg("--message-format=json"))?;
    let messages = told
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let suites = messages.filter_map(|message| {
        let target = &message["target"];
        (target["kind"] == serde_json::json!(["test"])).then_some(())?;
        let name = target["name"].as_str()?.to_owned();
        Some((name, PathBuf::from(message["executable"].as_str()?)))
    });
    Ok(suites.collect())
}

fn cargo(task: &str) -> Command {
    let mut command = workspace::cargo();
    command.arg(task);
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

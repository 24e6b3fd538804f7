//! Runs the end-to-end suites of exactness with the traced programs on other C libraries and allocators, and
//! prints what passed where. Leaves out only what is listed with a reason.

mod cannot;
mod environments;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    choice::chosen,
    command::{output, say},
    test,
    vm::outcome::{self, Cell, Outcome},
    workspace,
};
use environments::{ENVIRONMENTS, Environment};

/// The suites whose programs say themselves what they hold. That of allocators brings its own.
const SUITES: [&str; 16] = [
    "exact",
    "repeated",
    "failure_semantics",
    "mappings",
    "losses",
    "survival",
    "left_calls",
    "pairs",
    "lineage",
    "many_children",
    "ends",
    "stacks",
    "harmless",
    "commands",
    "attach",
    "stress",
];

/// Which environments, and which suites.
#[derive(Args)]
pub(crate) struct Choice {
    /// Environments: glibc-2.41, jemalloc, tcmalloc, mimalloc, musl [default: all]
    environments: Vec<String>,
    /// Run only this suite; repeat for several
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
}

/// Runs every suite in every environment that is chosen.
///
/// # Errors
/// When something cannot be had, or a test that is not listed as impossible has failed.
pub(crate) fn matrix(choice: &Choice) -> Result<()> {
    test::prepare("matrix")?;
    test::build_leaktrace()?;
    let environments = chosen("environment", &choice.environments, &ENVIRONMENTS, |one| {
        one.name
    })?;
    let suites: Vec<&str> = chosen("suite", &choice.suites, &SUITES, |suite| suite)?
        .into_iter()
        .copied()
        .collect();
    let mut cells = Vec::new();
    for environment in environments {
        cells.extend(run(*environment, &suites)?);
    }
    tell(&cells)
}

/// Runs of every environment the suites that are worth their time at each change.
///
/// # Errors
/// As [`matrix`].
pub(crate) fn in_short() -> Result<()> {
    let mut cells = Vec::new();
    for environment in &ENVIRONMENTS {
        cells.extend(run(*environment, environment.in_short)?);
    }
    tell(&cells)
}

fn run(environment: Environment, suites: &[&'static str]) -> Result<Vec<Cell>> {
    let variables = environment.variables()?;
    let folder = workspace::target().join("matrix");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let executables = test::executables(suites)?;
    let mut cells = Vec::new();
    for (suite, executable) in suites.iter().zip(executables) {
        let cannot = cannot::of(environment.name, suite);
        let without: Vec<&str> = cannot.iter().map(|(test, _)| *test).collect();
        assert_tests_are_there(&executable, &without)?;
        let mut command = Command::new(&executable);
        // The programs are looked up from here, as under cargo.
        command.current_dir(workspace::root().join("tests"));
        command.args(["--test-threads=1", "--exact"]);
        for test in without {
            command.args(["--skip", test]);
        }
        for (name, value) in &variables {
            command.env(name, value);
        }
        let log = folder.join(format!("{}-{suite}.log", environment.name));
        let outcome = outcome_of(&mut command, &log)?;
        cells.push(Cell {
            row: environment.name.to_owned(),
            suite,
            outcome: Some(outcome),
            left_out: cannot
                .iter()
                .map(|(test, reason)| format!("{test}: {reason}"))
                .collect(),
        });
    }
    Ok(cells)
}

/// A name that no test has would leave out nothing, and nobody would know.
fn assert_tests_are_there(executable: &Path, tests: &[&str]) -> Result<()> {
    let listed = output(Command::new(executable).arg("--list"))?;
    let is_there = |name: &&str| listed.lines().any(|line| line == format!("{name}: test"));
    match tests.iter().find(|name| !is_there(name)) {
        Some(gone) => bail!("{} has no test {gone}", executable.display()),
        None => Ok(()),
    }
}

/// Runs a suite; what it said is kept, and shown when something has failed.
fn outcome_of(command: &mut Command, log: &PathBuf) -> Result<Outcome> {
    let begun = Instant::now();
    let name = log.file_stem().unwrap_or_default().to_string_lossy();
    let run = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let told = String::from_utf8_lossy(&run.stdout);
    let all = format!("{told}\n{}", String::from_utf8_lossy(&run.stderr));
    fs::write(log, &all).with_context(|| format!("cannot write {}", log.display()))?;
    let outcome = Outcome {
        exit: run.status.code(),
        ..outcome::read(&told)
    };
    if !outcome.is_good() {
        say(&all);
    }
    say(&format!(
        "matrix: {name}: {} passed, {} failed, in {} s",
        outcome.passed.len(),
        outcome.failed.len(),
        begun.elapsed().as_secs()
    ));
    Ok(outcome)
}

fn tell(cells: &[Cell]) -> Result<()> {
    say(outcome::table(cells).trim_end());
    let bad = |cell: &&Cell| cell.outcome.as_ref().is_none_or(|found| !found.is_good());
    match cells.iter().filter(bad).count() {
        0 => Ok(()),
        bad => bail!("{bad} suites went wrong; what they said is above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_run_belongs_to_a_suite_and_an_environment_that_are_there() {
        for cannot in cannot::ALL {
            assert!(SUITES.contains(&cannot.suite), "{}", cannot.suite);
            for name in cannot.environments {
                assert!(ENVIRONMENTS.iter().any(|one| one.name == *name), "{name}");
            }
        }
        for environment in &ENVIRONMENTS {
            assert!(
                environment
                    .in_short
                    .iter()
                    .all(|suite| SUITES.contains(suite))
            );
        }
    }
}

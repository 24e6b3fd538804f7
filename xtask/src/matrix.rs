//! Runs the end-to-end suites of exactness with the traced programs on other C libraries and allocators, and
//! prints what passed where. Leaves out only what is listed with a reason.

mod cannot;
mod environments;

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use clap::Args;

use crate::{
    choice::{chosen, chosen_names},
    command::{output, say},
    suites::{self, Run},
    test,
    vm::outcome::{self, Cell, Outcome},
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
    let suites = chosen_names("suite", &choice.suites, &SUITES)?;
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
    let executables = test::executables(suites)?;
    let mut runs = Vec::new();
    for (suite, executable) in suites.iter().zip(executables) {
        let cannot = cannot::of(environment.name, suite);
        assert_tests_are_there(&executable, cannot.iter().map(|(test, _)| *test))?;
        let mut run = Run::of(format!("{}-{suite}", environment.name), &executable);
        run.command.arg("--exact");
        for (test, _) in cannot {
            run.command.args(["--skip", test]);
        }
        run.command.envs(variables.iter().cloned());
        runs.push(run);
    }
    let outcomes = suites::run_all(runs, "matrix")?;
    let cell = |(suite, outcome): (&&'static str, Outcome)| Cell {
        row: environment.name.to_owned(),
        suite,
        outcome: Some(outcome),
        left_out: cannot::of(environment.name, suite)
            .iter()
            .map(|(test, reason)| format!("{test}: {reason}"))
            .collect(),
    };
    Ok(suites.iter().zip(outcomes).map(cell).collect())
}

/// A name that no test has would leave out nothing, and nobody would know.
fn assert_tests_are_there<'a>(
    executable: &Path,
    mut tests: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let listed = output(Command::new(executable).arg("--list"))?;
    let is_there = |name: &&str| listed.lines().any(|line| line == format!("{name}: test"));
    match tests.find(|name| !is_there(name)) {
        Some(gone) => bail!("{} has no test {gone}", executable.display()),
        None => Ok(()),
    }
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

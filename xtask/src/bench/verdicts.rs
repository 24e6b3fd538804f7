//! Prints what the analysis says of the labelled corpus in `leaktrace/tests/verdicts`. Needs no root
//! and traces nothing.

use anyhow::Result;

use crate::{command::run, workspace};

/// Runs the test that prints a table.
pub(super) fn print(test: &str) -> Result<()> {
    run(workspace::cargo()
        .env("CARGO_TARGET_DIR", workspace::target())
        .args(["test", "--release", "--quiet", "--package=leaktrace"])
        .args(["--test=verdicts", "--", "--ignored", "--nocapture"])
        .arg(test))
}

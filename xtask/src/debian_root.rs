//! Makes the root of a Debian release that is not this machine's: its packages are run from there, or
//! programs are traced in it. Each root is made once.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::{
    command::{output, say},
    setup, workspace,
};

/// Makes `root` unless it is there: the essential packages of the release, and these.
///
/// # Errors
/// When debootstrap cannot be had, or a package cannot.
pub(crate) fn make(root: &Path, release: &str, packages: &[&str]) -> Result<()> {
    if root.exists() {
        return Ok(());
    }
    if workspace::on_path("debootstrap").is_none() {
        setup::install(&["debootstrap"])?;
    }
    say(&format!(
        "fetching Debian {release} into {} (a minute)",
        root.display()
    ));
    // Made elsewhere and renamed: an interrupted run must not leave half a root behind.
    let unfinished = root.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    if let Some(folder) = root.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let mut command = Command::new("debootstrap");
    command.arg("--variant=minbase");
    if !packages.is_empty() {
        command.arg(format!("--include={}", packages.join(",")));
    }
    output(command.arg(release).arg(&unfinished))?;
    fs::rename(&unfinished, root).with_context(|| format!("cannot make {}", root.display()))
}

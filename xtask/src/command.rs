//! Runs programs: each failure becomes one line that names the program. Decides nothing.

use std::{
    io::{self, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Prints one line for the person who runs the task. A closed standard output is not an error:
/// the task goes on.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Runs to the end, with the output shown. Standard input is closed, so that nothing can wait
/// for an answer.
///
/// # Errors
/// When it cannot be started or does not exit with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// Runs to the end and returns its standard output.
///
/// # Errors
/// When it cannot be started or does not exit with 0; what it wrote to standard error is in the
/// error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed ({}): {}",
            name(command),
            output.status,
            message.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid has no arguments, touches no memory and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// The program as root: through sudo when this process is not.
///
/// # Errors
/// When neither works.
pub(crate) fn as_root(program: &std::ffi::OsStr) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    if crate::workspace::on_path("sudo").is_none() {
        bail!(
            "{} needs root, and there is no sudo: run as root",
            program.display()
        );
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    Ok(command)
}

fn name(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|arg| arg.to_string_lossy().into_owned()),
    );
    words.truncate(6);
    words.join(" ")
}

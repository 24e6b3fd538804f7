//! A process that is ended with the value that holds it. Says nothing about what it does.

use std::process::{Child, Command};

use anyhow::{Context, Result};

/// A running process; dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self(child))
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only when it has been reaped already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

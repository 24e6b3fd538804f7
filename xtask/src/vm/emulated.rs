//! Boots a guest and waits for its end. Judges nothing: what the guest said is the result.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::packages::Unpacked;
use crate::child::Running;

/// A guest that has not ended by then hangs: the longest takes a third of it.
const PATIENCE: Duration = Duration::from_secs(1500);

/// How often it is looked whether a guest has ended.
const LOOK: Duration = Duration::from_millis(200);

/// How the kernel is told to preempt; it decides by itself when absent.
pub(crate) type Preempt<'a> = Option<&'a str>;

/// The emulator.
pub(crate) struct Emulator {
    /// Its path.
    pub(crate) program: PathBuf,
    /// Where it was unpacked, when it is not installed.
    pub(crate) root: Option<PathBuf>,
}

impl Emulator {
    /// The command, which finds its libraries and its data.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.root {
            let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
            let libraries = libraries.map(|folder| root.join(folder).display().to_string());
            command.env("LD_LIBRARY_PATH", libraries.join(":"));
            for data in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(data));
            }
        }
        command
    }
}

/// Boots a kernel with this initramfs; what it wrote to its serial port, which is kept in `log`.
///
/// # Errors
/// When the emulator cannot be started.
pub(crate) fn boot(
    emulator: &Emulator,
    kernel: &Unpacked,
    initramfs: &Path,
    preempt: Preempt<'_>,
    log: &Path,
) -> Result<String> {
    let mut command = emulator.command();
    // No KVM: it is not to be had inside of virtual machines. One thread for both CPUs: guests of the
    // multi-threaded emulation panic at random.
    command.args(["-accel", "tcg,thread=single", "-smp", "2", "-m", "2G"]);
    command.args(["-machine", "q35", "-cpu", "max", "-nodefaults"]);
    command.args(["-display", "none", "-no-reboot", "-serial"]);
    command.arg(format!("file:{}", log.display()));
    command.arg("-kernel").arg(&kernel.image);
    command.arg("-initrd").arg(initramfs);
    command.args(["-append", &parameters(preempt)]);
    fs::write(log, "").with_context(|| format!("cannot write {}", log.display()))?;
    wait(&mut command)?;
    let told = fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
    Ok(String::from_utf8_lossy(&told).into_owned())
}

fn parameters(preempt: Preempt<'_>) -> String {
    // A guest whose host is busy at the wrong moment takes its timer for broken, and panics.
    let mut parameters = "console=ttyS0 quiet panic=-1 no_timer_check".to_owned();
    if let Some(mode) = preempt {
        parameters.push_str(" preempt=");
        parameters.push_str(mode);
    }
    parameters
}

/// Kills it when it does not end.
fn wait(command: &mut Command) -> Result<()> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut guest = Running::start(command)?;
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if guest.0.try_wait().context("cannot wait for it")?.is_some() {
            return Ok(());
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

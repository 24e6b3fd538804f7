//! Boots other kernels under qemu's emulation, and runs the end-to-end suites in each. A kernel that
//! leaktrace cannot use must be refused with its own message. Installs no emulator and no kernel.

mod emulated;
mod guest;
mod image;
mod kernels;
pub(crate) mod outcome;
mod packages;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    choice::{chosen, chosen_names},
    command::say,
    test, workspace,
};
use emulated::Emulator;
use kernels::{KERNELS, Kernel, SUITES};
use outcome::{Cell, Outcome};
use packages::{Packages, Unpacked};

/// Which kernels, and how.
#[derive(Args)]
pub(crate) struct Choice {
    /// Kernels to boot: 5.10, 6.1, 6.12, 7 [default: all]
    kernels: Vec<String>,
    /// Run only this suite; repeat for several
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
    /// Boot with preempt=MODE (none, voluntary, full, lazy)
    #[arg(long, value_name = "MODE")]
    preempt: Option<String>,
    /// Do not run the suites on this machine first, which compiles the programs that they trace
    #[arg(long)]
    guests_only: bool,
}

/// A suite and its executable.
type Suite = (&'static str, PathBuf);

/// Runs the suites on this kernel, which also compiles their programs, and then in each guest.
///
/// # Errors
/// When something cannot be had, or a kernel did not do what it should.
pub(crate) fn vm(choice: &Choice) -> Result<()> {
    test::prepare("vm")?;
    let kernels = chosen("kernel", &choice.kernels, &KERNELS, |kernel| kernel.series)?;
    let suites = chosen_names("suite", &choice.suites, &SUITES)?;
    let folder = workspace::target().join("vm");
    let packages = Packages::open(&folder)?;
    let lab = Lab {
        emulator: packages.emulator()?,
        busybox: packages.busybox()?,
        folder,
        choice,
    };
    test::build_leaktrace()?;
    let executables = test::executables(&suites)?;
    let suites: Vec<Suite> = suites.into_iter().zip(executables).collect();
    let mut cells = Vec::new();
    if !choice.guests_only {
        cells.extend(suites.iter().map(on_this_machine));
    }
    for kernel in kernels {
        let unpacked = packages.kernel(kernel)?;
        match kernel.refused {
            Some(words) => cells.extend(lab.refuses(kernel, &unpacked, words, &suites)?),
            None => {
                for suite in &suites {
                    cells.push(lab.runs(kernel, &unpacked, suite)?);
                }
            }
        }
    }
    say(outcome::table(&cells).trim_end());
    let bad = |cell: &&Cell| cell.outcome.as_ref().is_some_and(|found| !found.is_good());
    match cells.iter().filter(bad).count() {
        0 => Ok(()),
        bad => bail!(
            "{bad} suites went wrong; the serial ports are in {}",
            lab.folder.display()
        ),
    }
}

/// What guests are made from.
struct Lab<'a> {
    emulator: Emulator,
    busybox: PathBuf,
    folder: PathBuf,
    choice: &'a Choice,
}

impl Lab<'_> {
    /// Runs a suite in a guest of its own, so that an oops costs no other suite.
    fn runs(&self, kernel: &Kernel, unpacked: &Unpacked, suite: &Suite) -> Result<Cell> {
        let (name, executable) = suite;
        let cannot: Vec<_> = kernels::cannot(kernel.series, name).collect();
        let without: Vec<&str> = cannot.iter().map(|cannot| cannot.test).collect();
        let script = guest::script_of_suite(executable, &without);
        let executables = std::slice::from_ref(executable);
        let outcome = self.boot(kernel, unpacked, name, executables, &script)?;
        let mut cell = Cell {
            row: self.row(kernel),
            suite: name,
            left_out: Vec::new(),
            outcome: None,
        };
        match &self.choice.preempt {
            Some(mode) if outcome.exit.is_some() && outcome.preempts.as_ref() != Some(mode) => {
                let reason = format!("all: {} does not know preempt={mode}", unpacked.package);
                cell.left_out.push(reason);
            }
            _ => {
                let reasons = cannot
                    .iter()
                    .map(|cannot| format!("{}: {}", cannot.test, cannot.reason));
                cell.left_out.extend(reasons);
                cell.outcome = Some(outcome);
            }
        }
        Ok(cell)
    }

    /// One guest stands for all suites: leaktrace must say in it why nothing can be traced.
    fn refuses(
        &self,
        kernel: &Kernel,
        unpacked: &Unpacked,
        words: &str,
        suites: &[Suite],
    ) -> Result<Vec<Cell>> {
        let script = guest::script_of_refusal(words);
        let outcome = self.boot(kernel, unpacked, "refusal", &[], &script)?;
        let mut cells = vec![Cell {
            row: self.row(kernel),
            suite: "refusal",
            left_out: Vec::new(),
            outcome: Some(outcome),
        }];
        cells.extend(suites.iter().map(|(suite, _)| Cell {
            row: self.row(kernel),
            suite,
            left_out: vec![format!("all: {words}")],
            outcome: None,
        }));
        Ok(cells)
    }

    fn boot(
        &self,
        kernel: &Kernel,
        unpacked: &Unpacked,
        name: &str,
        executables: &[PathBuf],
        script: &str,
    ) -> Result<Outcome> {
        let begun = Instant::now();
        let file = |ending: &str| {
            let row = self.row(kernel).replace(' ', "-");
            self.folder.join(format!("{row}-{name}.{ending}"))
        };
        let (initramfs, log) = (file("cpio"), file("log"));
        guest::write(&self.busybox, executables, script, &initramfs)?;
        say(&format!("vm: booting {} for {name}", unpacked.package));
        let preempt = self.choice.preempt.as_deref();
        let told = emulated::boot(&self.emulator, unpacked, &initramfs, preempt, &log)?;
        remove(&initramfs)?;
        let outcome = outcome::read(&told);
        say(&format!(
            "vm: {} (preemption: {}): {name}: {} passed, {} failed, in {} s",
            self.row(kernel),
            outcome.preempts.as_deref().unwrap_or("as built"),
            outcome.passed.len(),
            outcome.failed.len(),
            begun.elapsed().as_secs(),
        ));
        Ok(outcome)
    }

    fn row(&self, kernel: &Kernel) -> String {
        match &self.choice.preempt {
            Some(mode) => format!("{} preempt={mode}", kernel.series),
            None => kernel.series.to_owned(),
        }
    }
}

/// A suite on the kernel that runs here.
fn on_this_machine((suite, executable): &Suite) -> Cell {
    let run = Command::new(executable).arg("--test-threads=1").output();
    let outcome = run.map_or_else(
        |_| Outcome::default(),
        |run| Outcome {
            exit: run.status.code(),
            ..outcome::read(&String::from_utf8_lossy(&run.stdout))
        },
    );
    say(&format!(
        "vm: here: {suite}: {} passed",
        outcome.passed.len()
    ));
    Cell {
        row: "here".to_owned(),
        suite,
        left_out: Vec::new(),
        outcome: Some(outcome),
    }
}

fn remove(file: &Path) -> Result<()> {
    fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))
}

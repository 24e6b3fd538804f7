//! Milliseconds until leaktrace is attached to a busy process and armed, and until it is gone.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Result, bail};

use super::{Attach, overhead::attach_leaktrace, say_row, target};
use crate::{child::Running, command::say};

/// Measures and prints both times.
pub(super) fn measure(options: &Attach) -> Result<()> {
    let (mut attached, mut detached) = (Vec::new(), Vec::new());
    let busy = Running::start(
        Command::new(target::program())
            .args(["10", "600000"])
            .stdin(Stdio::null())
            .stdout(Stdio::null()),
    )?;
    for _ in 0..options.rounds.max(1) {
        let begun = Instant::now();
        let (mut leaktrace, output) = attach_leaktrace(busy.pid(), &[])?;
        attached.push(begun.elapsed().as_secs_f64() * 1e3);
        let begun = Instant::now();
        interrupt(leaktrace.pid());
        let status = leaktrace.0.wait()?;
        detached.push(begun.elapsed().as_secs_f64() * 1e3);
        drop(output);
        if !status.success() {
            bail!("leaktrace ended with {status} when it was interrupted");
        }
    }
    say(&format!(
        "median of {} runs (lowest to highest):",
        options.rounds
    ));
    say_row("start to armed", &attached, "ms", "");
    say_row("stop to gone", &detached, "ms", "with the final report");
    Ok(())
}

fn interrupt(pid: u32) {
    // SAFETY: kill touches no memory, and the process is our child, not yet reaped.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGINT) };
}

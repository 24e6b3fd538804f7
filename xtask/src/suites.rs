//! End-to-end suites that were built: runs several beside each other, keeps what each said, and shows it when
//! something has failed. Builds nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::Instant,
};

use anyhow::{Context, Result};

use crate::{
    command::say,
    vm::outcome::{self, Outcome},
    workspace,
};

/// Suites that run beside each other. They mostly wait, and assert no time that a neighbour could cost them
/// on a machine of two processors.
const LANES: usize = 2;

/// A suite that is to be run.
pub(crate) struct Run {
    /// What it is called in the output; the name of its log, too.
    pub(crate) name: String,
    /// It with its arguments and environment.
    pub(crate) command: Command,
}

impl Run {
    /// Runs its tests one at a time: those of one suite may measure times.
    pub(crate) fn of(name: String, executable: &Path) -> Self {
        let mut command = Command::new(executable);
        // The programs are looked up from here, as under cargo.
        command.current_dir(workspace::root().join("tests"));
        command.arg("--test-threads=1");
        Self { name, command }
    }
}

/// Runs all of them; what each said is in a log of its name in `folder` below the build. The outcomes are in
/// the order of the runs.
///
/// # Errors
/// When one cannot be started, or its log cannot be written.
pub(crate) fn run_all(runs: Vec<Run>, folder: &str) -> Result<Vec<Outcome>> {
    run_in_lanes(runs, folder, LANES)
}

/// The same, one after the other.
///
/// # Errors
/// As [`run_all`].
pub(crate) fn run_alone(runs: Vec<Run>, folder: &str) -> Result<Vec<Outcome>> {
    run_in_lanes(runs, folder, 1)
}

fn run_in_lanes(runs: Vec<Run>, folder: &str, lanes: usize) -> Result<Vec<Outcome>> {
    let logs = workspace::target().join(folder);
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    in_lanes(runs, lanes, |run| outcome_of(run, folder, &logs))
        .into_iter()
        .collect()
}

/// Does all jobs, so many at the same time; the results are in the order of the jobs.
fn in_lanes<J: Send, R: Send>(jobs: Vec<J>, lanes: usize, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let waiting = Mutex::new(jobs.into_iter().enumerate());
    let next = || {
        let mut waiting = waiting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        waiting.next()
    };
    let lane = || -> Vec<(usize, R)> {
        std::iter::from_fn(next)
            .map(|(place, job)| (place, work(job)))
            .collect()
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
        let ended = lanes.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended
            .flat_map(|lane| lane.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

fn outcome_of(mut run: Run, task: &str, logs: &Path) -> Result<Outcome> {
    let begun = Instant::now();
    let name = run.name;
    let ended = run
        .command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let told = String::from_utf8_lossy(&ended.stdout);
    let all = format!("{told}\n{}", String::from_utf8_lossy(&ended.stderr));
    let log: PathBuf = logs.join(format!("{name}.log"));
    fs::write(&log, &all).with_context(|| format!("cannot write {}", log.display()))?;
    let outcome = Outcome {
        exit: ended.status.code(),
        ..outcome::read(&told)
    };
    if !outcome.is_good() {
        say(&all);
    }
    say(&format!(
        "{task}: {name}: {} passed, {} failed, in {} s",
        outcome.passed.len(),
        outcome.failed.len(),
        begun.elapsed().as_secs()
    ));
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs_and_lanes_work_at_the_same_time() {
        let both = std::sync::Barrier::new(2);
        let results = in_lanes(vec![1, 2, 3, 4], 2, |job| {
            // Neither of two passes without the other.
            both.wait();
            job * 10
        });
        assert_eq!(results, [10, 20, 30, 40]);
        assert_eq!(in_lanes(vec![7], 2, |job| job), [7]);
    }
}

//! What the end-to-end tests share: traced programs, leaktrace itself, and typed access to what
//! both of them print. Knows the contract (command line, JSON lines, exit codes), and nothing of
//! how leaktrace works inside.
//!
//! Everything here panics when something is wrong: a panic is a failed test. Nothing waits longer
//! than [`PATIENCE`], and whatever was started is killed when its owner is dropped.

#![expect(
    clippy::expect_used,
    reason = "a harness fails its test by panicking, with what failed as the message"
)]

mod compile;
mod environment;
mod files;
mod kernel_stacks;
mod lines;
mod memory_group;
mod procfs;
mod report;
mod root;
mod samples;
mod spawned;
mod stalled;
mod survived;
mod target;
mod traced;
mod tracer;
mod truth;

use std::time::Duration;

pub use compile::{Program, traced_programs};
pub use environment::{preload, root_of_targets};
pub use files::{copy, path_text, read, run_tool, scratch};
pub use memory_group::MemoryGroup;
pub use procfs::{code_at, cpu_time, kernel_is_at_least, peak_resident_bytes};
pub use report::{Frame, Held, Report, Site};
pub use root::{children, copy_mapped, fill_root, mapped_files};
pub use samples::{Agreement, compare_stacks};
pub use spawned::Spawned;
pub use stalled::Stalled;
pub use survived::{Survived, survives};
pub use target::Target;
pub use traced::{
    Traced, assert_nothing_lost, assert_sites_are_true, assert_totals_are_true, trace, trace_with,
};
pub use tracer::{
    Finished, Session, Tracer, assert_refused, leaktrace, leaktrace_of_commands, run, run_to_end,
};
pub use truth::Truth;

/// Longest wait for anything that a program under test should do, also where a guest emulates its processor
/// on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

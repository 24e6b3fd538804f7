//! leaktrace: what grows in a live native process, by call stack.
//!
//! Data moves one way, and a module uses what stands before it in this list, never what stands
//! after it:
//!
//! [`target`] (the process, its mappings and objects) → [`debuginfod`] (what was stripped from them, from
//! servers, if the user wants that) → [`allocators`] (which functions allocate) → [`probes`] (where to put which probe) → [`session`] (the kernel side) → [`snapshot`] (one
//! reading) → [`analysis`] (what grows) → [`symbolize`] (names) → [`report`], made by [`compose`] → [`export`] (bytes).
//!
//! `units` (numbers as people write them) and [`instructions`] (what machine code does) stand apart and use
//! nothing.
//! [`run`] is the list of these stages, [`cli`] turns arguments into its configuration, and
//! [`preflight`] says beforehand whether this machine can trace.

pub mod allocators;
pub mod analysis;
pub mod cli;
pub mod compose;
pub mod debuginfod;
pub mod diagnostics;
pub mod export;
pub mod instructions;
pub mod preflight;
pub mod probes;
pub mod report;
pub mod run;
pub mod session;
pub mod snapshot;
pub mod symbolize;
pub mod target;
mod units;
pub mod unwind;

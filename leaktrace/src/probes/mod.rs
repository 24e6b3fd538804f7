//! Turns a process's allocation functions into a [`ProbePlan`]: which probe stands where, under
//! which program, attached in which order. Opens no file and attaches nothing.

pub mod exits;
mod operators;
pub mod placement;
pub mod plan;

pub use placement::{Placement, Step};
pub use plan::{Group, PlanOptions, Point, Probe, ProbePlan, Program, Role, Unprobed, plan};

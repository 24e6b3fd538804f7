//! Report → bytes: text for people, JSON lines for programs, folded stacks and flame graphs, and
//! the files they go to. Computes no number and asks the target nothing.

pub mod file;
pub mod flamegraph;
pub mod folded;
pub mod json;
pub mod messages;
mod pairs_text;
pub mod sanitize;
pub mod text;

mod brief;
mod churn_text;
mod columns;
mod memory_text;
mod stack_text;

#[cfg(test)]
mod samples;

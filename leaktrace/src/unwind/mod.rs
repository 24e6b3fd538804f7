//! What an object's .eh_frame says about its stack frames, as tables that the kernel side can
//! search. Attaches nothing.

mod bridges;
mod build;
mod finish;
mod rules;
mod table;
mod vdso;

pub use bridges::{Bridges, OPERATORS, bridges};
pub use build::{Builder, Built, identity};
pub use finish::{Code, SavedStack, finish};
pub use rules::{RareRules, Rules};
pub use table::Table;

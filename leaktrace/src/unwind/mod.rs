//! What an object's .eh_frame says about its stack frames. Reads bytes that it is given; attaches
//! and opens nothing.

mod bridges;

pub use bridges::{Bridges, OPERATORS, bridges};

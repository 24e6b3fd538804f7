//! Raw frames → names, for the stacks that are reported and for no others.

mod frame;

pub use frame::Frame;

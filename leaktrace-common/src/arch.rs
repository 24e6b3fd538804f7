//! What has to be known of the processor: register numbers, where a return address stands, what a signal
//! handler returns to. Another architecture is another file beside `x86_64.rs`, with the same names in
//! it, and one more line here; nothing else of this crate knows an architecture.
//!
//! The programs are built for the BPF machine, which does not say what it runs on. So the architecture
//! is chosen here and not by `cfg(target_arch)`.

mod x86_64;

pub use x86_64::*;

//! What the BPF programs and user space must agree on: the layout of map keys, map values and
//! events, the encoding of attach cookies, limits, losses, and arithmetic that both sides run.
//!
//! Everything here is `no_std`, has a fixed layout and is tested on the host. Nothing here knows
//! aya (but for `aya::Pod` under the feature `user`) or a map.

#![no_std]

pub mod arch;
pub mod birth;
pub mod bucket;
pub mod call;
pub mod event;
pub mod lane;
pub mod ledger;
pub mod limits;
pub mod loss;
pub mod mapping;
mod pod;
pub mod process;
pub mod reuse;
pub mod stack;
pub mod unwind;

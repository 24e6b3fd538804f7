//! A stack that the programs could not follow to its end, because the code that it leads through is
//! new: with a copy of the rest of the stack, so that user space can follow it a moment later.

use super::step::Registers;
use crate::limits::PAGE_BYTES;

/// Pages that are copied besides the one that the stack pointer is in.
pub const SAVED_PAGES: u64 = 4;

/// Bytes of stack that fit: a piece of a page, and whole pages.
pub const SAVED_BYTES: usize = ((1 + SAVED_PAGES) * PAGE_BYTES) as usize;

/// One such stack. Its frames so far are the stack of its site, which no other call shares.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Unfinished {
    /// Index of the site.
    pub site: u32,
    /// Index of the process.
    pub process: u32,
    /// The last frame of the site's stack.
    pub registers: Registers,
    /// `removals` of the process: mappings that were read when it had another value may be wrong.
    pub removals: u64,
    /// Frames of the site's stack.
    pub depth: u64,
    /// Bytes in `stack`.
    pub length_bytes: u64,
    /// The stack from the stack pointer on.
    pub stack: [u64; SAVED_BYTES / 8],
}

const _: () = assert!(size_of::<Unfinished>() == SAVED_BYTES + 64);

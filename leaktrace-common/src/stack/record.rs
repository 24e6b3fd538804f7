//! A stack as it lies in memory: a record that every stack has, and more frames behind it that few have.
//! Walks nothing and hashes nothing.

use super::StackEnd;
use crate::limits::{DEEP_FRAMES, MAX_FRAMES, RECORD_FRAMES};

/// A stack that allocates. Stored once, by content, when it is first seen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackRecord {
    /// 64-bit hash of process, source and frames.
    pub hash: u64,
    /// Index of the process.
    pub process: u16,
    /// A [`Source`](super::Source).
    pub source: u8,
    /// A [`StackEnd`].
    pub end: u8,
    /// Frames of the stack; those that `frames` has no room for are its [`DeepFrames`].
    pub depth: u32,
    /// Return addresses, the caller of the allocation function first.
    pub frames: [u64; RECORD_FRAMES],
}

const _: () = assert!(size_of::<StackRecord>() == 1024);

/// The frames of a stack that its record has no room for. Stored before the record is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeepFrames {
    /// Return addresses, from number [`RECORD_FRAMES`] on.
    pub frames: [u64; DEEP_FRAMES],
}

/// A stack that is being taken: its frames stand one behind the other, whatever their number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeStack {
    /// What is stored of every stack.
    pub record: StackRecord,
    /// What is stored besides of one with more frames.
    pub deep: DeepFrames,
}

const _: () = assert!(size_of::<WholeStack>() == 16 + MAX_FRAMES * 8);

impl WholeStack {
    /// Appends a frame; `false` when there is no room.
    #[inline(always)]
    pub fn push(&mut self, address: u64) -> bool {
        let depth = self.record.depth as usize;
        if depth >= MAX_FRAMES {
            return false;
        }
        // One place for all frames and not one of two arrays: the walk goes through here for every
        // frame.
        // SAFETY: the two arrays are one of `MAX_FRAMES` words, by the size that is asserted above,
        // and the pointer is made of that to both.
        unsafe {
            core::ptr::from_mut(self)
                .byte_add(core::mem::offset_of!(StackRecord, frames))
                .cast::<u64>()
                .add(depth)
                .write(address);
        }
        self.record.depth = depth as u32 + 1;
        true
    }

    /// Whether the record has not all of the frames.
    #[inline(always)]
    pub const fn is_deep(&self) -> bool {
        self.record.depth > RECORD_FRAMES as u32
    }

    /// Leaves out what the record has no room for, and says so.
    #[inline(always)]
    pub const fn cut(&mut self) {
        self.record.depth = RECORD_FRAMES as u32;
        self.record.end = StackEnd::TooDeep as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_fill_the_record_first_and_then_what_is_behind_it() {
        let mut stack = WholeStack {
            record: StackRecord {
                hash: 7,
                process: 0,
                source: 0,
                end: StackEnd::Complete as u8,
                depth: 0,
                frames: [0; RECORD_FRAMES],
            },
            deep: DeepFrames {
                frames: [0; DEEP_FRAMES],
            },
        };
        for frame in 1..=MAX_FRAMES as u64 {
            assert_eq!(stack.is_deep(), frame > RECORD_FRAMES as u64 + 1);
            assert!(stack.push(frame));
        }
        assert!(!stack.push(9), "full");
        assert_eq!(stack.record.depth as usize, MAX_FRAMES);
        let frames = stack.record.frames.iter().chain(&stack.deep.frames);
        assert!(frames.copied().eq(1..=MAX_FRAMES as u64));
        stack.cut();
        assert_eq!(stack.record.depth as usize, RECORD_FRAMES);
        assert_eq!(stack.record.end, StackEnd::TooDeep as u8);
        assert_eq!(stack.record.hash, 7);
    }
}

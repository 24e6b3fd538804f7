//! Words of the stack, read by the piece: one read of many words costs as much as two or three
//! reads of a word, and one that crosses into a page that is not there costs six times as much.

use aya_ebpf::helpers::generated::bpf_probe_read_user as read_user_bytes;
use leaktrace_common::limits::PAGE_BYTES;
use leaktrace_common::unwind::REACH_WORDS;
use leaktrace_common::unwind::StackMemory;

use crate::scratch::{WINDOW_BYTES, Window};

/// A piece begins this far below the word that is asked for: registers are saved there.
const BELOW_BYTES: u64 = 56;

impl StackMemory for Window {
    #[inline(always)]
    fn word(&mut self, address: u64) -> Option<u64> {
        let word = word(self, address)?;
        self.trail.note(address, word);
        Some(word)
    }

    #[inline(always)]
    fn saved_frame_pointer(&mut self, address: u64) -> Option<u64> {
        let word = word(self, address)?;
        self.trail.note_saved(address, word);
        Some(word)
    }

    #[inline(always)]
    fn use_frame_pointer(&mut self) {
        self.trail.use_frame_pointer();
    }
}

/// Begins the window at the stack pointer; the word there, 0 when it cannot be read.
#[inline(always)]
pub(super) fn begin(window: &mut Window, start: u64) -> u64 {
    let length = (PAGE_BYTES - (start & (PAGE_BYTES - 1))).min(WINDOW_BYTES);
    match read(window, start, length) {
        true => window.words[0],
        false => 0,
    }
}

/// Reads the window again, so that it has so many words.
#[inline(always)]
pub(super) fn extend(window: &mut Window, words: u64) -> bool {
    let start = window.start;
    read(window, start, words * 8)
}

#[inline(always)]
fn read(window: &mut Window, start: u64, length_bytes: u64) -> bool {
    window.count = 0;
    window.start = start;
    if length_bytes > size_of_val(&window.words) as u64 {
        return false;
    }
    // SAFETY: the length is at most that of the window; the helper checks the address.
    let failed = unsafe {
        read_user_bytes(
            window.words.as_mut_ptr().cast(),
            length_bytes as u32,
            start as *const _,
        )
    };
    if failed != 0 {
        return false;
    }
    window.count = length_bytes >> 3;
    true
}

/// One word of the stack.
#[inline(always)]
pub(super) fn word(window: &mut Window, address: u64) -> Option<u64> {
    let mut index = address.wrapping_sub(window.start) >> 3;
    if index >= window.count {
        let below = BELOW_BYTES.min(address & (PAGE_BYTES - 1)) & !7;
        let start = address - below;
        let length = (PAGE_BYTES - (start & (PAGE_BYTES - 1))).min(WINDOW_BYTES);
        if !read(window, start, length) {
            return None;
        }
        index = below >> 3;
    }
    Some(window.words[(index as usize) & (REACH_WORDS - 1)])
}

/// The word at `address` and the one behind it: a saved frame pointer and its return address.
#[inline(always)]
pub(super) fn pair(window: &mut Window, address: u64) -> Option<(u64, u64)> {
    let index = address.wrapping_sub(window.start) >> 3;
    if index.wrapping_add(1) < window.count {
        let first = window.words[(index as usize) & (REACH_WORDS - 1)];
        return Some((
            first,
            window.words[(index as usize + 1) & (REACH_WORDS - 1)],
        ));
    }
    Some((word(window, address)?, word(window, address + 8)?))
}

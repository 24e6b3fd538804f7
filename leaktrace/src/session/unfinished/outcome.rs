//! What becomes of a stack that was followed after it was stored, or given up: the stack in its place, and the
//! id that tells it from others. Follows none itself.

use leaktrace_common::stack::{StackEnd, hash_end, hash_frame, hash_start};

use crate::snapshot::Stack;

/// What has become of a stack of a process.
pub(super) struct Outcome {
    pub(super) process: u32,
    /// Absent when it was given up, and stays as it was stored.
    pub(super) finished: Option<Finished>,
}

/// What comes in the place of the last frame that the kernel side has stored.
pub(super) struct Finished {
    /// Frames before that one.
    pub(super) kept: usize,
    pub(super) frames: Vec<u64>,
    pub(super) end: StackEnd,
}

impl Outcome {
    /// Until here the stack had an id of its own, because nobody knew which one it is.
    pub(super) fn apply(self, process: u16, mut stack: Stack) -> Stack {
        if let Some(finished) = self.finished {
            finished.append_to(&mut stack);
        }
        // As the programs would have computed it.
        let start = hash_start(u32::from(process), stack.source);
        let hash = stack.frames.iter().fold(start, |h, f| hash_frame(h, *f));
        stack.id = hash_end(hash_frame(hash, stack.end as u64));
        stack
    }
}

impl Finished {
    fn append_to(self, stack: &mut Stack) {
        // There was no room for all frames before these.
        if stack.frames.len() < self.kept {
            return;
        }
        stack.frames.truncate(self.kept);
        stack.frames.extend(self.frames);
        stack.end = self.end;
    }
}

#[cfg(test)]
mod tests {
    use leaktrace_common::stack::Source;

    use super::*;

    fn stored(frames: &[u64], end: StackEnd) -> Stack {
        Stack {
            id: 1,
            source: Source::Heap,
            end,
            frames: frames.to_vec(),
        }
    }

    fn finished() -> Finished {
        Finished {
            kept: 2,
            frames: vec![30, 40],
            end: StackEnd::Complete,
        }
    }

    fn applied(finished: Option<Finished>, process: u16, stack: Stack) -> Stack {
        let of = u32::from(process);
        Outcome {
            process: of,
            finished,
        }
        .apply(process, stack)
    }

    #[test]
    fn what_was_finished_comes_in_the_place_of_the_last_frame() {
        let cut = stored(&[10, 20, 30], StackEnd::NoMapping);
        let whole = applied(Some(finished()), 0, cut);
        assert_eq!(whole.frames, [10, 20, 30, 40]);
        assert_eq!(whole.end, StackEnd::Complete);
    }

    #[test]
    fn a_stack_whose_frames_found_no_room_stays_cut() {
        let cut = stored(&[10], StackEnd::TooDeep);
        let stays = applied(Some(finished()), 0, cut.clone());
        assert_eq!((stays.frames, stays.end), (cut.frames, cut.end));
    }

    #[test]
    fn equal_stacks_that_were_given_up_are_one() {
        let cut = |id| Stack {
            id,
            ..stored(&[10, 20], StackEnd::TableMissing)
        };
        let one = applied(None, 3, cut(1));
        assert_eq!((&one.frames[..], one.end), (&[10, 20][..], cut(1).end));
        assert_eq!(one, applied(None, 3, cut(2)));
        assert_ne!(one.id, applied(None, 4, cut(2)).id);
        let longer = stored(&[10, 20, 30], StackEnd::TableMissing);
        assert_ne!(one.id, applied(None, 3, longer).id);
    }
}

//! Follows a stack to its end that the kernel side could not follow, from the registers and the
//! copy of the stack that it has sent. The same steps as there, over the same tables.

use leaktrace_common::limits::MAX_FRAMES;
use leaktrace_common::stack::StackEnd;
use leaktrace_common::unwind::{
    RareRule, Registers, Row, RowKind, StackMemory, step, step_by_frame_pointer,
};

/// What is known of a process's code.
pub trait Code {
    /// The rule for an address.
    ///
    /// # Errors
    ///
    /// Why there is none yet.
    fn row(&self, address: u64) -> Result<Row, StackEnd>;

    /// The rule that a row names.
    fn rare_rule(&self, index: u32) -> Option<RareRule>;
}

/// A piece of a stack.
#[derive(Clone, Debug)]
pub struct SavedStack {
    /// Address of the first word.
    pub start: u64,
    /// The words.
    pub words: Vec<u64>,
}

impl StackMemory for SavedStack {
    fn word(&mut self, address: u64) -> Option<u64> {
        let place = address.checked_sub(self.start)? / 8;
        self.words.get(usize::try_from(place).ok()?).copied()
    }
}

/// Appends the frames above the last one of `frames`, which has these registers, and says why there
/// are no more. `frames` are the whole stack so far.
///
/// # Errors
///
/// Why the stack cannot be followed yet.
pub fn finish(
    frames: &mut Vec<u64>,
    registers: Registers,
    stack: &mut SavedStack,
    code: &impl Code,
) -> Result<StackEnd, StackEnd> {
    let mut at = registers;
    loop {
        let row = code.row(at.rule_address())?;
        if row.is_hidden() && frames.len() == 1 {
            frames.clear();
        }
        let up = match row.kind() {
            RowKind::NoInfo => step_by_frame_pointer(&at, stack)
                .and_then(|up| code.row(up.pc.wrapping_sub(1)).map(|_| up))
                .map_err(|end| match end {
                    StackEnd::Complete => end,
                    _ => StackEnd::NoInfo,
                }),
            _ => step(row, |index| code.rare_rule(index), &at, stack),
        };
        at = match up {
            Ok(up) if frames.len() < MAX_FRAMES => up,
            Ok(_) => return Ok(StackEnd::TooDeep),
            Err(end) => return Ok(end),
        };
        frames.push(at.pc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code in which each address of 0x1000 bytes has one rule.
    struct Rules(Vec<(u64, Result<Row, StackEnd>)>);

    impl Code for Rules {
        fn row(&self, address: u64) -> Result<Row, StackEnd> {
            let found = self.0.iter().find(|(start, _)| *start == address & !0xfff);
            found.map_or(Err(StackEnd::NoMapping), |(_, row)| *row)
        }

        fn rare_rule(&self, _index: u32) -> Option<RareRule> {
            None
        }
    }

    fn frame_of(words: u32) -> Row {
        Row::new(RowKind::StackPointer, words, 0).unwrap_or_default()
    }

    fn first() -> Registers {
        Registers {
            pc: 0x1010,
            sp: 0x7000,
            fp: 0,
            interrupted: 0,
        }
    }

    fn stack() -> SavedStack {
        SavedStack {
            start: 0x7000,
            words: vec![9, 0x2010, 9, 9, 0x3010, 0],
        }
    }

    #[test]
    fn a_stack_is_followed_to_its_end() {
        let code = Rules(vec![
            (0x1000, Ok(frame_of(2))),
            (0x2000, Ok(frame_of(3))),
            (0x3000, Ok(Row::of_kind(RowKind::End))),
        ]);
        let mut frames = vec![0x1010];
        let end = finish(&mut frames, first(), &mut stack(), &code);
        assert_eq!(end, Ok(StackEnd::Complete));
        assert_eq!(frames, [0x1010, 0x2010, 0x3010]);
    }

    #[test]
    fn what_is_not_known_yet_is_said() {
        let code = Rules(vec![
            (0x1000, Ok(frame_of(2))),
            (0x2000, Err(StackEnd::TableMissing)),
        ]);
        let mut frames = vec![0x1010];
        let end = finish(&mut frames, first(), &mut stack(), &code);
        assert_eq!(end, Err(StackEnd::TableMissing));
    }

    #[test]
    fn a_stack_longer_than_its_copy_is_cut_there() {
        let code = Rules(vec![(0x1000, Ok(frame_of(2))), (0x2000, Ok(frame_of(300)))]);
        let mut frames = vec![0x1010];
        let end = finish(&mut frames, first(), &mut stack(), &code);
        assert_eq!(end, Ok(StackEnd::Unreadable));
        assert_eq!(frames, [0x1010, 0x2010]);
    }

    #[test]
    fn operator_new_is_no_frame_here_either() {
        let code = Rules(vec![
            (0x1000, Ok(frame_of(2).hidden())),
            (0x2000, Ok(Row::of_kind(RowKind::End))),
        ]);
        let mut frames = vec![0x1010];
        let end = finish(&mut frames, first(), &mut stack(), &code);
        assert_eq!(end, Ok(StackEnd::Complete));
        assert_eq!(frames, [0x2010]);
    }
}

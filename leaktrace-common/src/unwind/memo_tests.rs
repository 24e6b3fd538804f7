//! Walks over stacks written down by hand, whose trails are then held against other stacks.

extern crate std;

use std::vec::Vec;

use super::super::{Registers, Row, RowKind, StackMemory, step, step_by_frame_pointer};
use super::*;
use crate::stack::StackEnd;

const ORIGIN: u64 = 0x7000;
const LIBRARY: u64 = 0x40_0000;

/// A stack as the kernel side reads it: a piece of memory, and a trail of what was read.
#[derive(Clone)]
struct Stack {
    words: [u64; REACH_WORDS],
    trail: Trail,
}

impl Stack {
    fn new(words: &[(usize, u64)]) -> Self {
        let mut stack = Self {
            words: [0xdead; REACH_WORDS],
            trail: Trail::EMPTY,
        };
        for (place, word) in words {
            stack.words[*place] = *word;
        }
        stack
    }

    fn with(&self, place: usize, word: u64) -> Self {
        let mut other = self.clone();
        other.words[place] = word;
        other
    }

    fn read(&self, address: u64) -> Option<u64> {
        let place = usize::try_from(address.wrapping_sub(ORIGIN) / 8).ok()?;
        self.words.get(place).copied()
    }
}

impl StackMemory for Stack {
    fn word(&mut self, address: u64) -> Option<u64> {
        let word = self.read(address)?;
        self.trail.note(address, word);
        Some(word)
    }

    fn saved_frame_pointer(&mut self, address: u64) -> Option<u64> {
        let word = self.read(address)?;
        self.trail.note_saved(address, word);
        Some(word)
    }

    fn use_frame_pointer(&mut self) {
        self.trail.use_frame_pointer();
    }
}

fn sp(words: u32, saved: u32) -> Row {
    Row::new(RowKind::StackPointer, words, saved).unwrap_or_default()
}

fn fp(words: u32, saved: u32) -> Row {
    Row::new(RowKind::FramePointer, words, saved).unwrap_or_default()
}

/// Functions are told by the hundreds of their addresses; this is the one that called nobody.
const FIRST: u64 = 9;

fn row_of(pc: u64) -> Row {
    match (pc - LIBRARY) >> 8 {
        1 => sp(4, 0),
        2 => sp(4, 2),
        3 => fp(2, 1),
        4 => sp(6, 0),
        FIRST => Row::of_kind(RowKind::End),
        _ => Row::NO_INFO,
    }
}

const fn function(number: u64) -> u64 {
    LIBRARY + (number << 8) + 0x10
}

/// The addresses of the frames, and why there are no more.
fn walk(stack: &mut Stack, register: u64) -> (Vec<u64>, StackEnd) {
    stack.trail.begin(ORIGIN, register);
    let pc = stack.words[0];
    stack.trail.note(ORIGIN, pc);
    let mut at = Registers {
        pc,
        sp: ORIGIN + 8,
        fp: register,
        interrupted: 0,
    };
    let mut frames = Vec::new();
    loop {
        frames.push(at.pc);
        let up = match row_of(at.pc) {
            Row::NO_INFO => step_by_frame_pointer(&at, stack),
            row => step(row, |_| None, &at, stack),
        };
        match up {
            Ok(up) => at = up,
            Err(end) => return (frames, end),
        }
    }
}

fn kept(stack: &Stack, register: u64) -> Memo {
    let mut stack = stack.clone();
    let (_, end) = walk(&mut stack, register);
    let expected = match row_of(stack.words[0]) {
        Row::NO_INFO => StackEnd::NoInfo,
        _ => StackEnd::Complete,
    };
    assert_eq!(end, expected);
    assert!(stack.trail.close());
    Memo {
        taken: 0,
        site: 77,
        code: 5,
        caller: 6,
        wanted: 0,
        trail: stack.trail,
    }
}

const fn beginning(register: u64) -> Beginning {
    Beginning {
        stack_pointer: ORIGIN,
        frame_pointer: register,
        code: 5,
        caller: 6,
    }
}

fn is_taken_for(memo: &Memo, stack: &Stack, register: u64) -> bool {
    memo.begins_like(&beginning(register))
        && (0..memo.trail.groups()).all(|n| memo.trail.fork(n, &stack.words) == 0)
}

/// Function 1 calls malloc, 2 calls 1, 4 calls 2, and the first one calls 4.
fn without_frame_pointers() -> Stack {
    Stack::new(&[
        (0, function(1)),
        (1 + 3, function(2)),
        (5 + 1, 0xbeef),
        (5 + 3, function(4)),
        (9 + 5, function(FIRST)),
    ])
}

#[test]
fn the_same_stack_is_known_again() {
    let stack = without_frame_pointers();
    assert!(is_taken_for(&kept(&stack, 1), &stack, 1));
}

#[test]
fn each_return_address_counts_however_deep() {
    let stack = without_frame_pointers();
    let memo = kept(&stack, 1);
    for place in [0, 4, 8, 14] {
        let other = stack.with(place, stack.words[place] + 1);
        assert!(!is_taken_for(&memo, &other, 1), "word {place}");
    }
}

#[test]
fn what_no_frame_is_found_by_does_not_count() {
    let stack = without_frame_pointers();
    let memo = kept(&stack, 1);
    assert!(is_taken_for(&memo, &stack, 2), "the register");
    assert!(is_taken_for(&memo, &stack.with(6, 0xf00d), 1), "its copy");
    assert!(is_taken_for(&memo, &stack.with(2, 7), 1), "a variable");
}

#[test]
fn a_saved_register_counts_when_a_frame_is_found_by_it() {
    let stack = Stack::new(&[
        (0, function(2)),
        (1 + 1, ORIGIN + 8 * 20),
        (1 + 3, function(3)),
        (20, 0xbeef),
        (21, function(FIRST)),
        (30, 0xbeef),
        (31, function(FIRST)),
    ]);
    let memo = kept(&stack, 1);
    assert!(is_taken_for(&memo, &stack, 2));
    assert!(is_taken_for(&memo, &stack.with(20, 0xf00d), 1));
    // As long a stack, and the same frames.
    assert!(!is_taken_for(&memo, &stack.with(2, ORIGIN + 8 * 30), 1));
}

#[test]
fn the_register_itself_counts_when_a_frame_is_found_by_it() {
    let stack = Stack::new(&[(0, function(3)), (20, 1), (21, function(FIRST))]);
    let memo = kept(&stack, ORIGIN + 8 * 20);
    assert!(is_taken_for(&memo, &stack, ORIGIN + 8 * 20));
    assert!(!is_taken_for(&memo, &stack, ORIGIN + 8 * 21));
}

#[test]
fn code_without_rules_counts_by_its_frame_pointers() {
    let stack = Stack::new(&[
        (0, function(5)),
        (20, ORIGIN + 8 * 40),
        (21, function(5)),
        (40, 0),
        (41, 0),
    ]);
    let register = ORIGIN + 8 * 20;
    let memo = kept(&stack, register);
    assert!(is_taken_for(&memo, &stack, register));
    assert!(!is_taken_for(&memo, &stack, register + 8));
    assert!(!is_taken_for(
        &memo,
        &stack.with(20, ORIGIN + 8 * 50),
        register
    ));
    assert!(!is_taken_for(&memo, &stack.with(21, function(1)), register));
    assert!(!is_taken_for(&memo, &stack.with(41, function(1)), register));
    assert!(is_taken_for(&memo, &stack.with(40, 1), register));
}

#[test]
fn another_process_source_table_or_stack_pointer_is_another_walk() {
    let memo = kept(&without_frame_pointers(), 1);
    let same = beginning(1);
    assert!(memo.begins_like(&same));
    assert!(!memo.begins_like(&Beginning { code: 4, ..same }));
    assert!(!memo.begins_like(&Beginning { caller: 7, ..same }));
    let moved = Beginning {
        stack_pointer: ORIGIN + 8,
        ..same
    };
    assert!(!memo.begins_like(&moved));
}

/// Whatever changes on a stack: if the trail does not see it, the walk is the same.
#[test]
fn every_single_change_that_is_not_seen_changes_no_walk() {
    let stacks = [
        (without_frame_pointers(), 1),
        (
            Stack::new(&[
                (0, function(2)),
                (2, ORIGIN + 8 * 20),
                (4, function(3)),
                (20, ORIGIN + 8 * 40),
                (21, function(5)),
                (40, ORIGIN + 8 * 60),
                (41, function(3)),
                (60, 3),
                (61, function(FIRST)),
            ]),
            1,
        ),
    ];
    for (stack, register) in stacks {
        let memo = kept(&stack, register);
        let wanted = walk(&mut stack.clone(), register);
        for place in 0..REACH_WORDS {
            for word in [0, 1, ORIGIN + 8 * 30, function(1), function(FIRST)] {
                let mut other = stack.with(place, word);
                if is_taken_for(&memo, &other, register) {
                    assert_eq!(walk(&mut other, register), wanted, "word {place}");
                }
            }
        }
    }
}

#[test]
fn stacks_that_fork_from_one_are_told_apart() {
    let stack = without_frame_pointers();
    let memo = kept(&stack, 1);
    let fork = |other: &Stack| {
        (0..memo.trail.groups())
            .map(|n| memo.trail.fork(n, &other.words))
            .find(|fork| *fork != 0)
    };
    let one = fork(&stack.with(8, function(3)));
    assert!(one.is_some());
    // What comes after the first difference is another function's, and its own affair.
    let both = stack.with(8, function(3)).with(14, 1);
    assert_eq!(fork(&both), one);
    assert_ne!(fork(&stack.with(8, function(2))), one);
    assert_ne!(fork(&stack.with(14, function(3))), one);
}

#[test]
fn a_trail_that_is_not_whole_is_not_kept() {
    let mut trail = Trail::EMPTY;
    trail.begin(ORIGIN, 0);
    assert!(!trail.close(), "no word");
    for n in 0..TRAIL_WORDS as u64 {
        trail.note(ORIGIN + 8 * n, n);
    }
    assert!(trail.clone().close(), "full");
    trail.note(ORIGIN, 0);
    assert!(!trail.close(), "too many words");
    for address in [ORIGIN - 8, ORIGIN + 8 * REACH_WORDS as u64, u64::MAX - 7] {
        trail.begin(ORIGIN, 0);
        trail.note(address, 1);
        assert!(!trail.close(), "{address:#x} is out of reach");
    }
    trail.begin(ORIGIN + 4, 0);
    trail.note(ORIGIN + 4, 1);
    assert!(!trail.close(), "odd stack pointer");
}

#[test]
fn what_is_left_of_a_longer_walk_does_not_count() {
    let mut trail = Trail::EMPTY;
    trail.begin(ORIGIN, 0);
    for n in 0..20 {
        trail.note(ORIGIN + 8 * n, 1);
    }
    trail.begin(ORIGIN, 0);
    trail.note(ORIGIN, 5);
    assert!(trail.close());
    let stack = Stack::new(&[(0, 5)]);
    assert_eq!((trail.groups(), trail.fork(0, &stack.words)), (1, 0));
}

//! Steps over stacks written down by hand.

extern crate std;

use std::collections::BTreeMap;

use super::*;

struct Stack(BTreeMap<u64, u64>);

impl Stack {
    fn new(words: &[(u64, u64)]) -> Self {
        Self(words.iter().copied().collect())
    }
}

impl StackMemory for Stack {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.0.get(&address).copied()
    }
}

fn row(kind: RowKind, value: u32, saved: u32) -> Row {
    Row::new(kind, value, saved).unwrap_or_default()
}

fn walk(row: Row, at: Registers, words: &[(u64, u64)]) -> Result<Registers, StackEnd> {
    step(row, |_| None, &at, &mut Stack::new(words))
}

fn at(pc: u64, sp: u64, fp: u64) -> Registers {
    Registers {
        pc,
        sp,
        fp,
        interrupted: 0,
    }
}

#[test]
fn a_frame_with_its_size_known_leads_to_its_caller() {
    let row = row(RowKind::StackPointer, 6, 2);
    let words = [(0x1028, 0x40_2000), (0x1018, 0xbeef)];
    assert_eq!(
        walk(row, at(0x40_1000, 0x1000, 7), &words),
        Ok(at(0x40_2000, 0x1030, 0xbeef))
    );
}

#[test]
fn a_frame_pointer_that_is_not_saved_is_the_callers_own() {
    let row = row(RowKind::StackPointer, 1, 0);
    assert_eq!(
        walk(row, at(0x40_1000, 0x1000, 0x77), &[(0x1000, 0x40_2000)]),
        Ok(at(0x40_2000, 0x1008, 0x77))
    );
}

#[test]
fn a_frame_of_unknown_size_is_found_by_its_frame_pointer() {
    let row = row(RowKind::FramePointer, 2, 1);
    let words = [(0x5008, 0x40_2000), (0x5000, 0x6000)];
    assert_eq!(
        walk(row, at(0x40_1000, 0x1000, 0x5000), &words),
        Ok(at(0x40_2000, 0x5010, 0x6000))
    );
}

#[test]
fn a_realigned_stack_keeps_its_frame_address_in_memory() {
    let rule = RareRule {
        cfa_base: RareBase::FramePointer as u16,
        cfa_loaded: 1,
        cfa_offset: -8,
        saved_base: RareBase::FramePointer as u16,
        padding: 0,
        saved_offset: 0,
    };
    let words = [(0x4ff8, 0x5100), (0x50f8, 0x40_2000), (0x5000, 0x6000)];
    let up = step(
        row(RowKind::Rare, 3, 0),
        |index| (index == 3).then_some(rule),
        &at(0x40_1000, 0x1000, 0x5000),
        &mut Stack::new(&words),
    );
    assert_eq!(up, Ok(at(0x40_2000, 0x5100, 0x6000)));
}

#[test]
fn a_signal_frame_restores_what_was_interrupted_on_whatever_stack() {
    let words = [
        (0x9000 + 120, 0x6000),
        (0x9000 + 160, 0x1000),
        (0x9000 + 168, 0x40_3000),
    ];
    let up = walk(Row::of_kind(RowKind::Signal), at(0x7000, 0x9000, 1), &words);
    let wanted = Registers {
        pc: 0x40_3000,
        sp: 0x1000,
        fp: 0x6000,
        interrupted: 1,
    };
    assert_eq!(up, Ok(wanted));
    assert_eq!(wanted.rule_address(), 0x40_3000);
    assert_eq!(at(0x40_3000, 0, 0).rule_address(), 0x40_2fff);
}

#[test]
fn a_plt_entry_has_pushed_a_word_or_not() {
    let row = row(RowKind::Plt, 11, 0);
    let words = [(0x1000, 0x40_2000), (0x1008, 0x40_3000)];
    assert_eq!(
        walk(row, at(0x40_1006, 0x1000, 0), &words),
        Ok(at(0x40_2000, 0x1008, 0))
    );
    assert_eq!(
        walk(row, at(0x40_100b, 0x1000, 0), &words),
        Ok(at(0x40_3000, 0x1010, 0))
    );
}

#[test]
fn every_other_end_has_its_reason() {
    let words = [(0x1000, 0)];
    let start = at(0x40_1000, 0x1000, 0x800);
    let ends = [
        (Row::NO_INFO, StackEnd::NoInfo),
        (Row::of_kind(RowKind::End), StackEnd::Complete),
        (Row::of_kind(RowKind::Unsupported), StackEnd::RuleMissing),
        (row(RowKind::Rare, 3, 0), StackEnd::RuleMissing),
        (row(RowKind::StackPointer, 1, 0), StackEnd::Complete),
        (row(RowKind::StackPointer, 0, 0), StackEnd::BrokenFrame),
        (row(RowKind::StackPointer, 5, 0), StackEnd::Unreadable),
        (row(RowKind::FramePointer, 2, 1), StackEnd::BrokenFrame),
        (Row::of_kind(RowKind::Signal), StackEnd::Unreadable),
    ];
    for (row, end) in ends {
        assert_eq!(walk(row, start, &words), Err(end), "{row:x?}");
    }
}

#[test]
fn the_chain_of_frame_pointers_is_followed_upwards_only() {
    let words = [
        (0x1000, 0x1100),
        (0x1008, 0x40_2000),
        (0x1100, 0),
        (0x1108, 0),
    ];
    let mut stack = Stack::new(&words);
    let up = step_by_frame_pointer(&at(1, 0xf00, 0x1000), &mut stack);
    assert_eq!(up, Ok(at(0x40_2000, 0x1010, 0x1100)));
    let top = step_by_frame_pointer(&at(1, 0x1010, 0x1100), &mut stack);
    assert_eq!(top, Err(StackEnd::NoInfo));
    for nowhere in [0, 0xef8, 0x1001, u64::MAX - 7] {
        assert_eq!(
            step_by_frame_pointer(&at(1, 0xf00, nowhere), &mut stack),
            Err(StackEnd::NoInfo)
        );
    }
    assert_eq!(
        step_by_frame_pointer(&at(1, 0xf00, 0x2000), &mut stack),
        Err(StackEnd::Unreadable)
    );
}

//! Tables of the objects of this very process, against what gimli says of each address, and
//! against the stack that glibc's own unwinder finds here.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection, X86_64,
};
use leaktrace_common::stack::StackEnd;
use leaktrace_common::unwind::{BLOCK_BYTES, RareBase, RareRule, Registers, Row, RowKind, find};

use super::super::{Code, SavedStack, finish};
use super::*;
use crate::target::{FileId, Mapping, Mappings, Object, Segments};

struct Known {
    mapping: Mapping,
    segments: Segments,
    section: (u64, Vec<u8>),
    table: Table,
}

fn own_mappings() -> Mappings {
    Mappings::parse(&std::fs::read("/proc/self/maps").unwrap())
}

fn open(path: &Path) -> Object {
    let id = FileId {
        device: 0,
        inode: 0,
    };
    Object::of_file(File::open(path).unwrap(), path, id)
}

/// Every object that this process has code of.
fn known(rare: &mut RareRules) -> Vec<Known> {
    let mappings = own_mappings();
    let files = mappings
        .executable()
        .filter(|mapping| mapping.file.is_some());
    files
        .map(|mapping| {
            let object = open(&mapping.path);
            let segments = object.segments().unwrap();
            let section = object.section(".eh_frame").unwrap().unwrap();
            let code: Vec<_> = segments.code().collect();
            let borrowed = (section.0, section.1.as_slice());
            let table = Table::new(
                borrowed,
                &code,
                &HashSet::new(),
                rare,
                &mut Rules::default(),
            )
            .unwrap();
            Known {
                mapping: mapping.clone(),
                segments,
                section,
                table,
            }
        })
        .collect()
}

/// As the programs search.
fn row_of(table: &Table, svma: u64) -> Row {
    let place = (svma.wrapping_sub(table.start) / BLOCK_BYTES) as usize;
    let Some(block) = table.index.get(place) else {
        return Row::NO_INFO;
    };
    match block.only_row() {
        Some(row) => row,
        None if block.count() == 0 => Row::NO_INFO,
        None => {
            let chunk = &table.chunks[block.chunk() as usize];
            find(chunk, *block, (svma % BLOCK_BYTES) as u32)
        }
    }
}

/// What a row says, in the words of the section: register and offset of the frame address, and
/// the offset of the saved frame pointer from it.
fn in_words(row: Row, rare: &[RareRule]) -> Option<(Register, i64, Option<i64>)> {
    let saved = Some(-8 * (i64::from(row.saved()) + 1)).filter(|_| row.saved() != 0);
    match row.kind() {
        RowKind::StackPointer => Some((X86_64::RSP, i64::from(row.value()) * 8, saved)),
        RowKind::FramePointer => Some((X86_64::RBP, i64::from(row.value()) * 8, saved)),
        RowKind::Rare => {
            let rule = rare[row.value() as usize];
            let register = match rule.cfa_base == RareBase::StackPointer as u16 {
                true => X86_64::RSP,
                false => X86_64::RBP,
            };
            let saved =
                (rule.saved_base == RareBase::Cfa as u16).then_some(i64::from(rule.saved_offset));
            (rule.cfa_loaded == 0).then_some((register, i64::from(rule.cfa_offset), saved))
        }
        _ => None,
    }
}

#[test]
fn every_row_says_what_the_section_says() {
    let mut rare = RareRules::default();
    let mut compared = 0;
    for known in known(&mut rare) {
        let frames = EhFrame::new(&known.section.1, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(known.section.0);
        let mut context = UnwindContext::new();
        let mut entries = frames.entries(&bases);
        while let Ok(Some(entry)) = entries.next() {
            let gimli::CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
            if known.segments.file_offset(fde.initial_address()).is_none() {
                continue;
            }
            let mut rows = fde.rows(&frames, &bases, &mut context).unwrap();
            while let Some(row) = rows.next_row().unwrap() {
                for svma in [row.start_address(), row.end_address() - 1] {
                    let ours = row_of(&known.table, svma);
                    compare(ours, row, rare.list(), &known.mapping.path, svma);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

fn compare(
    ours: Row,
    theirs: &gimli::UnwindTableRow<usize>,
    rare: &[RareRule],
    path: &Path,
    svma: u64,
) {
    let place = format!("{}+{svma:#x}: {ours:?}", path.display());
    if theirs.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        assert_eq!(ours.kind(), RowKind::End, "{place}");
        return;
    }
    let CfaRule::RegisterAndOffset { register, offset } = *theirs.cfa() else {
        assert_ne!(ours.kind(), RowKind::NoInfo, "{place}");
        return;
    };
    let saved = match theirs.register(X86_64::RBP) {
        Some(RegisterRule::Offset(offset)) => Some(offset),
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => None,
        Some(_) => return,
    };
    match ours.kind() {
        // Frame addresses by other registers, and return addresses elsewhere.
        RowKind::Unsupported => {
            let usual = [X86_64::RSP, X86_64::RBP].contains(&register);
            let at_hand = theirs.register(X86_64::RA) == Some(RegisterRule::Offset(-8));
            assert!(!usual || !at_hand, "{place}");
        }
        _ => assert_eq!(
            in_words(ours, rare),
            Some((register, offset, saved)),
            "{place}"
        ),
    }
}

struct OwnCode {
    known: Vec<Known>,
    rare: RareRules,
}

impl Code for OwnCode {
    fn row(&self, address: u64) -> Result<Row, StackEnd> {
        let contains =
            |known: &&Known| known.mapping.start <= address && address < known.mapping.end;
        let known = self
            .known
            .iter()
            .find(contains)
            .ok_or(StackEnd::NoMapping)?;
        let bias = known.segments.bias(&known.mapping).unwrap();
        Ok(row_of(&known.table, address.wrapping_sub(bias)))
    }

    fn rare_rule(&self, index: u32) -> Option<RareRule> {
        self.rare.list().get(index as usize).copied()
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn this_very_stack_is_followed_like_glibc_does() {
    let mut rare = RareRules::default();
    let known = known(&mut rare);
    let code = OwnCode { known, rare };
    let (pc, sp, fp): (u64, u64, u64);
    // SAFETY: copies three registers and changes nothing.
    unsafe {
        std::arch::asm!(
            "lea {pc}, [rip]",
            "mov {sp}, rsp",
            "mov {fp}, rbp",
            pc = out(reg) pc,
            sp = out(reg) sp,
            fp = out(reg) fp,
            options(nomem, nostack, preserves_flags),
        );
    }
    let mut theirs = [std::ptr::null_mut(); 100];
    // SAFETY: the buffer has room for as many addresses as it is said to have.
    let depth = unsafe { libc::backtrace(theirs.as_mut_ptr(), 100) };
    let end = own_mappings().containing(sp).unwrap().end;
    let words = (sp..end).step_by(8).map(|address| {
        // SAFETY: the address lies in this thread's stack, which is mapped up to its end.
        unsafe { std::ptr::read_volatile(address as *const u64) }
    });
    let mut stack = SavedStack {
        start: sp,
        words: words.collect(),
    };
    let registers = Registers {
        pc,
        sp,
        fp,
        interrupted: 1,
    };
    let mut frames = vec![pc];
    let end = finish(&mut frames, registers, &mut stack, &code);
    assert_eq!(end, Ok(StackEnd::Complete));
    let theirs: Vec<u64> = theirs[..depth as usize]
        .iter()
        .map(|frame| *frame as u64)
        .collect();
    assert_eq!(frames[1..], theirs[1..]);
}

#[test]
fn damaged_sections_are_no_panic() {
    let mappings = own_mappings();
    let linker = mappings
        .executable()
        .find(|mapping| mapping.path.to_string_lossy().contains("/ld-"));
    let Some(linker) = linker else { return };
    let object = open(&linker.path);
    let code: Vec<_> = object.segments().unwrap().code().collect();
    let (svma, whole) = object.section(".eh_frame").unwrap().unwrap();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for round in 0..300 {
        let mut bytes = whole.clone();
        bytes.truncate(match round % 3 {
            0 => random(bytes.len()),
            _ => bytes.len(),
        });
        for _ in 0..random(20) {
            let place = random(bytes.len().max(1));
            if let Some(byte) = bytes.get_mut(place) {
                *byte = random(256) as u8;
            }
        }
        let mut rare = RareRules::default();
        let table = Table::new(
            (svma, &bytes),
            &code,
            &HashSet::new(),
            &mut rare,
            &mut Rules::default(),
        );
        assert!(table.is_none_or(|table| table.size_bytes() < 10 << 20));
    }
}

#[test]
fn code_that_spans_the_address_space_is_left_out() {
    let mut rare = RareRules::default();
    let code = [0x1000..0x2000, 0x7fff_0000_0000..0x7fff_0000_1000];
    assert!(
        Table::new(
            (0, &[]),
            &code,
            &HashSet::new(),
            &mut rare,
            &mut Rules::default()
        )
        .is_none()
    );
    assert!(
        Table::new(
            (0, &[]),
            &[],
            &HashSet::new(),
            &mut rare,
            &mut Rules::default()
        )
        .is_none()
    );
}

#[test]
fn a_common_entry_that_takes_hours_is_followed_for_a_part_of_the_functions() {
    let (functions, instructions) = (1000, 40_000);
    let mut section = Vec::new();
    let entry = |section: &mut Vec<u8>, mut body: Vec<u8>| {
        body.resize(body.len().next_multiple_of(4), 0);
        section.extend_from_slice(&(body.len() as u32).to_le_bytes());
        section.extend_from_slice(&body);
    };
    // Version 1, "", factors 1 and -8, return address 16; frame at rsp + 8, return address below.
    let mut common = vec![0, 0, 0, 0, 1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1];
    common.extend([0x0e, 8].repeat(instructions / 2));
    entry(&mut section, common);
    for number in 0..functions {
        let back = section.len() as u32 + 4;
        let mut body = back.to_le_bytes().to_vec();
        body.extend_from_slice(&(0x1000u64 + number * 16).to_le_bytes());
        body.extend_from_slice(&16u64.to_le_bytes());
        entry(&mut section, body);
    }
    let code = 0x1000..0x1000 + functions * 16;
    let table = Table::new(
        (0x10_0000, &section),
        std::slice::from_ref(&code),
        &HashSet::new(),
        &mut RareRules::default(),
        &mut Rules::default(),
    )
    .unwrap();
    assert_eq!(row_of(&table, code.start).kind(), RowKind::StackPointer);
    assert_eq!(row_of(&table, code.end - 1).kind(), RowKind::Unsupported);
    assert!(table.unsupported > functions / 2, "{}", table.unsupported);
}

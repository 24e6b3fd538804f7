//! Turns the rules of an .eh_frame section into rows by address. What a row cannot express is
//! marked as such and counted, never guessed.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, CommonInformationEntry, EhFrame, EhFrameOffset, EndianSlice,
    FrameDescriptionEntry, LittleEndian, Reader, Register, RegisterRule, UnwindContext,
    UnwindExpression, UnwindSection,
};
use leaktrace_common::arch;
use leaktrace_common::unwind::{MAX_RARE_RULES, RareBase, RareRule, Row, RowKind};

/// Functions may be padded by this much, at most; behind more, nothing is known.
const MAX_PADDING_BYTES: u32 = 15;

/// More rows than the largest programs have by a factor of ten: a section that states more is
/// hostile.
const MAX_ROWS: usize = 50_000_000;

/// Instructions that are followed for each byte of a section. Those of a common entry are followed
/// again for each function, which doubles the bytes in what compilers write.
const MAX_FOLLOWED: usize = 16;

/// The registers that a walk follows.
const SP: Register = Register(arch::STACK_POINTER);
const FP: Register = Register(arch::FRAME_POINTER);
const RA: Register = Register(arch::RETURN_ADDRESS);

/// Where a return address is stored, from the canonical frame address.
const RETURN_ADDRESS_AT: i64 = -(arch::RETURN_ADDRESS_BELOW_CFA as i64);

/// Where the stack pointer of interrupted code is kept.
const SIGNAL_FRAME: i64 = arch::SIGNAL_STACK_POINTER as i64;

type Slice<'data> = EndianSlice<'data, LittleEndian>;
type Cie<'data> = CommonInformationEntry<Slice<'data>>;
type Fde<'data> = FrameDescriptionEntry<Slice<'data>>;

/// Rules too rare for a row, of all objects of a session.
#[derive(Debug, Default)]
pub struct RareRules {
    list: Vec<RareRule>,
    known: HashMap<RareRule, u32>,
}

impl RareRules {
    /// All rules, by their index.
    pub fn list(&self) -> &[RareRule] {
        &self.list
    }

    fn index(&mut self, rule: RareRule) -> Option<u32> {
        if let Some(index) = self.known.get(&rule) {
            return Some(*index);
        }
        let index = u32::try_from(self.list.len())
            .ok()
            .filter(|index| *index < MAX_RARE_RULES)?;
        self.list.push(rule);
        self.known.insert(rule, index);
        Some(index)
    }
}

/// The rules of an object.
#[derive(Debug, Default)]
pub struct Rules {
    /// Places in [`Rules::rows`] of the functions, by their addresses (svma).
    functions: Vec<(Range<u64>, Range<usize>)>,
    /// The rows of all functions, in the order of the section.
    unsorted: Vec<(u32, Row)>,
    /// The row that holds from an address on, ascending. Addresses are counted from `base` on.
    pub(super) rows: Vec<(u32, Row)>,
    /// Rows that say no more than that their rule cannot be followed.
    pub(super) unsupported: u64,
}

/// Reads a section, given by its address and its bytes, as far as it is about `code`, which begins at
/// `base` and spans less than 4 GiB. Functions that begin at a `hidden` address are no frames of
/// their own. What was in `rules` is replaced, and its memory used again: for a large object it is
/// tens of megabytes, which the kernel would have to find and to clear.
pub(super) fn read(
    section: (u64, &[u8]),
    (base, code): (u64, &[Range<u64>]),
    hidden: &HashSet<u64>,
    rare: &mut RareRules,
    rules: &mut Rules,
) {
    rules.clear();
    let mut reading = Reading {
        frames: EhFrame::new(section.1, LittleEndian),
        bases: BaseAddresses::default().set_eh_frame(section.0),
        base,
        left: section.1.len().saturating_mul(MAX_FOLLOWED),
        rare,
        rules,
    };
    reading.read(code, hidden);
    rules.sort(base);
}

struct Reading<'data, 'rules> {
    frames: EhFrame<Slice<'data>>,
    bases: BaseAddresses,
    base: u64,
    /// Bytes of instructions that may still be followed.
    left: usize,
    rare: &'rules mut RareRules,
    rules: &'rules mut Rules,
}

impl<'data> Reading<'data, '_> {
    fn read(&mut self, code: &[Range<u64>], hidden: &HashSet<u64>) {
        let (frames, bases) = (self.frames, self.bases.clone());
        let mut entries = frames.entries(&bases);
        let mut cies: foldhash::HashMap<usize, Cie<'data>> = foldhash::HashMap::default();
        let mut context = UnwindContext::new();
        // A broken section ends the search; what was found before it is right.
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            let parsed = partial.parse(|frames, bases, offset: EhFrameOffset| {
                if let Some(cie) = cies.get(&offset.0) {
                    return Ok(cie.clone());
                }
                let cie = frames.cie_from_offset(bases, offset)?;
                cies.insert(offset.0, cie.clone());
                Ok(cie)
            });
            let Ok(fde) = parsed else { continue };
            let start = fde.initial_address();
            let Some(end) = start.checked_add(fde.len()) else {
                continue;
            };
            // Linkers leave descriptions of functions that they have dropped, at address 0.
            if !code
                .iter()
                .any(|code| code.start <= start && end <= code.end)
                || start == end
            {
                continue;
            }
            self.function(&fde, &mut context, hidden.contains(&start));
            if self.rules.unsorted.len() > MAX_ROWS {
                break;
            }
        }
    }

    fn function(&mut self, fde: &Fde<'data>, context: &mut UnwindContext<usize>, hidden: bool) {
        let (frames, bases) = (self.frames, self.bases.clone());
        let first = self.rules.unsorted.len();
        let range = fde.initial_address()..fde.initial_address() + fde.len();
        let cost = fde.entry_len().saturating_add(fde.cie().entry_len());
        let table = match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                fde.rows(&frames, &bases, context).ok()
            }
            None => None,
        };
        let Some(mut table) = table else {
            self.leave_out(first, &range);
            return;
        };
        loop {
            let row = match table.next_row() {
                Ok(Some(_)) if self.rules.unsorted.len() >= MAX_ROWS => None,
                Ok(Some(row)) => Some(row),
                Ok(None) => break,
                Err(_) => None,
            };
            let Some(row) = row else {
                self.leave_out(first, &range);
                return;
            };
            let start = row.start_address();
            let compact = self.compact(fde, row).unwrap_or_else(|| {
                self.rules.unsupported += 1;
                Row::of_kind(RowKind::Unsupported)
            });
            let compact = if hidden { compact.hidden() } else { compact };
            if start >= range.start && start < range.end {
                let start = self.offset(start);
                self.rules.unsorted.push((start, compact));
            }
        }
        let rows = first..self.rules.unsorted.len();
        self.rules.functions.push((range, rows));
    }

    /// The rest of a function, whose rows begin at `first`, cannot be read.
    fn leave_out(&mut self, first: usize, range: &Range<u64>) {
        let known = self.rules.unsorted[first..].last();
        let from = known.map_or(self.offset(range.start), |(last, _)| last + 1);
        let unknown = Row::of_kind(RowKind::Unsupported);
        self.rules.unsorted.push((from, unknown));
        self.rules.unsupported += 1;
        let rows = first..self.rules.unsorted.len();
        self.rules.functions.push((range.clone(), rows));
    }

    /// Where an address of the code is from its beginning on.
    fn offset(&self, address: u64) -> u32 {
        (address - self.base) as u32
    }

    /// A row of the section in 32 bits; `None` when they cannot express it.
    fn compact(&mut self, fde: &Fde<'data>, row: &gimli::UnwindTableRow<usize>) -> Option<Row> {
        match row.register(RA) {
            Some(RegisterRule::Undefined) => return Some(Row::of_kind(RowKind::End)),
            Some(RegisterRule::Offset(RETURN_ADDRESS_AT)) => {}
            Some(RegisterRule::Expression(_)) if fde.is_signal_trampoline() => {
                return match self.frame_address(row.cfa())? {
                    FrameAddress::Loaded(SP, SIGNAL_FRAME) => Some(Row::of_kind(RowKind::Signal)),
                    _ => None,
                };
            }
            _ => return None,
        }
        let saved = match row.register(FP) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => {
                (RareBase::Untouched, 0)
            }
            Some(RegisterRule::Offset(offset)) => (RareBase::Cfa, offset),
            Some(RegisterRule::Expression(expression)) => match self.place(&expression)? {
                (FP, offset, false) => (RareBase::FramePointer, offset),
                (SP, offset, false) => (RareBase::StackPointer, offset),
                _ => return None,
            },
            Some(_) => return None,
        };
        let address = self.frame_address(row.cfa())?;
        in_a_row(&address, saved).or_else(|| {
            let index = self.rare.index(rare_rule(&address, saved)?)?;
            Row::new(RowKind::Rare, index, 0)
        })
    }

    fn frame_address(&self, rule: &CfaRule<usize>) -> Option<FrameAddress> {
        match rule {
            CfaRule::RegisterAndOffset { register, offset } => {
                Some(FrameAddress::At(*register, *offset))
            }
            CfaRule::Expression(expression) => {
                if let Some((register, offset, true)) = self.place(expression) {
                    return Some(FrameAddress::Loaded(register, offset));
                }
                self.plt(expression).map(FrameAddress::Plt)
            }
        }
    }

    /// An expression "register plus offset", and whether the word there is loaded.
    fn place(&self, expression: &UnwindExpression<usize>) -> Option<(Register, i64, bool)> {
        const DW_OP_DEREF: u8 = 0x06;
        const DW_OP_BREG0: u8 = 0x70;
        let mut bytes = expression.get(&self.frames).ok()?.0;
        let register = bytes
            .read_u8()
            .ok()?
            .checked_sub(DW_OP_BREG0)
            .filter(|register| *register < 32)?;
        let offset = bytes.read_sleb128().ok()?;
        let register = Register(u16::from(register));
        match bytes.slice() {
            [] => Some((register, offset, false)),
            [DW_OP_DEREF] => Some((register, offset, true)),
            _ => None,
        }
    }

    /// The expression with which linkers describe PLT entries: rsp + 8 + ((rip & 15) >= n) * 8.
    /// The result is n.
    fn plt(&self, expression: &UnwindExpression<usize>) -> Option<u8> {
        const DW_OP_LIT0: u8 = 0x30;
        match expression.get(&self.frames).ok()?.0.slice() {
            [
                0x77,
                8,
                0x80,
                0,
                0x3f,
                0x1a,
                literal @ 0x30..=0x3f,
                0x2a,
                0x33,
                0x24,
                0x22,
            ] => Some(literal - DW_OP_LIT0),
            _ => None,
        }
    }
}

impl Rules {
    fn clear(&mut self) {
        self.functions.clear();
        self.unsorted.clear();
        self.rows.clear();
        self.unsupported = 0;
    }

    /// Brings the rows of all functions into the order of their addresses. Where two descriptions
    /// overlap, the one that begins first holds.
    fn sort(&mut self, base: u64) {
        self.functions
            .sort_by_key(|(range, _)| (range.start, range.end));
        let sorted = &mut self.rows;
        let mut end = 0;
        for (range, rows) in &self.functions {
            let range = (range.start - base) as u32..(range.end - base) as u32;
            if range.end <= end {
                continue;
            }
            if !sorted.is_empty() && range.start > end + MAX_PADDING_BYTES {
                sorted.push((end, Row::NO_INFO));
            }
            for (start, row) in &self.unsorted[rows.clone()] {
                let start = (*start).max(end);
                match sorted.last_mut() {
                    Some((last, known)) if *last == start => *known = *row,
                    Some((last, known)) if *known == *row || *last > start => {}
                    _ => sorted.push((start, *row)),
                }
            }
            end = range.end;
        }
        if !sorted.is_empty() {
            sorted.push((end, Row::NO_INFO));
        }
    }
}

/// How the canonical frame address is found.
enum FrameAddress {
    /// Register plus offset.
    At(Register, i64),
    /// The word at register plus offset.
    Loaded(Register, i64),
    /// See [`RowKind::Plt`].
    Plt(u8),
}

fn in_a_row(address: &FrameAddress, saved: (RareBase, i64)) -> Option<Row> {
    let saved = match saved {
        (RareBase::Untouched, _) => 0,
        // The word below the return address is the first one that a register can be in.
        (RareBase::Cfa, offset) if offset <= -16 && offset % 8 == 0 => {
            u32::try_from(-offset / 8 - 1).ok()?
        }
        _ => return None,
    };
    match address {
        FrameAddress::At(register, offset) if *offset >= 0 && offset % 8 == 0 => {
            let kind = match *register {
                SP => RowKind::StackPointer,
                FP => RowKind::FramePointer,
                _ => return None,
            };
            Row::new(kind, u32::try_from(offset / 8).ok()?, saved)
        }
        FrameAddress::Plt(from) => Row::new(RowKind::Plt, u32::from(*from), saved),
        _ => None,
    }
}

fn rare_rule(address: &FrameAddress, saved: (RareBase, i64)) -> Option<RareRule> {
    let (register, offset, loaded) = match address {
        FrameAddress::At(register, offset) => (register, offset, 0),
        FrameAddress::Loaded(register, offset) => (register, offset, 1),
        FrameAddress::Plt(_) => return None,
    };
    let base = match *register {
        SP => RareBase::StackPointer,
        FP => RareBase::FramePointer,
        _ => return None,
    };
    Some(RareRule {
        cfa_base: base as u16,
        cfa_loaded: loaded,
        cfa_offset: i32::try_from(*offset).ok()?,
        saved_base: saved.0 as u16,
        padding: 0,
        saved_offset: i32::try_from(saved.1).ok()?,
    })
}

//! A row: what .eh_frame says about a stretch of code, in 32 bits.

/// Rules that do not fit into a row, of all objects of a session. Real programs have some dozens.
pub const MAX_RARE_RULES: u32 = 4096;

const KIND_SHIFT: u32 = 8;
const HIDDEN: u32 = 1 << 11;
const SAVED_SHIFT: u32 = 12;
const VALUE_SHIFT: u32 = 16;

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum RowKind {
    /// There is no unwind information for this code.
    NoInfo = 0,
    /// The canonical frame address (CFA) is the stack pointer plus the value, in words.
    StackPointer = 1,
    /// The CFA is the frame pointer plus the value, in words.
    FramePointer = 2,
    /// Nobody called this code: the stack is whole.
    End = 3,
    /// A signal handler returns here; the interrupted registers are on the stack.
    Signal = 4,
    /// A PLT entry, which has pushed a word from the value-th of its bytes on.
    Plt = 5,
    /// The value is the index of a [`RareRule`].
    Rare = 6,
    /// There is a rule, and it is of a kind that cannot be followed here.
    Unsupported = 7,
}

impl RowKind {
    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::StackPointer,
            2 => Self::FramePointer,
            3 => Self::End,
            4 => Self::Signal,
            5 => Self::Plt,
            6 => Self::Rare,
            7 => Self::Unsupported,
            _ => Self::NoInfo,
        }
    }
}

/// A rule and where in its block it begins to hold. Bits, from the lowest: 8 for the place in the
/// block, 3 for the kind, 1 for "hidden", 4 for where the frame pointer is saved, 16 for the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Row(pub u32);

impl Row {
    /// No information, from the start of its block.
    pub const NO_INFO: Self = Self(0);

    /// A rule without a value and with the frame pointer untouched.
    pub const fn of_kind(kind: RowKind) -> Self {
        Self((kind as u32) << KIND_SHIFT)
    }

    /// A rule. `saved` is 0 when the frame pointer is untouched, else n for "it is saved n words
    /// below the return address". `None` when a number does not fit.
    pub const fn new(kind: RowKind, value: u32, saved: u32) -> Option<Self> {
        if value > u16::MAX as u32 || saved > 15 {
            return None;
        }
        Some(Self(
            (kind as u32) << KIND_SHIFT | saved << SAVED_SHIFT | value << VALUE_SHIFT,
        ))
    }

    /// The same rule from this place in its block on.
    #[must_use]
    pub const fn at(self, place: u8) -> Self {
        Self(self.0 & !0xff | place as u32)
    }

    /// The same rule for code that is no frame of its own (`operator new`).
    #[must_use]
    pub const fn hidden(self) -> Self {
        Self(self.0 | HIDDEN)
    }

    /// First byte of the block that the row is about.
    #[inline(always)]
    pub const fn place(self) -> u32 {
        self.0 & 0xff
    }

    /// What it says.
    #[inline(always)]
    pub const fn kind(self) -> RowKind {
        RowKind::from_number(self.0 >> KIND_SHIFT & 7)
    }

    /// Whether the code is no frame of its own.
    #[inline(always)]
    pub const fn is_hidden(self) -> bool {
        self.0 & HIDDEN != 0
    }

    /// How many words below the return address the frame pointer is saved; 0: it is untouched.
    #[inline(always)]
    pub const fn saved(self) -> u32 {
        self.0 >> SAVED_SHIFT & 15
    }

    /// Words, bytes or an index, by kind.
    #[inline(always)]
    pub const fn value(self) -> u32 {
        self.0 >> VALUE_SHIFT
    }
}

/// What an address of a [`RareRule`] is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum RareBase {
    /// The stack pointer of the frame.
    StackPointer = 0,
    /// The frame pointer of the frame.
    FramePointer = 1,
    /// The canonical frame address, once it is known.
    Cfa = 2,
    /// The register is untouched.
    Untouched = 3,
}

/// A rule that does not fit into a row: big or odd offsets, and realigned stacks, whose CFA is
/// saved in the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RareRule {
    /// A [`RareBase`] that the CFA is relative to.
    pub cfa_base: u16,
    /// 1 when the CFA is the word at that address rather than the address.
    pub cfa_loaded: u16,
    /// Added to the base, bytes.
    pub cfa_offset: i32,
    /// A [`RareBase`] that the saved frame pointer's place is relative to.
    pub saved_base: u16,
    /// Always zero.
    pub padding: u16,
    /// Added to that base, bytes.
    pub saved_offset: i32,
}

const _: () = assert!(size_of::<RareRule>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_carries_its_rule() {
        for kind in [
            RowKind::NoInfo,
            RowKind::StackPointer,
            RowKind::FramePointer,
            RowKind::End,
            RowKind::Signal,
            RowKind::Plt,
            RowKind::Rare,
            RowKind::Unsupported,
        ] {
            let Some(row) = Row::new(kind, 0xfffe, 15) else {
                panic!("it fits")
            };
            let row = row.at(0xa5).hidden();
            assert_eq!(row.kind(), kind);
            assert_eq!((row.value(), row.saved(), row.place()), (0xfffe, 15, 0xa5));
            assert!(row.is_hidden());
            assert_eq!(row.at(7).place(), 7);
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_refused() {
        assert_eq!(Row::new(RowKind::StackPointer, 0x1_0000, 0), None);
        assert_eq!(Row::new(RowKind::StackPointer, 1, 16), None);
    }

    #[test]
    fn memory_that_was_never_written_says_nothing() {
        assert_eq!(Row(0).kind(), RowKind::NoInfo);
        assert!(!Row(0).is_hidden());
    }
}

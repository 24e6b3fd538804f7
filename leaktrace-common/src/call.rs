//! What a probed function does with its arguments, packed into the probe's attach cookie, so that
//! one program serves every function of a kind and a new function needs no new program.

use crate::limits::NOTED_FUNCTIONS;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CallKind {
    /// Returns a new block.
    Allocate = 0,
    /// Writes the address of a new block through an argument; returns 0 when it succeeded.
    AllocateInto = 1,
    /// Replaces a block by another, or leaves it alone when it fails.
    Reallocate = 2,
    /// Frees a block.
    Free = 3,
    /// Makes a mapping.
    Map = 4,
    /// Removes mappings.
    Unmap = 5,
    /// Moves or resizes a mapping.
    Remap = 6,
}

impl CallKind {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::AllocateInto,
            2 => Self::Reallocate,
            3 => Self::Free,
            4 => Self::Map,
            5 => Self::Unmap,
            6 => Self::Remap,
            _ => Self::Allocate,
        }
    }
}

/// Stands for "no such argument".
pub const NO_ARGUMENT: u8 = 15;

/// Place of a function's note that it was called, in the map of these notes.
#[inline(always)]
pub const fn note_index(process: u16, function: u16) -> u32 {
    process as u32 * NOTED_FUNCTIONS + (function as u32 & (NOTED_FUNCTIONS - 1))
}

/// A probed function of one process: its kind, where its arguments are, and which it is.
/// Arguments are numbered from 0 in the order of the C declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// What the function does.
    pub kind: CallKind,
    /// Argument that has the size in bytes.
    pub size_argument: u8,
    /// Argument by which the size is multiplied, or [`NO_ARGUMENT`].
    pub count_argument: u8,
    /// Argument that has the old block, or the place for the new address, or [`NO_ARGUMENT`].
    pub pointer_argument: u8,
    /// Index of the function in the probe plan.
    pub function: u16,
    /// Index of the process.
    pub process: u16,
}

impl Call {
    /// The call by which the dynamic linker of a process tells of new objects. It allocates and
    /// frees nothing; only its process counts.
    pub const fn of_linker(process: u16) -> Self {
        Self {
            kind: CallKind::Map,
            size_argument: NO_ARGUMENT,
            count_argument: NO_ARGUMENT,
            pointer_argument: NO_ARGUMENT,
            function: u16::MAX,
            process,
        }
    }

    /// Packs the call into an attach cookie.
    pub const fn to_cookie(self) -> u64 {
        self.kind as u64
            | (self.size_argument as u64) << 8
            | (self.count_argument as u64) << 12
            | (self.pointer_argument as u64) << 16
            | (self.function as u64) << 32
            | (self.process as u64) << 48
    }

    /// The same call of another process.
    #[inline(always)]
    pub const fn of_process(self, process: u16) -> Self {
        Self { process, ..self }
    }

    /// Unpacks an attach cookie.
    #[inline(always)]
    pub const fn from_cookie(cookie: u64) -> Self {
        Self {
            kind: CallKind::from_number(cookie as u8),
            size_argument: ((cookie >> 8) & 15) as u8,
            count_argument: ((cookie >> 12) & 15) as u8,
            pointer_argument: ((cookie >> 16) & 15) as u8,
            function: (cookie >> 32) as u16,
            process: (cookie >> 48) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_carries_the_whole_call() {
        for kind in [
            CallKind::Allocate,
            CallKind::AllocateInto,
            CallKind::Reallocate,
            CallKind::Free,
            CallKind::Map,
            CallKind::Unmap,
            CallKind::Remap,
        ] {
            let call = Call {
                kind,
                size_argument: 2,
                count_argument: NO_ARGUMENT,
                pointer_argument: 5,
                function: 0xfffe,
                process: 63,
            };
            assert_eq!(Call::from_cookie(call.to_cookie()), call);
        }
    }
}

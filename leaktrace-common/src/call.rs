//! What a probed function does with its arguments, packed into the probe's attach cookie, so that
//! one program serves every function of a kind and a new function needs no new program.

use crate::lane::Lane;
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
    /// Moves the end of the data segment (brk, sbrk).
    Break = 7,
    /// Replaces a block by another, or frees it when it fails (reallocf).
    ReallocateOrFree = 8,
    /// Maps a segment of System V shared memory (shmat).
    Attach = 9,
    /// Unmaps all of such a segment (shmdt).
    Detach = 10,
}

impl CallKind {
    /// Whether it replaces a block by another.
    #[inline(always)]
    pub const fn is_reallocation(self) -> bool {
        matches!(self, Self::Reallocate | Self::ReallocateOrFree)
    }

    /// Whether it changes which addresses are mapped.
    #[inline(always)]
    pub const fn is_mapping(self) -> bool {
        matches!(
            self,
            Self::Map | Self::Unmap | Self::Remap | Self::Break | Self::Attach | Self::Detach
        )
    }

    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::AllocateInto,
            2 => Self::Reallocate,
            3 => Self::Free,
            4 => Self::Map,
            5 => Self::Unmap,
            6 => Self::Remap,
            7 => Self::Break,
            8 => Self::ReallocateOrFree,
            9 => Self::Attach,
            10 => Self::Detach,
            _ => Self::Allocate,
        }
    }
}

/// How the end of a call is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Ending {
    /// By a return probe, which puts the kernel's trampoline where the return address was.
    Trampoline = 0,
    /// By probes on the function's `ret` instructions: for functions that can throw, which a
    /// return probe would abort.
    Ret = 1,
    /// In the cookie of a probe on a jump that leads out of what is known of such a function: how
    /// the call ends is not seen.
    Escape = 2,
}

impl Ending {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Ret,
            2 => Self::Escape,
            _ => Self::Trampoline,
        }
    }
}

/// Width of a size argument. The upper half of a register that passes a C `int` is undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Width {
    /// `size_t`, 64 bits.
    Whole = 0,
    /// `int` or `unsigned`, 32 bits.
    Half = 1,
}

/// Whether a function that frees calls others that are probed as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Nesting {
    /// It is the only such function of its process.
    None = 0,
    /// It may call another one with the same block: which block it frees is noted.
    Possible = 1,
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
    /// Which calls of a thread it can be inside of, and whose ledger it changes.
    pub lane: Lane,
    /// How its end is seen.
    pub ending: Ending,
    /// Width of the size and of the count.
    pub width: Width,
    /// Whether the block that it frees is noted.
    pub nesting: Nesting,
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
            lane: Lane::MAIN,
            ending: Ending::Trampoline,
            width: Width::Whole,
            nesting: Nesting::None,
            function: u16::MAX,
            process,
        }
    }

    /// A system call that changes mappings, of which a tracepoint tells. Its arguments are where
    /// those of the function of the same name are.
    #[inline(always)]
    pub const fn of_syscall(kind: CallKind, process: u16) -> Self {
        Self {
            kind,
            size_argument: match kind {
                CallKind::Remap => 2,
                _ => 1,
            },
            pointer_argument: 0,
            lane: Lane::SYSCALLS,
            ..Self::of_linker(process)
        }
    }

    /// Packs the call into an attach cookie.
    pub const fn to_cookie(self) -> u64 {
        self.kind as u64
            | (self.size_argument as u64) << 8
            | (self.count_argument as u64) << 12
            | (self.pointer_argument as u64) << 16
            | (self.lane.number() as u64) << 20
            | (self.ending as u64) << 26
            | (self.width as u64) << 28
            | (self.nesting as u64) << 29
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
            lane: Lane::from_number(((cookie >> 20) & 63) as u8),
            ending: Ending::from_number(((cookie >> 26) & 3) as u8),
            width: if cookie >> 28 & 1 == 0 {
                Width::Whole
            } else {
                Width::Half
            },
            nesting: if cookie >> 29 & 1 == 0 {
                Nesting::None
            } else {
                Nesting::Possible
            },
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
            CallKind::Break,
            CallKind::ReallocateOrFree,
            CallKind::Attach,
            CallKind::Detach,
        ] {
            let call = Call {
                kind,
                size_argument: 2,
                count_argument: NO_ARGUMENT,
                pointer_argument: 5,
                lane: Lane::MAIN,
                ending: Ending::Trampoline,
                width: Width::Whole,
                nesting: Nesting::None,
                function: 0xfffe,
                process: 63,
            };
            assert_eq!(Call::from_cookie(call.to_cookie()), call);
            let unusual = Call {
                lane: Lane::of_pair(7),
                ending: Ending::Escape,
                width: Width::Half,
                nesting: Nesting::Possible,
                ..call
            };
            assert_eq!(Call::from_cookie(unusual.to_cookie()), unusual);
        }
    }
}

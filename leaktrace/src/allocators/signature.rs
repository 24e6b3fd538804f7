//! What a function does with its arguments, and its translation into an attach cookie. Knows no
//! names.

use leaktrace_common::call::{Call, CallKind, Ending, NO_ARGUMENT, Nesting, Width};
use leaktrace_common::lane::Lane;

/// Where the number of bytes asked for is. Arguments are numbered from 0 in the order of the C
/// declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Amount {
    /// Argument with the size in bytes.
    pub size: u8,
    /// Argument by which the size is multiplied.
    pub count: Option<u8>,
    /// Width of both.
    pub width: Width,
}

/// What a function does, and which of its arguments say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallSignature {
    /// Returns a new block.
    Allocate {
        /// Its size; absent when it is no argument: then pieces are counted.
        amount: Option<Amount>,
    },
    /// Writes the address of a new block through `pointer`; returns 0 on success.
    AllocateInto {
        /// Argument with the place for the address.
        pointer: u8,
        /// The block's size; absent when it is no argument.
        amount: Option<Amount>,
    },
    /// Replaces the block at `pointer` by another.
    Reallocate {
        /// Argument with the old block.
        pointer: u8,
        /// The new block's size; absent when it is no argument.
        amount: Option<Amount>,
    },
    /// The same, but it frees the old block when there is no other.
    ReallocateOrFree {
        /// Argument with the old block.
        pointer: u8,
        /// The new block's size.
        amount: Amount,
    },
    /// Frees the block at `pointer`.
    Free {
        /// Argument with the block.
        pointer: u8,
    },
    /// Makes a mapping of `size` bytes.
    Map {
        /// Argument with the wished address.
        address: u8,
        /// Argument with the length in bytes.
        size: u8,
    },
    /// Removes the mappings in a range.
    Unmap {
        /// Argument with the first address.
        address: u8,
        /// Argument with the length in bytes.
        size: u8,
    },
    /// Moves or resizes a mapping. The old length is argument 1 and the flags are argument 3 of
    /// the only such function; a cookie has no room for them.
    Remap {
        /// Argument with the old address.
        address: u8,
        /// Argument with the new length in bytes.
        new_size: u8,
    },
    /// Moves the end of the data segment; how far is read off the end itself.
    Break,
    /// Maps a segment of shared memory. How long it is, no argument says.
    Attach {
        /// Argument with the segment's id.
        id: u8,
    },
    /// Unmaps what is left of such a segment.
    Detach {
        /// Argument with the address that it was attached at.
        address: u8,
    },
}

impl Amount {
    /// This argument says the bytes.
    pub const fn of(size: u8) -> Self {
        Self {
            size,
            count: None,
            width: Width::Whole,
        }
    }

    /// The product of two arguments says the bytes.
    pub const fn product(count: u8, size: u8) -> Self {
        Self {
            size,
            count: Some(count),
            width: Width::Whole,
        }
    }
}

impl CallSignature {
    /// The signature as the kernel side reads it from an attach cookie, in the main lane.
    pub fn to_call(self, function: u16, process: u16) -> Call {
        let (kind, pointer, amount) = match self {
            Self::Allocate { amount } => (CallKind::Allocate, None, amount),
            Self::AllocateInto { pointer, amount } => {
                (CallKind::AllocateInto, Some(pointer), amount)
            }
            Self::Reallocate { pointer, amount } => (CallKind::Reallocate, Some(pointer), amount),
            Self::ReallocateOrFree { pointer, amount } => {
                (CallKind::ReallocateOrFree, Some(pointer), Some(amount))
            }
            Self::Free { pointer } => (CallKind::Free, Some(pointer), None),
            Self::Map { address, size } => (CallKind::Map, Some(address), Some(Amount::of(size))),
            Self::Unmap { address, size } => {
                (CallKind::Unmap, Some(address), Some(Amount::of(size)))
            }
            Self::Remap { address, new_size } => {
                (CallKind::Remap, Some(address), Some(Amount::of(new_size)))
            }
            Self::Break => (CallKind::Break, None, None),
            Self::Attach { id } => (CallKind::Attach, Some(id), None),
            Self::Detach { address } => (CallKind::Detach, Some(address), None),
        };
        Call {
            kind,
            size_argument: amount.map_or(NO_ARGUMENT, |amount| amount.size),
            count_argument: amount
                .and_then(|amount| amount.count)
                .unwrap_or(NO_ARGUMENT),
            pointer_argument: pointer.unwrap_or(NO_ARGUMENT),
            lane: Lane::MAIN,
            ending: Ending::Trampoline,
            width: amount.map_or(Width::Whole, |amount| amount.width),
            nesting: Nesting::None,
            function,
            process,
        }
    }

    /// How many arguments the kernel side may read, from argument 0 on: a probe must stand where
    /// they are still in their registers.
    pub fn arguments(self) -> usize {
        match self {
            // Protection, flags, descriptor and file offset tell mappings apart.
            Self::Map { .. } => return 6,
            // Behind the flags comes the new address.
            Self::Remap { .. } => return 5,
            // Behind the segment come the address and the flags.
            Self::Attach { .. } => return 3,
            _ => {}
        }
        let call = self.to_call(0, 0);
        let arguments = [
            call.size_argument,
            call.count_argument,
            call.pointer_argument,
        ];
        arguments
            .into_iter()
            .filter(|argument| *argument != NO_ARGUMENT)
            .map(|argument| usize::from(argument) + 1)
            .max()
            .unwrap_or(0)
    }

    /// Whether it takes a block back and does nothing else.
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Free { .. })
    }
}

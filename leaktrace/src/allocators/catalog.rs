//! The functions that allocate, free and map, by name, with what each does with its arguments.
//! A table and its translation into attach cookies; looks at no object.

use leaktrace_common::call::{Call, CallKind, NO_ARGUMENT};

/// What a function does, and which of its arguments say so. Arguments are numbered from 0 in the
/// order of the C declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallSignature {
    /// Returns a new block of `size` bytes, or of `count` times `size`.
    Allocate {
        /// Argument with the size in bytes.
        size: u8,
        /// Argument by which the size is multiplied.
        count: Option<u8>,
    },
    /// Writes the address of a new block through `pointer`; returns 0 on success.
    AllocateInto {
        /// Argument with the place for the address.
        pointer: u8,
        /// Argument with the size in bytes.
        size: u8,
    },
    /// Replaces the block at `pointer` by one of `size` bytes, or of `count` times `size`.
    Reallocate {
        /// Argument with the old block.
        pointer: u8,
        /// Argument with the size in bytes.
        size: u8,
        /// Argument by which the size is multiplied.
        count: Option<u8>,
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
}

impl CallSignature {
    /// The signature as the kernel side reads it from an attach cookie.
    pub fn to_call(self, function: u16, process: u16) -> Call {
        let (kind, pointer, size, count) = match self {
            Self::Allocate { size, count } => (CallKind::Allocate, None, Some(size), count),
            Self::AllocateInto { pointer, size } => {
                (CallKind::AllocateInto, Some(pointer), Some(size), None)
            }
            Self::Reallocate {
                pointer,
                size,
                count,
            } => (CallKind::Reallocate, Some(pointer), Some(size), count),
            Self::Free { pointer } => (CallKind::Free, Some(pointer), None, None),
            Self::Map { address, size } => (CallKind::Map, Some(address), Some(size), None),
            Self::Unmap { address, size } => (CallKind::Unmap, Some(address), Some(size), None),
            Self::Remap { address, new_size } => {
                (CallKind::Remap, Some(address), Some(new_size), None)
            }
        };
        Call {
            kind,
            size_argument: size.unwrap_or(NO_ARGUMENT),
            count_argument: count.unwrap_or(NO_ARGUMENT),
            pointer_argument: pointer.unwrap_or(NO_ARGUMENT),
            function,
            process,
        }
    }

    /// How many arguments the kernel side may read, from argument 0 on: a probe must stand where
    /// they are still in their registers.
    pub fn arguments(self) -> usize {
        let last = match self {
            Self::Allocate { size, count } => size.max(count.unwrap_or(0)),
            Self::AllocateInto { pointer, size } => pointer.max(size),
            Self::Reallocate {
                pointer,
                size,
                count,
            } => pointer.max(size).max(count.unwrap_or(0)),
            Self::Free { pointer } => pointer,
            // Protection, flags, descriptor and file offset tell mappings apart.
            Self::Map { .. } => 5,
            Self::Unmap { address, size } => address.max(size),
            // Behind the flags comes the new address.
            Self::Remap { .. } => 4,
        };
        usize::from(last) + 1
    }

    /// What the function belongs to.
    pub const fn family(self) -> Family {
        match self {
            Self::Map { .. } | Self::Unmap { .. } | Self::Remap { .. } => Family::Mapping,
            _ => Family::Heap,
        }
    }
}

/// Functions that an object must define together to be worth probing, and that share programs.
///
/// The C++ operators are in neither: in libstdc++ they call malloc. They will be a family of their
/// own, for objects that allocate below them without malloc (tcmalloc, jemalloc).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// malloc, free and their like.
    Heap,
    /// mmap, munmap and their like.
    Mapping,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Heap, Self::Mapping];

    /// An object has this family when it defines both: one that makes memory, one that gives it
    /// back. With one alone, every block would look leaked or every free unmatched.
    pub const fn defining(self) -> [&'static str; 2] {
        match self {
            Self::Heap => ["malloc", "free"],
            Self::Mapping => ["mmap", "munmap"],
        }
    }
}

/// A function worth probing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the symbol.
    pub name: &'static str,
    /// What it does.
    pub signature: CallSignature,
}

/// Every function worth probing. Of several names of one function the first here is reported.
pub const ENTRIES: &[Entry] = &[
    entry("malloc", allocate(0)),
    entry(
        "calloc",
        CallSignature::Allocate {
            size: 1,
            count: Some(0),
        },
    ),
    entry(
        "realloc",
        CallSignature::Reallocate {
            pointer: 0,
            size: 1,
            count: None,
        },
    ),
    entry(
        "reallocarray",
        CallSignature::Reallocate {
            pointer: 0,
            size: 2,
            count: Some(1),
        },
    ),
    entry(
        "posix_memalign",
        CallSignature::AllocateInto {
            pointer: 0,
            size: 2,
        },
    ),
    entry("aligned_alloc", allocate(1)),
    entry("memalign", allocate(1)),
    entry("valloc", allocate(0)),
    entry("pvalloc", allocate(0)),
    entry("free", CallSignature::Free { pointer: 0 }),
    entry("cfree", CallSignature::Free { pointer: 0 }),
    entry("free_sized", CallSignature::Free { pointer: 0 }),
    entry("free_aligned_sized", CallSignature::Free { pointer: 0 }),
    entry(
        "mmap",
        CallSignature::Map {
            address: 0,
            size: 1,
        },
    ),
    entry(
        "mmap64",
        CallSignature::Map {
            address: 0,
            size: 1,
        },
    ),
    entry(
        "munmap",
        CallSignature::Unmap {
            address: 0,
            size: 1,
        },
    ),
    entry(
        "mremap",
        CallSignature::Remap {
            address: 0,
            new_size: 2,
        },
    ),
];

/// The names to look up in each object.
pub fn names() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().map(|entry| entry.name)
}

const fn entry(name: &'static str, signature: CallSignature) -> Entry {
    Entry { name, signature }
}

const fn allocate(size: u8) -> CallSignature {
    CallSignature::Allocate { size, count: None }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn call(name: &str) -> Call {
        let entry = ENTRIES.iter().find(|entry| entry.name == name);
        entry.map(|entry| entry.signature.to_call(3, 7)).unwrap()
    }

    #[test]
    fn arguments_stand_where_the_c_declarations_have_them() {
        let place = |name| {
            let call = call(name);
            (
                call.pointer_argument,
                call.count_argument,
                call.size_argument,
            )
        };
        let none = NO_ARGUMENT;
        assert_eq!(place("malloc"), (none, none, 0));
        assert_eq!(place("calloc"), (none, 0, 1));
        assert_eq!(place("realloc"), (0, none, 1));
        assert_eq!(place("reallocarray"), (0, 1, 2));
        assert_eq!(place("posix_memalign"), (0, none, 2));
        assert_eq!(place("aligned_alloc"), (none, none, 1));
        assert_eq!(place("free_aligned_sized"), (0, none, none));
        assert_eq!(place("mmap"), (0, none, 1));
        assert_eq!(place("mremap"), (0, none, 2));
    }

    #[test]
    fn every_argument_that_a_cookie_names_is_kept() {
        for entry in ENTRIES {
            let call = entry.signature.to_call(0, 0);
            for argument in [
                call.size_argument,
                call.count_argument,
                call.pointer_argument,
            ] {
                assert!(
                    argument == NO_ARGUMENT || usize::from(argument) < entry.signature.arguments()
                );
            }
        }
    }

    #[test]
    fn a_call_carries_function_and_process() {
        assert_eq!((call("free").function, call("free").process), (3, 7));
    }
}

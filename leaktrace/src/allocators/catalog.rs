//! The functions that allocate, free and map, by name, with what each does with its arguments.
//! Tables; looks at no object.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use super::signature::{Amount, CallSignature};

/// Functions that an object must define together to be worth probing, and that share programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// malloc, free and their like.
    Heap,
    /// new, delete and their like: worth probing where they do not call functions of the heap, in
    /// an object that has a heap of its own (tcmalloc, jemalloc). In libstdc++ they call malloc.
    /// They can throw, so that their returns are seen in another way.
    Operators,
    /// mmap, munmap and their like.
    Mapping,
    /// Functions of the pair with this number that the user has named.
    Pair(u8),
}

/// A function that a name of the catalogue stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name of the symbol.
    pub name: &'static str,
    /// Which interface it is of: empty for the C library's, else what its names begin with.
    pub interface: &'static str,
    /// What it belongs to.
    pub family: Family,
    /// What it does, or why calls of it cannot be followed.
    pub signature: Result<CallSignature, &'static str>,
}

/// What the names of a whole allocator can begin with, the C library's own names first. jemalloc's
/// prefix is chosen when it is built: others are found by its function `mallctl`.
const INTERFACES: [&str; 10] = [
    "", "je_", "_rjem_", "__je_", "tc_", "mi_", "rp", "sn_", "dl", "ned",
];

/// The function by which a jemalloc with an unknown prefix is found.
pub const JEMALLOC_MARK: &str = "mallctl";

/// Stands for it with any prefix.
pub const ANY_JEMALLOC: &str = "*mallctl";

type Row = (&'static str, Result<CallSignature, &'static str>);

const fn allocate(size: u8) -> Result<CallSignature, &'static str> {
    Ok(CallSignature::Allocate {
        amount: Some(Amount::of(size)),
    })
}

const fn allocate_many(count: u8, size: u8) -> Result<CallSignature, &'static str> {
    Ok(CallSignature::Allocate {
        amount: Some(Amount::product(count, size)),
    })
}

const fn reallocate(pointer: u8, size: u8) -> Result<CallSignature, &'static str> {
    Ok(CallSignature::Reallocate {
        pointer,
        amount: Some(Amount::of(size)),
    })
}

const fn reallocate_many(pointer: u8, count: u8, size: u8) -> Result<CallSignature, &'static str> {
    Ok(CallSignature::Reallocate {
        pointer,
        amount: Some(Amount::product(count, size)),
    })
}

const fn reallocate_or_free(pointer: u8, size: u8) -> Result<CallSignature, &'static str> {
    Ok(CallSignature::ReallocateOrFree {
        pointer,
        amount: Amount::of(size),
    })
}

const fn free(pointer: u8) -> Result<CallSignature, &'static str> {
    Ok(CallSignature::Free { pointer })
}

const NO_SIZE: Result<CallSignature, &'static str> =
    Err("the size of its blocks is none of its arguments, so they are not counted");
const IN_PLACE: Result<CallSignature, &'static str> =
    Err("it resizes a block in place, which is not followed: the block keeps its old size");
const MANY: Result<CallSignature, &'static str> =
    Err("it frees many blocks at once, which is not followed: they stay live");

/// What every allocator has.
const HEAP: &[Row] = &[
    ("malloc", allocate(0)),
    ("calloc", allocate_many(0, 1)),
    ("realloc", reallocate(0, 1)),
    ("reallocarray", reallocate_many(0, 1, 2)),
    (
        "posix_memalign",
        Ok(CallSignature::AllocateInto {
            pointer: 0,
            amount: Some(Amount::of(2)),
        }),
    ),
    ("aligned_alloc", allocate(1)),
    ("memalign", allocate(1)),
    ("valloc", allocate(0)),
    ("pvalloc", allocate(0)),
    ("free", free(0)),
    ("cfree", free(0)),
    ("free_sized", free(0)),
    ("free_aligned_sized", free(0)),
    // jemalloc's own, some of them also tcmalloc's.
    ("mallocx", allocate(0)),
    ("rallocx", reallocate(0, 1)),
    ("dallocx", free(0)),
    ("sdallocx", free(0)),
    ("xallocx", IN_PLACE),
    // BSD's, which mimalloc has too.
    ("reallocf", reallocate_or_free(0, 1)),
    ("vfree", free(0)),
    ("reallocarr", IN_PLACE),
];

/// mmap and its like.
const MAPPING: &[Row] = &[
    (
        "mmap",
        Ok(CallSignature::Map {
            address: 0,
            size: 1,
        }),
    ),
    (
        "mmap64",
        Ok(CallSignature::Map {
            address: 0,
            size: 1,
        }),
    ),
    (
        "munmap",
        Ok(CallSignature::Unmap {
            address: 0,
            size: 1,
        }),
    ),
    (
        "mremap",
        Ok(CallSignature::Remap {
            address: 0,
            new_size: 2,
        }),
    ),
    ("brk", Ok(CallSignature::Break)),
    ("sbrk", Ok(CallSignature::Break)),
    ("shmat", Ok(CallSignature::Attach { id: 0 })),
    ("shmdt", Ok(CallSignature::Detach { address: 0 })),
];

/// new and delete as the Itanium C++ ABI names them.
const OPERATORS: &[Row] = &[
    ("_Znwm", allocate(0)),
    ("_Znam", allocate(0)),
    ("_ZnwmRKSt9nothrow_t", allocate(0)),
    ("_ZnamRKSt9nothrow_t", allocate(0)),
    ("_ZnwmSt11align_val_t", allocate(0)),
    ("_ZnamSt11align_val_t", allocate(0)),
    ("_ZnwmSt11align_val_tRKSt9nothrow_t", allocate(0)),
    ("_ZnamSt11align_val_tRKSt9nothrow_t", allocate(0)),
    ("_ZdlPv", free(0)),
    ("_ZdaPv", free(0)),
    ("_ZdlPvm", free(0)),
    ("_ZdaPvm", free(0)),
    ("_ZdlPvSt11align_val_t", free(0)),
    ("_ZdaPvSt11align_val_t", free(0)),
    ("_ZdlPvmSt11align_val_t", free(0)),
    ("_ZdaPvmSt11align_val_t", free(0)),
    ("_ZdlPvRKSt9nothrow_t", free(0)),
    ("_ZdaPvRKSt9nothrow_t", free(0)),
    ("_ZdlPvSt11align_val_tRKSt9nothrow_t", free(0)),
    ("_ZdaPvSt11align_val_tRKSt9nothrow_t", free(0)),
    // Google's newer tcmalloc.
    ("_Znwm12__hot_cold_t", allocate(0)),
    ("_Znam12__hot_cold_t", allocate(0)),
    ("__size_returning_new", allocate(0)),
    ("tcmalloc_size_returning_operator_new", allocate(0)),
];

/// What tcmalloc (gperftools) has besides, behind its prefix.
const TCMALLOC_HEAP: &[Row] = &[("malloc_skip_new_handler", allocate(0))];

const TCMALLOC_OPERATORS: &[Row] = &[
    ("new", allocate(0)),
    ("newarray", allocate(0)),
    ("new_nothrow", allocate(0)),
    ("newarray_nothrow", allocate(0)),
    ("new_aligned", allocate(0)),
    ("newarray_aligned", allocate(0)),
    ("new_aligned_nothrow", allocate(0)),
    ("newarray_aligned_nothrow", allocate(0)),
    ("delete", free(0)),
    ("delete_nothrow", free(0)),
    ("deletearray", free(0)),
    ("deletearray_nothrow", free(0)),
    ("delete_sized", free(0)),
    ("deletearray_sized", free(0)),
    ("delete_aligned", free(0)),
    ("deletearray_aligned", free(0)),
    ("delete_sized_aligned", free(0)),
    ("deletearray_sized_aligned", free(0)),
];

/// What mimalloc has besides, behind its prefix.
const MIMALLOC_HEAP: &[Row] = &[
    ("malloc_small", allocate(0)),
    ("zalloc", allocate(0)),
    ("zalloc_small", allocate(0)),
    ("mallocn", allocate_many(0, 1)),
    ("reallocn", reallocate_many(0, 1, 2)),
    ("rezalloc", reallocate(0, 1)),
    ("recalloc", reallocate_many(0, 1, 2)),
    ("expand", IN_PLACE),
    ("malloc_aligned", allocate(0)),
    ("malloc_aligned_at", allocate(0)),
    ("zalloc_aligned", allocate(0)),
    ("zalloc_aligned_at", allocate(0)),
    ("calloc_aligned", allocate_many(0, 1)),
    ("calloc_aligned_at", allocate_many(0, 1)),
    ("realloc_aligned", reallocate(0, 1)),
    ("realloc_aligned_at", reallocate(0, 1)),
    ("rezalloc_aligned", reallocate(0, 1)),
    ("rezalloc_aligned_at", reallocate(0, 1)),
    ("recalloc_aligned", reallocate_many(0, 1, 2)),
    ("recalloc_aligned_at", reallocate_many(0, 1, 2)),
    ("free_size", free(0)),
    ("free_size_aligned", free(0)),
    ("free_aligned", free(0)),
    ("heap_malloc", allocate(1)),
    ("heap_malloc_small", allocate(1)),
    ("heap_zalloc", allocate(1)),
    ("heap_calloc", allocate_many(1, 2)),
    ("heap_mallocn", allocate_many(1, 2)),
    ("heap_realloc", reallocate(1, 2)),
    ("heap_reallocn", reallocate_many(1, 2, 3)),
    ("heap_reallocf", reallocate_or_free(1, 2)),
    ("heap_rezalloc", reallocate(1, 2)),
    ("heap_recalloc", reallocate_many(1, 2, 3)),
    ("heap_malloc_aligned", allocate(1)),
    ("heap_malloc_aligned_at", allocate(1)),
    ("heap_zalloc_aligned", allocate(1)),
    ("heap_zalloc_aligned_at", allocate(1)),
    ("heap_calloc_aligned", allocate_many(1, 2)),
    ("heap_calloc_aligned_at", allocate_many(1, 2)),
    ("heap_realloc_aligned", reallocate(1, 2)),
    ("heap_realloc_aligned_at", reallocate(1, 2)),
    ("heap_rezalloc_aligned", reallocate(1, 2)),
    ("heap_rezalloc_aligned_at", reallocate(1, 2)),
    ("heap_recalloc_aligned", reallocate_many(1, 2, 3)),
    ("heap_recalloc_aligned_at", reallocate_many(1, 2, 3)),
    ("strdup", NO_SIZE),
    ("strndup", NO_SIZE),
    ("realpath", NO_SIZE),
    ("wcsdup", NO_SIZE),
    ("mbsdup", NO_SIZE),
    ("heap_strdup", NO_SIZE),
    ("heap_strndup", NO_SIZE),
    ("heap_realpath", NO_SIZE),
    ("heap_destroy", MANY),
];

const MIMALLOC_OPERATORS: &[Row] = &[
    ("new", allocate(0)),
    ("new_n", allocate_many(0, 1)),
    ("new_nothrow", allocate(0)),
    ("new_aligned", allocate(0)),
    ("new_aligned_nothrow", allocate(0)),
    ("new_realloc", reallocate(0, 1)),
    ("new_reallocn", reallocate_many(0, 1, 2)),
    ("heap_alloc_new", allocate(1)),
    ("heap_alloc_new_n", allocate_many(1, 2)),
];

static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut entries: Vec<Entry> = INTERFACES.iter().flat_map(|name| heap(name)).collect();
    entries.extend(rows("tc_", Family::Heap, TCMALLOC_HEAP));
    entries.extend(rows("mi_", Family::Heap, MIMALLOC_HEAP));
    entries.extend(rows("", Family::Operators, OPERATORS));
    entries.extend(rows("tc_", Family::Operators, TCMALLOC_OPERATORS));
    entries.extend(rows("mi_", Family::Operators, MIMALLOC_OPERATORS));
    entries.extend(rows("", Family::Mapping, MAPPING));
    entries
});

/// Every function worth probing. Of several names of one function the first here is reported.
pub fn entries() -> &'static [Entry] {
    &ENTRIES
}

/// The functions of a jemalloc that was built with a prefix of its own; none for a known one.
pub fn of_jemalloc(prefix: &str) -> Vec<Entry> {
    if INTERFACES.contains(&prefix) {
        return Vec::new();
    }
    heap(interned(prefix.to_owned()))
}

fn heap(interface: &'static str) -> Vec<Entry> {
    rows(interface, Family::Heap, HEAP)
}

fn rows(interface: &'static str, family: Family, rows: &[Row]) -> Vec<Entry> {
    rows.iter()
        .map(|(base, signature)| Entry {
            name: interned(format!("{interface}{base}")),
            interface,
            family,
            signature: *signature,
        })
        .collect()
}

/// A name that is kept as long as the program runs, once.
pub fn interned(name: String) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_default();
    match names.get(name.as_str()) {
        Some(known) => known,
        None => {
            let name: &'static str = Box::leak(name.into_boxed_str());
            names.insert(name);
            name
        }
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;

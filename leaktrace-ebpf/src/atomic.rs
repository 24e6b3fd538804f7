//! Atomic read-modify-write on map memory. `core::sync::atomic` has none on the BPF target, so
//! the compiler's intrinsics are used.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd};

/// Adds without returning the old value: `lock +=`, which every kernel has. The intrinsic returns
/// garbage in this form, so its result is dropped here and nowhere else.
#[inline(always)]
pub fn add(place: *mut u64, value: u64) {
    // SAFETY: callers pass aligned fields of live map values.
    unsafe {
        atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(place, value);
    }
}

/// Adds and returns the old value: needs Linux 5.12.
#[inline(always)]
pub fn fetch_add(place: *mut u32, value: u32) -> u32 {
    // SAFETY: callers pass aligned fields of live map values.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::AcqRel }>(place, value) }
}

/// Writes `new` if `expected` stood there, and says whether it did: needs Linux 5.12.
#[inline(always)]
pub fn replace(place: *mut u32, expected: u32, new: u32) -> bool {
    // SAFETY: callers pass aligned fields of live map values.
    let (old, _) = unsafe {
        atomic_cxchg::<u32, { AtomicOrdering::AcqRel }, { AtomicOrdering::Acquire }>(
            place, expected, new,
        )
    };
    old == expected
}

/// The same of a word.
#[inline(always)]
pub fn replace_word(place: *mut u64, expected: u64, new: u64) -> bool {
    // SAFETY: callers pass aligned fields of live map values.
    let (old, _) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::AcqRel }, { AtomicOrdering::Acquire }>(
            place, expected, new,
        )
    };
    old == expected
}

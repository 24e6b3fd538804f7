//! Live blocks in and out of the ledger: a table of buckets, and a map for what finds its bucket full.
//! Waits for nobody: a slot is claimed, and given back, by one exchange of its word. Counts no totals.
//!
//! The work is done by functions with global linkage, which the verifier looks at once each, and not
//! once for each slot in which a block can be and each of the ways that lead here.

use aya_ebpf::bindings::BPF_ANY;
use leaktrace_common::bucket::{BUCKET_SLOTS, Bucket, SLOT_CLAIMED};
use leaktrace_common::ledger::{LiveBlock, LiveKey};

use crate::atomic;
use crate::maps::{BUCKETS, LIVE, SPILLED};

const NOT_FOUND: u64 = 0;
const FOUND: u64 = 1;

/// Puts a block in that is not there; `false` when there is no room.
#[inline(always)]
pub fn put(key: LiveKey, block: &LiveBlock) -> bool {
    // SAFETY: both point to values of this frame.
    unsafe { put_block(&raw const key, block) == FOUND }
}

/// Takes a block out; `None` if it is not there, or somebody else has taken it just now.
#[inline(always)]
pub fn take(key: LiveKey) -> Option<LiveBlock> {
    look(key, true)
}

/// A copy of a block.
#[inline(always)]
pub fn find(key: LiveKey) -> Option<LiveBlock> {
    look(key, false)
}

#[inline(always)]
fn look(key: LiveKey, out: bool) -> Option<LiveBlock> {
    let mut block = LiveBlock::default();
    // SAFETY: both point to values of this frame.
    match unsafe { look_for_block(&raw const key, &raw mut block, u64::from(out)) } {
        NOT_FOUND => None,
        _ => Some(block),
    }
}

/// Finds a block, copies it and, if `out` is not zero, takes it out.
///
/// # Safety
///
/// The pointers are null or point to what they say.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn look_for_block(
    key: *const LiveKey,
    block: *mut LiveBlock,
    out: u64,
) -> u64 {
    if key.is_null() || block.is_null() {
        return NOT_FOUND;
    }
    // Copied: 6.1 takes keys and values for a map from the function's own stack only.
    // SAFETY: not null, so they may be read and written.
    let (key, block) = unsafe { (&key.read_volatile(), &mut *block) };
    let Some(bucket) = LIVE.get_ptr_mut(key.bucket(BUCKETS.load())) else {
        return NOT_FOUND;
    };
    let word = key.word();
    if word != 0
        && let Some(slot) = slot_with(bucket, word)
    {
        // The slot may be reused while it is copied only if the program frees one block twice at the
        // same time; then the exchange below fails for one of the two.
        // SAFETY: the pointer is a live map value, and the slot is one of it.
        let (place, packed) = unsafe {
            (
                (&raw mut (*bucket).words).cast::<u64>().add(slot),
                (&raw const (*bucket).blocks[slot]).read_volatile(),
            )
        };
        *block = packed.unpack();
        if out != 0 && !atomic::replace_word(place, word, 0) {
            return NOT_FOUND;
        }
        return FOUND;
    }
    // SAFETY: the pointer is a live map value.
    match unsafe { (&raw const (*bucket).spilled).read_volatile() } {
        0 => NOT_FOUND,
        _ => look_among_spilled(bucket, key, block, out),
    }
}

#[inline(always)]
fn look_among_spilled(bucket: *mut Bucket, key: &LiveKey, block: &mut LiveBlock, out: u64) -> u64 {
    let Some(place) = SPILLED.get_ptr(key) else {
        return NOT_FOUND;
    };
    // SAFETY: the pointer is a live map value; as for slots, it may be reused while it is copied.
    *block = unsafe { *place };
    if out == 0 {
        return FOUND;
    }
    if SPILLED.remove(key).is_err() {
        return NOT_FOUND;
    }
    // SAFETY: the pointer is a live map value.
    atomic::add(unsafe { &raw mut (*bucket).spilled }, 1_u64.wrapping_neg());
    FOUND
}

/// Puts a block into a slot of its bucket, or into the map.
///
/// # Safety
///
/// The pointers are null or point to what they say.
#[inline(never)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn put_block(key: *const LiveKey, block: *const LiveBlock) -> u64 {
    if key.is_null() || block.is_null() {
        return NOT_FOUND;
    }
    // Copied, as above.
    // SAFETY: not null, so they may be read.
    let (key, block) = unsafe { (&key.read_volatile(), &block.read_volatile()) };
    let Some(bucket) = LIVE.get_ptr_mut(key.bucket(BUCKETS.load())) else {
        return NOT_FOUND;
    };
    let word = key.word();
    if word != 0
        && block.fits()
        && let Some(slot) = claim(bucket)
    {
        // SAFETY: the pointer is a live map value, and the slot, which is one of it, is claimed:
        // nobody else writes it. Readers look at the word first, which is written last.
        unsafe {
            (&raw mut (*bucket).blocks[slot]).write_volatile(block.pack());
            (&raw mut (*bucket).words[slot]).write_volatile(word);
        }
        return FOUND;
    }
    // Counted before, so that whoever looks for the block sees that there is one.
    // SAFETY: the pointer is a live map value.
    let spilled = unsafe { &raw mut (*bucket).spilled };
    atomic::add(spilled, 1);
    if SPILLED.insert(key, block, u64::from(BPF_ANY)).is_err() {
        atomic::add(spilled, 1_u64.wrapping_neg());
        return NOT_FOUND;
    }
    FOUND
}

/// The slot of the block with this word.
#[inline(always)]
fn slot_with(bucket: *mut Bucket, word: u64) -> Option<usize> {
    // SAFETY: the pointer is a live map value, and the slots are below their number.
    (0..BUCKET_SLOTS)
        .find(|slot| unsafe { (&raw const (*bucket).words[*slot]).read_volatile() } == word)
}

/// Takes a free slot.
#[inline(always)]
fn claim(bucket: *mut Bucket) -> Option<usize> {
    (0..BUCKET_SLOTS).find(|slot| {
        // SAFETY: the pointer is a live map value, and the slots are below their number.
        let place = unsafe { &raw mut (*bucket).words[*slot] };
        // SAFETY: as above.
        let word = unsafe { place.read_volatile() };
        word == 0 && atomic::replace_word(place, 0, SLOT_CLAIMED)
    })
}

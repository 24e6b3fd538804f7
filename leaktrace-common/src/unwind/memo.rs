//! Walks that were made before: which words of the stack have decided a walk, and whether a stack
//! has the same ones again. Then the walk would go the same way, and its result is known. Reads no
//! stack and looks at no table.

use crate::stack::hash_frame;

/// Words of the stack that a trail has room for: those of some 60 frames, or of more that save no
/// frame pointer.
pub const TRAIL_WORDS: usize = 128;

/// How far a trail reaches up the stack, words.
pub const REACH_WORDS: usize = 512;

/// Words of a trail that are compared at once.
pub const GROUP_WORDS: usize = 8;

const REGISTER: u64 = u64::MAX;
const NOTED: u64 = u64::MAX - 1;

/// The words that have decided a walk: return addresses, and what frames were found by. The frame
/// pointer that a function saves for its caller often holds no frame pointer but a number that
/// changes from call to call; it counts only if a frame further up is found by it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trail {
    /// Stack pointer at the start. Places are counted from there, in words.
    pub origin: u64,
    /// Words that were noted; more than there is room for when some are missing.
    pub count: u64,
    /// Highest place that was noted.
    pub reach: u64,
    /// Frame pointer register at the start.
    pub register: u64,
    /// Not 0 when that register has decided the walk.
    pub register_used: u64,
    /// Where the present frame pointer was read, unless it is the register or was noted.
    saved_place: u64,
    /// The present frame pointer, if it was read.
    saved: u64,
    /// The words.
    pub values: [u64; TRAIL_WORDS],
    /// Their places.
    pub places: [u16; TRAIL_WORDS],
}

impl Trail {
    /// A trail without words.
    pub const EMPTY: Self = Self {
        origin: 0,
        count: 0,
        reach: 0,
        register: 0,
        register_used: 0,
        saved_place: REGISTER,
        saved: 0,
        values: [0; TRAIL_WORDS],
        places: [0; TRAIL_WORDS],
    };

    /// Begins a walk at this stack pointer, with this frame pointer in its register.
    #[inline(always)]
    pub const fn begin(&mut self, origin: u64, register: u64) {
        self.origin = origin;
        self.register = register;
        self.count = 0;
        self.reach = 0;
        self.register_used = 0;
        self.saved_place = REGISTER;
    }

    /// A word that decides the walk.
    #[inline(always)]
    pub const fn note(&mut self, address: u64, value: u64) {
        self.note_place(address.wrapping_sub(self.origin) >> 3, value);
    }

    #[inline(always)]
    const fn note_place(&mut self, place: u64, value: u64) {
        let n = self.count as usize & (TRAIL_WORDS - 1);
        self.places[n] = place as u16;
        self.values[n] = value;
        self.count += 1;
        if place > self.reach {
            self.reach = place;
        }
    }

    /// A word that is the frame pointer from now on.
    #[inline(always)]
    pub const fn note_saved(&mut self, address: u64, value: u64) {
        self.saved_place = address.wrapping_sub(self.origin) >> 3;
        self.saved = value;
    }

    /// The present frame pointer decides the walk.
    #[inline(always)]
    pub const fn use_frame_pointer(&mut self) {
        match self.saved_place {
            NOTED => return,
            REGISTER => self.register_used = 1,
            place => self.note_place(place, self.saved),
        }
        self.saved_place = NOTED;
    }

    /// Whether all that has decided the walk is here. The words are then filled up to whole groups.
    #[inline(always)]
    pub const fn close(&mut self) -> bool {
        if self.origin & 7 != 0
            || self.count == 0
            || self.count > TRAIL_WORDS as u64
            || self.reach >= REACH_WORDS as u64
        {
            return false;
        }
        let mut more = 0;
        while more < GROUP_WORDS - 1 {
            let n = self.count as usize + more;
            if n < TRAIL_WORDS {
                self.places[n] = self.places[0];
                self.values[n] = self.values[0];
            }
            more += 1;
        }
        true
    }

    /// Groups of words that it has.
    #[inline(always)]
    pub const fn groups(&self) -> u64 {
        self.count.div_ceil(GROUP_WORDS as u64)
    }

    /// Looks for the first word of a group that a stack, given from the origin on, has not: 0 when
    /// there is none, else a number made of its place and of what the stack has there.
    #[inline(always)]
    pub fn fork(&self, group: u64, stack: &[u64; REACH_WORDS]) -> u64 {
        let first = group as usize * GROUP_WORDS;
        let mut n = 0;
        while n < GROUP_WORDS {
            let index = (first + n) & (TRAIL_WORDS - 1);
            let place = self.places[index] as usize & (REACH_WORDS - 1);
            let word = stack[place];
            if word != self.values[index] {
                return hash_frame(place as u64, word) | 1;
            }
            n += 1;
        }
        0
    }
}

/// What a walk begins with, besides the stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beginning {
    /// Stack pointer.
    pub stack_pointer: u64,
    /// Frame pointer register.
    pub frame_pointer: u64,
    /// Whose mappings the walk uses, and the how-manieth that it was given; not 0.
    pub code: u64,
    /// Number of the process's entry, and source.
    pub caller: u64,
}

/// A walk that was made, and the site of the stack that it has found.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memo {
    /// 1 while somebody reads or writes it.
    pub taken: u32,
    /// The site.
    pub site: u32,
    /// [`Beginning::code`]; 0 when there is no walk here.
    pub code: u64,
    /// [`Beginning::caller`]
    pub caller: u64,
    /// Hash of the stack that gets the place if it comes again.
    pub wanted: u64,
    /// What has decided the walk.
    pub trail: Trail,
}

impl Memo {
    /// Whether this walk has begun like another one.
    #[inline(always)]
    pub const fn begins_like(&self, other: &Beginning) -> bool {
        self.code == other.code
            && self.caller == other.caller
            && self.trail.origin == other.stack_pointer
            && (self.trail.register_used == 0 || self.trail.register == other.frame_pointer)
    }
}

const _: () = assert!(size_of::<Memo>() == 32 + 56 + TRAIL_WORDS * 10);
const _: () = assert!(TRAIL_WORDS.is_multiple_of(GROUP_WORDS));
const _: () = assert!(REACH_WORDS <= 1 << 16);

#[cfg(test)]
#[path = "memo_tests.rs"]
mod tests;

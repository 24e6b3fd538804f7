//! Places of a table that were used and can be used again: a queue that user space fills and the
//! programs empty. Knows the counters alone; the places stand in a map beside it.

/// How far a queue of free places was filled and emptied. Both numbers only go up, and wrap around at
/// the same place. There is room for every place of the table, so that a queue is never overfilled.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Places that were given back. Advanced by user space, after the place is written.
    pub released: u32,
    /// Of these, places that were taken again. Advanced by the programs.
    pub taken: u32,
}

impl Reuse {
    /// Places that can be taken.
    pub const fn free(self) -> u32 {
        self.released.wrapping_sub(self.taken)
    }

    /// Where in a queue of so many places, a power of two, the one with this number stands.
    #[inline(always)]
    pub const fn position(number: u32, places: u32) -> u32 {
        number & (places - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_goes_on_when_its_numbers_wrap_around() {
        let queue = Reuse {
            released: 2,
            taken: u32::MAX,
        };
        assert_eq!(queue.free(), 3);
        let positions = [u32::MAX, 0, 1].map(|number| Reuse::position(number, 256));
        assert_eq!(positions, [255, 0, 1]);
    }
}

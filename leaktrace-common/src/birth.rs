//! Time of birth → slot: which counter of a site holds the bytes of a block that was allocated
//! then. Slots are wider the later they begin, so that a fixed number of them covers a day and
//! each is at most a quarter of the time before it. Counts nothing itself.

/// Slots of a site. The last one also takes whatever is born after it.
pub const BIRTH_SLOTS: usize = 64;

/// A unit of time is `1 << UNIT_SHIFT` nanoseconds, about a second: a division costs the kernel
/// side more than a shift.
const UNIT_SHIFT: u32 = 30;

/// Slots in which an octave of time is divided, as a power of two; so many first slots have one
/// unit each.
const PART_BITS: u32 = 2;
const PARTS: u64 = 1 << PART_BITS;

/// The slot of a block that was allocated so long after counting began.
#[inline(always)]
pub const fn birth_slot(after_start_ns: u64) -> usize {
    let units = after_start_ns >> UNIT_SHIFT;
    let slot = if units < PARTS {
        units
    } else {
        let octave = units.ilog2() - PART_BITS;
        (octave as u64 + 1) * PARTS + ((units >> octave) & (PARTS - 1))
    };
    if slot < BIRTH_SLOTS as u64 {
        slot as usize
    } else {
        BIRTH_SLOTS - 1
    }
}

/// When a slot begins, nanoseconds after counting began. It ends where the next one begins; the
/// slot [`BIRTH_SLOTS`] does not exist and is the end of the last.
pub const fn birth_slot_start_ns(slot: usize) -> u64 {
    let slot = slot as u64;
    let units = if slot < PARTS {
        slot
    } else {
        (PARTS + slot % PARTS) << (slot / PARTS - 1)
    };
    units << UNIT_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_lies_in_the_slot_that_covers_it() {
        let second = 1_000_000_000_u64;
        for at_ns in (0..36 * 3600).map(|s| s * second + s % 977) {
            let slot = birth_slot(at_ns);
            assert!(birth_slot_start_ns(slot) <= at_ns, "{at_ns} in {slot}");
            assert!(at_ns < birth_slot_start_ns(slot + 1), "{at_ns} in {slot}");
        }
    }

    #[test]
    fn slots_follow_one_another_and_are_at_most_a_quarter_of_the_time_before_them() {
        for slot in 0..BIRTH_SLOTS {
            let (start, end) = (birth_slot_start_ns(slot), birth_slot_start_ns(slot + 1));
            assert!(start < end);
            assert_eq!(birth_slot(start), slot);
            assert_eq!(birth_slot(end - 1), slot);
            assert!(slot < 4 || end - start <= start / 4);
        }
    }

    #[test]
    fn what_is_born_after_the_last_slot_is_in_it() {
        assert_eq!(birth_slot(u64::MAX), BIRTH_SLOTS - 1);
    }
}

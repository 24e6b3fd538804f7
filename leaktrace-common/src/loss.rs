//! What was not seen, by reason. A loss is counted where it happens and shown in every report.

/// Reasons why numbers can be short. The number is the index in the map of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Loss {
    /// An allocation was not recorded because the map of live allocations was full.
    LiveMapFull = 0,
    /// A stack was not stored because the map of stacks was full; the allocation is counted
    /// without its stack.
    StackMapFull = 1,
    /// A call was not followed because more threads than slots were in allocation functions.
    PendingMapFull = 2,
    /// The address that an allocation function stored could not be read back.
    ResultUnreadable = 3,
    /// An allocation call never returned (longjmp, exception, thread exit), so that it is not
    /// known whether it allocated.
    CallAbandoned = 4,
    /// A block was handed out again although its free was not seen; it was taken as freed then.
    FreeMissed = 5,
    /// A change of mappings was not followed: its event did not fit into the ring buffer, or its
    /// thread had no slot for pending calls.
    EventLost = 6,
    /// An allocation is counted without its stack, because no scratch area was free.
    ScratchBusy = 7,
    /// A forked child, or the program that an exec started, is not counted: the table of
    /// processes was full.
    ProcessTableFull = 8,
    /// Shared memory that shmat attached is not counted: nobody could say how long it is, because it was
    /// gone again when the mappings were read. Counted by user space.
    LengthUnknown = 9,
}

/// How many reasons there are.
pub const LOSS_REASONS: usize = 10;

impl Loss {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; LOSS_REASONS] = [
        Self::LiveMapFull,
        Self::StackMapFull,
        Self::PendingMapFull,
        Self::ResultUnreadable,
        Self::CallAbandoned,
        Self::FreeMissed,
        Self::EventLost,
        Self::ScratchBusy,
        Self::ProcessTableFull,
        Self::LengthUnknown,
    ];

    /// The name that reports use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LiveMapFull => "live_map_full",
            Self::StackMapFull => "stack_map_full",
            Self::PendingMapFull => "pending_map_full",
            Self::ResultUnreadable => "result_unreadable",
            Self::CallAbandoned => "call_abandoned",
            Self::FreeMissed => "free_missed",
            Self::EventLost => "event_lost",
            Self::ScratchBusy => "scratch_busy",
            Self::ProcessTableFull => "process_table_full",
            Self::LengthUnknown => "length_unknown",
        }
    }
}

/// How often a loss happened, and how many bytes were asked for in these calls.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossTotals {
    /// Occurrences.
    pub count: u64,
    /// Bytes asked for in these calls; zero where no size is known.
    pub bytes: u64,
}

const _: () = assert!(size_of::<LossTotals>() == 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_own_number() {
        for (index, reason) in Loss::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}

//! What of a program was not counted because its probes were not in place. Pure.

use std::time::Duration;

use leaktrace_common::limits::MAX_PROCESSES;

/// A time in which a program was not counted, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// From its start on, at most.
    pub time: Duration,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    OtherAllocator,
    ProbesExchanged,
    NoPlace,
}

impl Unseen {
    /// It was executed, and the probes of the program before do not serve it.
    pub const fn other_allocator(time: Duration) -> Self {
        let why = Why::OtherAllocator;
        Self { time, why }
    }

    /// It was forked, and the kernel may have exchanged its probes with those of another process.
    pub const fn probes_exchanged(time: Duration) -> Self {
        let why = Why::ProbesExchanged;
        Self { time, why }
    }

    /// It was executed when there was no place for one more program: nothing of it is counted.
    pub const fn no_place(time: Duration) -> Self {
        let why = Why::NoPlace;
        Self { time, why }
    }

    /// Whether that is the whole program.
    pub const fn is_all(self) -> bool {
        matches!(self.why, Why::NoPlace)
    }

    /// What a report says of it.
    pub(super) fn notice(self, pid: u32) -> String {
        let ms = self.time.as_secs_f64() * 1000.0;
        match self.why {
            Why::OtherAllocator => format!(
                "what the program did in its first {ms:.0} ms was not seen: its allocator is not the \
                 one of the program before, or another thread than the main one has executed it"
            ),
            Why::NoPlace => format!(
                "the process runs another program since {:.1} s, and nothing of that is counted: the table of \
                 processes was full at its exec ({MAX_PROCESSES} processes and programs at a time); trace it \
                 with a leaktrace of its own: leaktrace -p {pid}",
                self.time.as_secs_f64(),
            ),
            Why::ProbesExchanged => format!(
                "what the process did in its first {ms:.0} ms may not have been seen: it was forked by \
                 a process that had just been forked itself, and this kernel may take the probes out of \
                 one such process when another ends"
            ),
        }
    }
}

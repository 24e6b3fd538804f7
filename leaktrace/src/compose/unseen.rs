//! What of a program was not counted because its probes were not in place. Pure.

use std::time::Duration;

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

    /// What a report says of it.
    pub(super) fn notice(self) -> String {
        let ms = self.time.as_secs_f64() * 1000.0;
        match self.why {
            Why::OtherAllocator => format!(
                "what the program did in its first {ms:.0} ms was not seen: its allocator is not the \
                 one of the program before, or another thread than the main one has executed it"
            ),
            Why::ProbesExchanged => format!(
                "what the process did in its first {ms:.0} ms may not have been seen: it was forked by \
                 a process that had just been forked itself, and this kernel may take the probes out of \
                 one such process when another ends"
            ),
        }
    }
}

//! What of a program was not counted because its probes were not in place. Pure.

use std::time::Duration;

use leaktrace_common::limits::MAX_PROCESSES;

/// A time in which a program was not counted, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen {
    /// At most: from its start on, but for what its late allocators add.
    pub time: Duration,
    why: Why,
    /// What allocators add that were loaded under trace.
    late: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    OtherAllocator,
    ProbesExchanged,
    NoPlace,
    ProbesClosed,
    OwnMappings,
    LackedProbes,
    LateAllocator,
}

impl Unseen {
    /// It was executed, and the probes of the program before do not serve it.
    pub const fn other_allocator(time: Duration) -> Self {
        Self::because(Why::OtherAllocator, time)
    }

    /// It was forked, and the kernel may have exchanged its probes with those of another process.
    pub const fn probes_exchanged(time: Duration) -> Self {
        Self::because(Why::ProbesExchanged, time)
    }

    /// It was executed, and the kernel may have closed the probes of the program before.
    pub const fn probes_closed(time: Duration) -> Self {
        Self::because(Why::ProbesClosed, time)
    }

    /// It was executed, and its system calls were not counted at first.
    pub const fn own_mappings(time: Duration) -> Self {
        Self::because(Why::OwnMappings, time)
    }

    /// It was executed when there was no place for one more program: nothing of it is counted.
    pub const fn no_place(time: Duration) -> Self {
        Self::because(Why::NoPlace, time)
    }

    /// It was forked before its probes were in place.
    pub const fn lacked_probes(time: Duration) -> Self {
        Self::because(Why::LackedProbes, time)
    }

    /// An allocator was loaded under trace this long before its probes were in place, at most. `before` is
    /// what else was not counted.
    pub fn late_allocator(before: Option<Self>, time: Duration) -> Self {
        let before = before.unwrap_or(Self::because(Why::LateAllocator, Duration::ZERO));
        Self {
            time: before.time + time,
            late: before.late + time,
            ..before
        }
    }

    const fn because(why: Why, time: Duration) -> Self {
        let late = Duration::ZERO;
        Self { time, why, late }
    }

    /// Whether that is the whole program.
    pub const fn is_all(self) -> bool {
        matches!(self.why, Why::NoPlace)
    }

    /// What a report says of it.
    pub(super) fn notices(self, pid: u32) -> impl Iterator<Item = String> {
        let late = (!self.late.is_zero()).then(|| {
            format!(
                "an allocator was loaded while the program ran: what that handed out before its probes \
                 were in place, in {:.0} ms at most, may not have been seen",
                self.late.as_secs_f64() * 1000.0
            )
        });
        self.notice(pid).into_iter().chain(late)
    }

    fn notice(self, pid: u32) -> Option<String> {
        let time = self.time.saturating_sub(self.late);
        let ms = time.as_secs_f64() * 1000.0;
        Some(match self.why {
            Why::OtherAllocator => format!(
                "what the program did in its first {ms:.0} ms was not seen: its allocator is not the \
                 one of the program before, or another thread than the main one has executed it; what \
                 that allocator had mapped by then may be listed as mapped by the program"
            ),
            Why::OwnMappings => format!(
                "what the program mapped by system calls of its own in its first {ms:.0} ms was not seen"
            ),
            Why::ProbesClosed => format!(
                "what the program did in its first {ms:.0} ms may not have been seen: it is set-uid or \
                 set-gid, has capabilities, may not be read by its user, or was given other rights by a \
                 security module (SELinux, AppArmor), and the kernel takes inherited probes out at the exec \
                 of most such programs"
            ),
            Why::NoPlace => format!(
                "the process runs another program since {:.1} s, and nothing of that is counted: the table of \
                 processes was full at its exec ({MAX_PROCESSES} processes and programs at a time); trace it \
                 with a leaktrace of its own: leaktrace -p {pid}",
                time.as_secs_f64(),
            ),
            Why::LateAllocator => return None,
            Why::LackedProbes => format!(
                "what the process did in its first {ms:.0} ms may not have been seen: it was forked \
                 before all probes of its parent's program were in place"
            ),
            Why::ProbesExchanged => format!(
                "what the process did in its first {ms:.0} ms may not have been seen: it was forked by \
                 a process that had just been forked itself, and this kernel may take the probes out of \
                 one such process when another ends"
            ),
        })
    }
}

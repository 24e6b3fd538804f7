//! When a process was seen last to have no code but what is probed in it → for how long what came later
//! went unseen, and which of its children lack the probes. Attaches nothing.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::traced::Traced;
use crate::compose::Unseen;
use crate::session::{NewProcess, Session};
use crate::target::threads;

/// A fork that the kernel was at while probes were added can have copied the process before that, and
/// made its entry in the table after. It takes no longer than this, and there is one a thread.
const FORK_TAKES: Duration = Duration::from_millis(100);

/// Rounds of looks after which an event has come that a process sent before it forked: the table of
/// processes is read right behind the events.
const ROUNDS_OF_A_NEWCOMER: u8 = 2;

/// What is known of the time at which code came into a process.
pub(super) struct LateCode {
    /// It was forked under trace, not before this.
    forked_at: Option<Instant>,
    /// All code that it had then is probed.
    checked_at: Instant,
    /// Whether it tells when it loads objects.
    tells: bool,
    added: Option<Added>,
    rounds: u8,
}

/// Probes that were added while the process could fork.
struct Added {
    /// Processes up to this serial may have been forked before.
    serial: u32,
    at: Instant,
    /// Children that may have been about to be made then.
    in_flight: usize,
}

impl LateCode {
    pub(super) fn new() -> Self {
        Self {
            forked_at: None,
            checked_at: Instant::now(),
            tells: false,
            added: None,
            rounds: 0,
        }
    }

    /// The process tells from now on when it loads objects.
    pub(super) fn will_tell(&mut self) {
        self.tells = true;
    }

    /// The process had told of nothing at this time.
    pub(super) fn told_nothing(&mut self, at: Instant) {
        if self.tells {
            self.checked_at = self.checked_at.max(at);
        }
    }

    /// All code that was there at this time is probed.
    pub(super) fn looked(&mut self, at: Instant) {
        self.checked_at = self.checked_at.max(at);
    }

    /// Time since the process may have had code that was not probed.
    pub(super) fn unchecked(&self) -> Duration {
        self.checked_at.elapsed()
    }

    /// Time since the fork at most, if it was forked under trace.
    pub(super) fn since_fork(&self) -> Option<Duration> {
        self.forked_at.map(|at| at.elapsed())
    }

    /// What a child begins with.
    pub(super) fn of_child(&self, child: NewProcess) -> Self {
        let now = Instant::now();
        let forked_at = now.checked_sub(child.age).unwrap_or(now);
        Self {
            forked_at: Some(forked_at),
            checked_at: forked_at,
            tells: self.tells,
            added: None,
            rounds: 0,
        }
    }

    /// Whether a child may have been forked before all probes were in place that the process has now.
    pub(super) fn lacks_probes(&mut self, child: NewProcess) -> bool {
        let Some(added) = &mut self.added else {
            return false;
        };
        if child.serial <= added.serial {
            return true;
        }
        let was_in_flight = added.in_flight > 0 && added.at.elapsed() < FORK_TAKES + child.age;
        added.in_flight = added.in_flight.saturating_sub(1);
        was_in_flight
    }
}

impl Traced {
    /// Notes that children of before this may lack probes, and that of after this have them all.
    /// The kernel has been at no fork since they were put in.
    pub(super) fn probes_settled(&mut self, session: &Session) {
        self.late_code.added = Some(Added {
            serial: session.serials(),
            at: Instant::now(),
            in_flight: 0,
        });
    }

    /// The same right after probes were put in.
    pub(super) fn probes_added(&mut self, session: &Session) {
        self.probes_settled(session);
        if let Some(added) = &mut self.late_code.added {
            added.in_flight = threads(self.pid).map_or(1, |threads| threads.len());
        }
    }

    /// An allocator has got its probes that was loaded under trace: what it has handed out so far was not
    /// seen.
    pub(super) fn allocator_came_late(&mut self, session: &Session) {
        self.probes_added(session);
        let unchecked = self.late_code.unchecked();
        self.unseen = Some(Unseen::late_allocator(self.unseen, unchecked));
    }
}

/// Has children looked at that were taken up a moment ago, when a process has new code that they may
/// have come from.
pub(super) fn pass_on_news(targets: &mut [Traced], session: &mut Session) {
    let is_new = |target: &Traced| target.late_code.rounds < ROUNDS_OF_A_NEWCOMER;
    if !targets.iter().any(is_new) {
        return;
    }
    let present: HashSet<u32> = targets.iter().map(|target| target.pid).collect();
    let mut changed: HashSet<u32> = HashSet::new();
    // A parent that is not there any more may have had news.
    let has_news =
        |parent, changed: &HashSet<u32>| changed.contains(&parent) || !present.contains(&parent);
    // Children stand behind their parents.
    for target in targets {
        let is_newcomer = is_new(target);
        target.late_code.rounds = target.late_code.rounds.saturating_add(1);
        if is_newcomer
            && target
                .parent
                .is_some_and(|parent| has_news(parent, &changed))
        {
            session.expect_new_code(target.index);
        }
        if session.has_new_code(target.index) {
            changed.insert(target.pid);
        }
    }
}

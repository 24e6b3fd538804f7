//! Runs of behaviours → how often the verdict was right, and when it became so.

use leaktrace::analysis::{Growth, Tracker, Verdict};

use crate::behaviours::{Behaviour, Truth};
use crate::site::{Noise, Site};

/// Lengths that are scored, intervals.
pub(crate) const LENGTHS: [u32; 3] = [12, 45, 300];

/// What was said after each interval of one run; entry 0 after the first.
pub(crate) struct Run {
    pub(crate) verdicts: Vec<Verdict>,
}

/// How a behaviour is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// From its beginning, at every interval, which is a second.
    FromTheStart,
    /// The same, and births are not counted.
    WithoutBirths,
    /// The same, and in the middle of every interval too: with reports every ten seconds.
    TwiceASecond,
    /// The behaviour begins when others have been watched for an hour.
    AnHourLater,
    /// It begins at a site at which for an hour all was freed at once.
    AfterAnHourOfChurn,
}

impl Watched {
    pub(crate) fn is_late(self) -> bool {
        matches!(self, Self::AnHourLater | Self::AfterAnHourOfChurn)
    }
}

/// An hour.
const CALM_TICKS: u32 = 3600;

/// Runs a behaviour for this many intervals, and gives each to `read`.
fn trace(
    behaviour: &Behaviour,
    seed: u64,
    intervals: u32,
    watched: Watched,
    mut read: impl FnMut(&Tracker),
) -> Site {
    let mut noise = Noise::new(seed);
    let mut work = (behaviour.work)(&mut noise);
    let mut site = Site::new(1.0);
    let mut tracker = Tracker::new();
    let births = watched != Watched::WithoutBirths;
    if watched.is_late() {
        for _ in 0..CALM_TICKS {
            site.next_tick();
            if watched == Watched::AfterAnHourOfChurn {
                site.churn(1e5);
                tracker.observe(&site.snapshot(births));
            }
        }
        tracker.skip(site.elapsed());
        site.forget_calm();
    }
    for tick in 1..=intervals {
        site.next_tick();
        if watched == Watched::TwiceASecond {
            tracker.observe(&site.snapshot_before_its_work());
        }
        work(&mut site, tick, &mut noise);
        tracker.observe(&site.snapshot(births));
        read(&tracker);
    }
    site
}

/// What is said after so many intervals, and the site then.
pub(crate) fn judge(
    behaviour: &Behaviour,
    seed: u64,
    intervals: u32,
    watched: Watched,
) -> (Growth, Site) {
    let (mut last, mut seen) = (Growth::UNKNOWN, 0);
    let site = trace(behaviour, seed, intervals, watched, |tracker| {
        seen += 1;
        if seen == intervals {
            last = tracker.growth(0);
        }
    });
    (last, site)
}

/// What is said after each interval.
pub(crate) fn run(behaviour: &Behaviour, seed: u64, intervals: u32, watched: Watched) -> Run {
    let mut verdicts = Vec::new();
    trace(behaviour, seed, intervals, watched, |tracker| {
        verdicts.push(tracker.growth(0).verdict);
    });
    Run { verdicts }
}

impl Run {
    pub(crate) fn after(&self, intervals: u32) -> Verdict {
        self.verdicts[intervals as usize - 1]
    }

    /// Intervals after which the verdict was right and stayed so; absent if it is wrong at the end.
    pub(crate) fn right_from(&self, truth: Truth) -> Option<usize> {
        let wrong = self
            .verdicts
            .iter()
            .rposition(|said| !is_right(truth, *said));
        match wrong {
            None => Some(1),
            Some(last) if last + 1 == self.verdicts.len() => None,
            Some(last) => Some(last + 2),
        }
    }
}

/// A leak has to be called one; what is none may be called anything else.
pub(crate) fn is_right(truth: Truth, said: Verdict) -> bool {
    (truth == Truth::Leak) == (said == Verdict::Leaking)
}

/// Verdicts at one length.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Runs of leaks that can be decided, and those that were called leaks.
    pub(crate) leaks: u32,
    pub(crate) found: u32,
    /// Runs of healthy sites that can be decided, and those that were called leaks.
    pub(crate) healthy: u32,
    pub(crate) alarms: u32,
    /// Runs of leaks that nobody could decide yet, and those that were called leaks all the same.
    pub(crate) open_leaks: u32,
    pub(crate) open_found: u32,
    /// The same of healthy sites.
    pub(crate) open_healthy: u32,
    pub(crate) open_alarms: u32,
}

/// What a verdict is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Right,
    Wrong,
    /// Nobody could say.
    Open,
}

impl Tally {
    pub(crate) fn add(&mut self, behaviour: &Behaviour, intervals: u32, said: Verdict) -> Mark {
        let is_decidable = intervals >= behaviour.decidable_from;
        self.count(behaviour.truth, is_decidable, said)
    }

    pub(crate) fn count(&mut self, truth: Truth, is_decidable: bool, said: Verdict) -> Mark {
        let leaking = u32::from(said == Verdict::Leaking);
        if !is_decidable {
            let (runs, called) = match truth {
                Truth::Leak => (&mut self.open_leaks, &mut self.open_found),
                Truth::Healthy => (&mut self.open_healthy, &mut self.open_alarms),
            };
            *runs += 1;
            *called += leaking;
            return Mark::Open;
        }
        if truth == Truth::Leak {
            self.leaks += 1;
            self.found += leaking;
        } else {
            self.healthy += 1;
            self.alarms += leaking;
        }
        match is_right(truth, said) {
            true => Mark::Right,
            false => Mark::Wrong,
        }
    }
}

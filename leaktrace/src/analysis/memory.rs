//! Readings of a whole process's memory → which kinds have grown, how the resident set moves, and
//! how long until a bound is reached. Pure.

use std::time::Duration;

use super::forecast::seconds_until;
use super::growth::judge;
use super::series::{Point, Series};
use super::trend::theil_sen;
use super::verdict::Verdict;
use super::window::{MAX_STEPS, Window};
use crate::snapshot::Totals;
use crate::target::{BoundKind, MemoryUse};

/// Part of its highest level by which a resident set has to rise and to fall to be called tidal, and by
/// which it has to do one of them to have stepped.
const TIDE_SHARE: f64 = 0.1;

/// By how much each kind has changed since the start, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryGrowth {
    /// Resident memory of no file.
    pub anonymous_bytes: i64,
    /// Resident pages of files.
    pub file_bytes: i64,
    /// Resident shared memory.
    pub shared_bytes: i64,
    /// In swap.
    pub swapped_bytes: i64,
    /// Page faults that had to wait for a disk.
    pub major_faults: i64,
    /// Anonymous memory, swap included, beyond what was live and tracked at the same time.
    pub untracked_anonymous_bytes: i64,
}

/// When the first bound is reached if it goes on like this.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeLeft {
    /// Which bound may be the first.
    pub kind: BoundKind,
    /// From, to, in seconds from the last reading.
    pub seconds: [f64; 2],
}

/// Which bound: of several cgroups each has readings of its own.
type Place = (BoundKind, usize);

/// The memory of one process over time.
#[derive(Debug, Default)]
pub struct MemoryTracker {
    start: Option<MemoryUse>,
    latest: Option<MemoryUse>,
    /// Live and traced at the latest reading.
    tracked_bytes: u64,
    resident: Series,
    bounds: Vec<(Place, Series)>,
}

impl MemoryTracker {
    /// Adds a reading; `tracked_bytes` are live, traced and not only reserved at that time.
    pub fn observe(&mut self, elapsed: Duration, memory: MemoryUse, tracked_bytes: u64) {
        self.tracked_bytes = tracked_bytes;
        push(&mut self.resident, elapsed, memory.resident_bytes());
        for bound in &memory.bounds {
            let place = (bound.kind, bound.level);
            let known = self.bounds.iter_mut().find(|(known, _)| *known == place);
            match known {
                Some((_, series)) => push(series, elapsed, bound.used_bytes),
                None => {
                    let mut series = Series::default();
                    push(&mut series, elapsed, bound.used_bytes);
                    self.bounds.push((place, series));
                }
            }
        }
        if self.start.is_none() {
            self.start = Some(memory.clone());
        }
        self.latest = Some(memory);
    }

    /// Corrects what was live, traced and not only reserved at the last reading.
    pub fn track(&mut self, tracked_bytes: u64) {
        self.tracked_bytes = tracked_bytes;
    }

    /// The last reading.
    pub fn latest(&self) -> Option<&MemoryUse> {
        self.latest.as_ref()
    }

    /// What has changed since the first reading.
    pub fn growth(&self) -> Option<MemoryGrowth> {
        let (start, now) = (self.start.as_ref()?, self.latest.as_ref()?);
        let change = |of: fn(&MemoryUse) -> u64| of(now).cast_signed() - of(start).cast_signed();
        Some(MemoryGrowth {
            anonymous_bytes: change(|memory| memory.anonymous_bytes),
            file_bytes: change(|memory| memory.file_bytes),
            shared_bytes: change(|memory| memory.shared_bytes),
            swapped_bytes: change(|memory| memory.swapped_bytes),
            major_faults: change(|memory| memory.major_faults),
            untracked_anonymous_bytes: change(|memory| {
                memory.anonymous_bytes + memory.swapped_bytes
            }) - self.tracked_bytes.cast_signed(),
        })
    }

    /// How the resident set moves: `climbing`, `falling`, `tidal` (up and down), `stepped` (to another
    /// level, at which it has stayed) or `flat`; absent while too little was seen.
    pub fn pattern(&self) -> Option<&'static str> {
        let points = self.resident.points();
        let highest = points.iter().map(|point| point.live_bytes).max()?;
        let (rise, fall) = widest_moves(points);
        let is_wide = |bytes: u64| bytes as f64 > TIDE_SHARE * highest as f64;
        match judge(&self.resident, None).verdict {
            Verdict::Unknown => None,
            Verdict::Leaking | Verdict::Growing => Some("climbing"),
            Verdict::Shrinking => Some("falling"),
            Verdict::Steady => Some(match (is_wide(rise), is_wide(fall)) {
                (true, true) => "tidal",
                (false, false) => "flat",
                _ => "stepped",
            }),
        }
    }

    /// The lowest of all limits.
    pub fn tightest_limit_bytes(&self) -> Option<u64> {
        let bounds = &self.latest.as_ref()?.bounds;
        bounds.iter().map(|bound| bound.limit_bytes).min()
    }

    /// Slope of the resident set over the last so long, bytes a second; absent before so much was
    /// seen.
    pub fn rate_over(&self, lasting: Duration) -> Option<f64> {
        let points = self.resident.points();
        let (first, last) = (points.first()?, points.last()?);
        let start_s = last.at_s - lasting.as_secs_f64();
        if start_s < first.at_s || last.at_s <= start_s {
            return None;
        }
        let window = Window::new(points, start_s, MAX_STEPS);
        theil_sen(&window.live).map(|slope| slope.value / window.step_s)
    }

    /// When the first bound is reached, whichever that is. How much of the machine others will take is
    /// not for this process to say: there its own growth counts, against what is available now.
    pub fn time_left(&self) -> Option<TimeLeft> {
        let bounds = &self.latest.as_ref()?.bounds;
        let each = bounds.iter().filter_map(|bound| {
            let series = match bound.kind {
                BoundKind::Machine => &self.resident,
                _ => {
                    let place = (bound.kind, bound.level);
                    &self.bounds.iter().find(|(known, _)| *known == place)?.1
                }
            };
            let seconds = seconds_until(series, bound.left_bytes() as f64)?;
            Some(TimeLeft {
                kind: bound.kind,
                seconds,
            })
        });
        each.reduce(TimeLeft::sooner)
    }
}

impl TimeLeft {
    /// Whichever of two comes first: as soon as the sooner one may be, no later than either, named after
    /// the one that may come soonest.
    fn sooner(self, other: Self) -> Self {
        let first = match other.seconds[0] < self.seconds[0] {
            true => other,
            false => self,
        };
        Self {
            seconds: [first.seconds[0], self.seconds[1].min(other.seconds[1])],
            ..first
        }
    }
}

/// The most that a level has risen by above any level before it, and fallen by below any.
fn widest_moves(points: &[Point]) -> (u64, u64) {
    let (mut lowest, mut highest) = (u64::MAX, 0);
    let (mut rise, mut fall) = (0, 0);
    for point in points {
        lowest = lowest.min(point.low_bytes);
        rise = rise.max(point.live_bytes - lowest.min(point.live_bytes));
        fall = fall.max(highest.max(point.live_bytes) - point.low_bytes.min(point.live_bytes));
        highest = highest.max(point.live_bytes);
    }
    (rise, fall)
}

fn push(series: &mut Series, elapsed: Duration, level_bytes: u64) {
    let totals = Totals {
        live_bytes: level_bytes,
        ..Totals::default()
    };
    series.push(elapsed, &totals);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::target::Bound;

    fn memory(anonymous_bytes: u64, limit_bytes: u64) -> MemoryUse {
        MemoryUse {
            anonymous_bytes,
            bounds: vec![
                Bound {
                    kind: BoundKind::Cgroup,
                    level: 0,
                    limit_bytes,
                    used_bytes: anonymous_bytes,
                },
                Bound {
                    kind: BoundKind::Machine,
                    level: 0,
                    limit_bytes: 100 * limit_bytes,
                    used_bytes: anonymous_bytes,
                },
            ],
            ..MemoryUse::default()
        }
    }

    fn tracked(level: impl Fn(u64) -> u64) -> MemoryTracker {
        let mut tracker = MemoryTracker::default();
        for second in 0..60 {
            let reading = memory(level(second), 1_000_000);
            tracker.observe(Duration::from_secs(second), reading, 1000);
        }
        tracker
    }

    /// Repeatable, from 0 to `below`.
    fn noise(of: u64, below: u64) -> u64 {
        let mixed = (of + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33) % below
    }

    #[test]
    fn the_time_until_a_bound_lies_in_the_interval_in_nine_of_ten_noisy_runs() {
        let runs = 200;
        let covered = (0..runs).filter(|run| {
            let tracker =
                tracked(|second| 100_000 + second * 5000 + noise(run * 1000 + second, 40_000));
            let left = tracker.time_left().unwrap();
            let true_s = (900_000.0 - 20_000.0 - 59.0 * 5000.0) / 5000.0;
            left.kind == BoundKind::Cgroup && left.seconds[0] <= true_s && true_s <= left.seconds[1]
        });
        assert!(covered.count() * 10 >= 9 * runs as usize);
    }

    #[test]
    fn whichever_bound_comes_first_lies_between_the_least_of_both_ends() {
        let until = |kind, seconds| TimeLeft { kind, seconds };
        let uneven = until(BoundKind::Cgroup, [10.0, 36_000.0]);
        let even = until(BoundKind::Machine, [3600.0, 7200.0]);
        let first = until(BoundKind::Cgroup, [10.0, 7200.0]);
        assert_eq!(uneven.sooner(even), first);
        assert_eq!(even.sooner(uneven), first);
        let far = until(BoundKind::AddressSpace, [8000.0, 9000.0]);
        assert_eq!(even.sooner(far), even);
        assert_eq!(far.sooner(even), even);
    }

    #[test]
    fn what_does_not_rise_reaches_no_bound() {
        assert_eq!(tracked(|_| 500_000).time_left(), None);
        assert_eq!(tracked(|s| 500_000 + s % 7 * 1000).time_left(), None);
        assert_eq!(tracked(|s| 500_000 + s.min(20) * 1000).time_left(), None);
    }

    #[test]
    fn what_others_take_of_the_machine_is_not_this_processs_end() {
        let mut tracker = MemoryTracker::default();
        for second in 0..60 {
            let reading = MemoryUse {
                anonymous_bytes: 100_000 + second * 100,
                bounds: vec![Bound {
                    kind: BoundKind::Machine,
                    level: 0,
                    limit_bytes: 1_000_000,
                    used_bytes: 200_000 + second * 10_000,
                }],
                ..MemoryUse::default()
            };
            tracker.observe(Duration::from_secs(second), reading, 1000);
        }
        let left = tracker.time_left().unwrap();
        assert!(left.seconds[0] > 1500.0, "{left:?}");
        assert!(left.seconds[1] < 3000.0, "{left:?}");
    }

    #[test]
    fn patterns_have_the_names_that_people_use() {
        assert_eq!(tracked(|s| 1000 + s * 100).pattern(), Some("climbing"));
        assert_eq!(tracked(|s| 9000 - s * 100).pattern(), Some("falling"));
        assert_eq!(tracked(|s| 9000 + s % 8 * 1000).pattern(), Some("tidal"));
        assert_eq!(tracked(|s| 900_000 + s % 3).pattern(), Some("flat"));
        let step = |second: u64| second / 8 % 2;
        assert_eq!(tracked(|s| 9000 + step(s) * 3000).pattern(), Some("tidal"));
        let stepped = |from: u64, to: u64| tracked(move |s| if s < 30 { from } else { to } + s % 3);
        assert_eq!(stepped(10_000, 15_000).pattern(), Some("stepped"));
        assert_eq!(stepped(15_000, 10_000).pattern(), Some("stepped"));
        assert_eq!(MemoryTracker::default().pattern(), None);
    }

    #[test]
    fn growth_is_told_by_kind() {
        let growth = tracked(|s| 1000 + s * 100).growth().unwrap();
        assert_eq!(growth.anonymous_bytes, 5900);
        assert_eq!(growth.file_bytes, 0);
        assert_eq!(growth.untracked_anonymous_bytes, 4900);
    }

    /// Of a group and the one above it, now the one and now the other has less left.
    #[test]
    fn several_groups_are_not_taken_for_one() {
        let mut tracker = MemoryTracker::default();
        for second in 0..40_u64 {
            let bound = |level, limit_bytes, used_bytes| Bound {
                kind: BoundKind::Cgroup,
                level,
                limit_bytes,
                used_bytes,
            };
            let of_parent = if second % 2 == 0 { 2_000 } else { 2_590 };
            let memory = MemoryUse {
                anonymous_bytes: 500,
                bounds: vec![bound(4, 1_000, 500), bound(3, 2_600, of_parent)],
                ..MemoryUse::default()
            };
            let nearest = memory.nearest_bounds();
            assert_eq!(nearest.len(), 1);
            assert_eq!(nearest[0].level, if second % 2 == 0 { 4 } else { 3 });
            tracker.observe(Duration::from_secs(second), memory, 0);
            assert_eq!(tracker.tightest_limit_bytes(), Some(1_000));
        }
        assert_eq!(tracker.time_left(), None);
    }
}

//! Readings of one site → a bounded series that reaches back to its first reading: every reading
//! where it is recent, one a cell of time where it is old. Judges nothing.

use std::time::Duration;

use crate::snapshot::Totals;

/// Most points that a series holds. At 40 bytes each, 10,000 sites that never rest take 51 MB.
const MAX_POINTS: usize = 128;
/// Newest points, which are never thinned.
const RECENT_POINTS: usize = 48;
/// Most cells into which the time before them is divided.
const MAX_CELLS: f64 = 64.0;

/// One reading of one site, or the last of a cell. What was allocated by then is `live_bytes +
/// freed_bytes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Seconds since the probes were armed.
    pub(super) at_s: f64,
    /// Bytes not freed at that time.
    pub(super) live_bytes: u64,
    /// Least live bytes of any reading since the point before.
    pub(super) low_bytes: u64,
    /// Bytes freed by that time.
    pub(super) freed_bytes: u64,
    /// Blocks not freed at that time; ends at `u32::MAX`.
    pub(super) live_count: u32,
    /// Blocks freed by that time; ends at `u32::MAX`.
    pub(super) freed_count: u32,
}

impl Point {
    fn new(elapsed: Duration, totals: &Totals) -> Self {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            at_s: elapsed.as_secs_f64(),
            live_bytes: totals.live_bytes,
            low_bytes: totals.live_bytes,
            freed_bytes: totals.freed_bytes,
            live_count: count(totals.live_count),
            freed_count: count(totals.freed_count),
        }
    }

    /// Bytes per second from here to a later point; zero without any time between them.
    pub(super) fn slope_to(&self, later: &Self) -> f64 {
        match later.at_s > self.at_s {
            true => (later.live_bytes as f64 - self.live_bytes as f64) / (later.at_s - self.at_s),
            false => 0.0,
        }
    }

    /// Whether nothing has happened between two readings.
    fn is_same(&self, other: &Self) -> bool {
        let held = |p: &Self| (p.live_bytes, p.freed_bytes, p.live_count, p.freed_count);
        held(self) == held(other) && other.low_bytes == other.live_bytes
    }
}

/// The readings of one site, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    points: Vec<Point>,
    readings: u32,
}

impl Series {
    /// Adds a reading. One that is not later than the last reading takes its place, so that no
    /// two points have the same time. Of readings between which nothing happened only the first
    /// and the last are kept.
    pub(super) fn push(&mut self, elapsed: Duration, totals: &Totals) {
        let point = Point::new(elapsed, totals);
        if let Some(last) = self.points.last_mut()
            && last.at_s >= point.at_s
        {
            let (at_s, low_bytes) = (last.at_s, last.low_bytes.min(point.low_bytes));
            *last = Point {
                at_s,
                low_bytes,
                ..point
            };
            return;
        }
        self.readings = self.readings.saturating_add(1);
        if let [.., before, last] = self.points.as_mut_slice()
            && before.is_same(last)
            && last.is_same(&point)
        {
            last.at_s = point.at_s;
            return;
        }
        if self.points.len() == MAX_POINTS {
            self.thin();
        }
        self.points.push(point);
    }

    /// A series of these points, oldest first, of so many readings.
    pub(super) fn of(points: Vec<Point>, readings: u32) -> Self {
        Self { points, readings }
    }

    /// The points, oldest first. Between two equal ones nothing happened; otherwise there may have
    /// been readings that were thinned out.
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Readings taken, those included that have left no point of their own.
    pub(super) fn readings(&self) -> u32 {
        self.readings
    }

    /// Slope from the first to the last point, bytes per second: what a ranking of many thousand
    /// sites can afford. Zero for fewer than two points.
    pub(super) fn end_to_end_slope(&self) -> f64 {
        let ends = self.points.first().zip(self.points.last());
        ends.map_or(0.0, |(first, last)| first.slope_to(last))
    }

    /// Keeps, of all points but the recent ones, the first of all and the last of each cell. Cells
    /// are as wide as a power of two seconds, so that those of one thinning are whole cells of the
    /// next.
    fn thin(&mut self) {
        let old = self.points.len().saturating_sub(RECENT_POINTS);
        let [first, .., last] = self.points.as_slice() else {
            return;
        };
        let cell_s = ((last.at_s - first.at_s) / MAX_CELLS).log2().ceil().exp2();
        let cell = |point: &Point| (point.at_s / cell_s).floor();
        let mut kept: Vec<Point> = Vec::with_capacity(MAX_POINTS);
        for (index, point) in self.points.iter().enumerate() {
            let within = 2..old;
            match kept.last_mut() {
                Some(before) if within.contains(&index) && cell(before) == cell(point) => {
                    let low_bytes = before.low_bytes.min(point.low_bytes);
                    *before = Point {
                        low_bytes,
                        ..*point
                    };
                }
                _ => kept.push(*point),
            }
        }
        self.points = kept;
    }
}

/// Points a second apart, with these levels and nothing else.
#[cfg(test)]
pub(super) fn points(levels: impl Iterator<Item = u64>) -> Vec<Point> {
    let point = |(at, live_bytes)| Point {
        at_s: at as f64,
        live_bytes,
        low_bytes: live_bytes,
        freed_bytes: 0,
        live_count: 0,
        freed_count: 0,
    };
    levels.enumerate().map(point).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn totals(live_bytes: u64) -> Totals {
        Totals {
            live_bytes,
            ..Totals::default()
        }
    }

    #[test]
    fn a_day_of_readings_stays_bounded_in_order_and_keeps_its_ends() {
        let mut series = Series::default();
        for second in 0..86_400 {
            series.push(Duration::from_secs(second), &totals(second));
            assert!(series.points().len() <= MAX_POINTS);
        }
        let points = series.points();
        assert_eq!(points.first().unwrap().live_bytes, 0);
        assert_eq!(points.last().unwrap().live_bytes, 86_399);
        assert!(points.windows(2).all(|pair| pair[0].at_s < pair[1].at_s));
        let recent = points.iter().filter(|p| p.at_s >= 86_400.0 - 48.0).count();
        assert_eq!(recent, RECENT_POINTS, "the newest are not thinned");
        for hour in 0..24 {
            let hour = f64::from(hour) * 3600.0..f64::from(hour + 1) * 3600.0;
            let points = points.iter().filter(|p| hour.contains(&p.at_s)).count();
            assert!(points >= 1, "every hour of the day is still there");
        }
    }

    #[test]
    fn thinning_remembers_how_low_the_level_was() {
        let mut series = Series::default();
        for second in 0..10_000 {
            let live = if second % 100 == 50 { 7 } else { 1000 + second };
            series.push(Duration::from_secs(second), &totals(live));
        }
        let points = series.points().iter();
        let old = points.filter(|point| (300.0..9500.0).contains(&point.at_s));
        assert!(old.clone().count() > 30);
        assert!(old.clone().all(|point| point.low_bytes == 7));
    }

    #[test]
    fn a_site_at_rest_takes_two_points_however_often_it_is_read() {
        let mut series = Series::default();
        for second in 0..1000 {
            series.push(Duration::from_secs(second), &totals(5));
        }
        assert_eq!(series.points().len(), 2);
        assert_eq!(series.readings(), 1000);
        assert_eq!(series.points()[1].at_s, 999.0);
    }

    #[test]
    fn a_second_reading_of_the_same_moment_replaces_the_first() {
        let mut series = Series::default();
        series.push(Duration::from_secs(1), &totals(10));
        series.push(Duration::from_secs(1), &totals(20));
        assert_eq!(series.points().len(), 1);
        assert_eq!(series.points()[0].live_bytes, 20);
    }
}

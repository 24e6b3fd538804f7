//! Readings of one site → a bounded series that reaches back to its first reading, dense where it
//! is recent and sparse where it is old. Judges nothing.

use std::time::Duration;

use crate::snapshot::Totals;

/// Most points that a series holds. At 24 bytes each, 10,000 sites take 30 MB.
const MAX_POINTS: usize = 120;

/// One reading of one site. What was allocated by then is `live_bytes + freed_bytes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    /// Seconds since the probes were armed.
    pub(super) at_s: f64,
    /// Bytes not freed at that time.
    pub(super) live_bytes: u64,
    /// Bytes freed by that time.
    pub(super) freed_bytes: u64,
}

/// The readings of one site, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    points: Vec<Point>,
}

impl Series {
    /// Adds a reading. One that is not later than the last reading takes its place, so that no
    /// two points have the same time.
    pub(super) fn push(&mut self, elapsed: Duration, totals: &Totals) {
        let point = Point {
            at_s: elapsed.as_secs_f64(),
            live_bytes: totals.live_bytes,
            freed_bytes: totals.freed_bytes,
        };
        match self.points.last_mut() {
            Some(last) if last.at_s >= point.at_s => {
                *last = Point {
                    at_s: last.at_s,
                    ..point
                }
            }
            _ => {
                if self.points.len() == MAX_POINTS {
                    self.thin();
                }
                self.points.push(point);
            }
        }
    }

    /// The points, oldest first.
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }

    /// Slope from the first to the last point, bytes per second: what a ranking of many thousand
    /// sites can afford. Zero for fewer than two points.
    pub(super) fn end_to_end_slope(&self) -> f64 {
        match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) if last.at_s > first.at_s => {
                (last.live_bytes as f64 - first.live_bytes as f64) / (last.at_s - first.at_s)
            }
            _ => 0.0,
        }
    }

    /// Drops every second point of the older half, never the first of all.
    fn thin(&mut self) {
        let half = self.points.len() / 2;
        let mut index = 0;
        self.points.retain(|_| {
            let keep = index >= half || index % 2 == 0;
            index += 1;
            keep
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
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
        assert!(points.len() >= MAX_POINTS / 2);
        let recent = points.iter().filter(|p| p.at_s >= 86_400.0 - 60.0).count();
        assert_eq!(recent, 60, "the last minute is not thinned");
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

//! Points of a series → levels at equal steps of time, which is what the statistics want. Judges
//! nothing.

use super::series::Point;

/// Most steps of a window: a trend of 32 steps is beyond doubt, and statistics are quadratic.
pub(super) const MAX_STEPS: usize = 32;

/// A stretch of time in equal steps; entry 0 is its beginning. Between two readings the level is
/// taken to go straight from one to the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    /// Length of a step, seconds.
    pub(super) step_s: f64,
    /// Live bytes at the end of each step.
    pub(super) live: Vec<f64>,
    /// Least live bytes seen during each step.
    pub(super) low: Vec<f64>,
    /// Bytes freed by the end of each step.
    pub(super) freed: Vec<f64>,
}

impl Window {
    /// The time from `start_s` to the last point in at most `steps` steps. Before the first point
    /// its level is taken to have been there.
    pub(super) fn new(points: &[Point], start_s: f64, steps: usize) -> Self {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            return Self::default();
        };
        let step_s = (last.at_s - start_s) / steps as f64;
        let mut window = Self {
            step_s,
            ..Self::default()
        };
        let mut next = 0;
        let mut level = *first;
        for step in 0..=steps {
            // The sum may miss the last point by a rounding error.
            let until_s = match step == steps {
                true => f64::INFINITY,
                false => start_s + step_s * step as f64,
            };
            let mut low = if step == 0 {
                u64::MAX
            } else {
                level.live_bytes
            };
            while let Some(point) = points.get(next).filter(|point| point.at_s <= until_s) {
                low = if step == 0 {
                    point.live_bytes
                } else {
                    low.min(point.low_bytes)
                };
                level = *point;
                next += 1;
            }
            let after = points.get(next).unwrap_or(&level);
            let part = match after.at_s > level.at_s {
                true => ((until_s - level.at_s) / (after.at_s - level.at_s)).clamp(0.0, 1.0),
                false => 0.0,
            };
            let between = |from: f64, to: f64| from + part * (to - from);
            let live = between(level.live_bytes as f64, after.live_bytes as f64);
            window.live.push(live);
            window.low.push((low as f64).min(live));
            window
                .freed
                .push(between(level.freed_bytes as f64, after.freed_bytes as f64));
        }
        window
    }

    /// Length in seconds.
    pub(super) fn span_s(&self) -> f64 {
        self.step_s * self.live.len().saturating_sub(1) as f64
    }

    /// The part that begins with this step.
    pub(super) fn from(&self, step: usize) -> Self {
        let rest = |values: &[f64]| values.get(step..).unwrap_or_default().to_vec();
        Self {
            step_s: self.step_s,
            live: rest(&self.live),
            low: rest(&self.low),
            freed: rest(&self.freed),
        }
    }

    /// From the first level to the last.
    pub(super) fn rise(&self) -> f64 {
        match self.live.as_slice() {
            [first, .., last] => last - first,
            _ => 0.0,
        }
    }

    /// Bytes freed in the window as a share of the bytes allocated in it; 1 where nothing was.
    pub(super) fn freed_share(&self) -> f64 {
        let [first, .., last] = self.freed.as_slice() else {
            return 1.0;
        };
        let allocated = last - first + self.rise();
        match allocated > 0.0 {
            true => (last - first) / allocated,
            false => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at_s: f64, live_bytes: u64) -> Point {
        Point {
            at_s,
            live_bytes,
            low_bytes: live_bytes,
            freed_bytes: 0,
            live_count: 0,
            freed_count: 0,
        }
    }

    #[test]
    fn levels_go_straight_from_reading_to_reading() {
        let points = [
            point(0.0, 10),
            point(3.0, 10),
            point(4.0, 50),
            point(8.0, 10),
        ];
        let window = Window::new(&points, 0.0, 8);
        assert_eq!(window.live, [10., 10., 10., 10., 50., 40., 30., 20., 10.]);
        assert_eq!(window.low, [10., 10., 10., 10., 10., 40., 30., 20., 10.]);
        assert_eq!(window.span_s(), 8.0);
        assert_eq!(Window::new(&points, 4.0, 2).live, [50., 30., 10.]);
    }
}

//! A series → the part of it that has begun to rise after all that was before. Judges nothing.

use super::series::Point;

/// Share of a range above its lowest level up to which a level has fallen back to it.
const FLOOR_SHARE: f64 = 0.1;
/// By how much longer than an earlier peak a rise has to have lasted to be no such peak again.
const OUTLASTS: f64 = 2.0;
/// Share of a rise that is taken for its beginning.
const BEGINNING_SHARE: f64 = 0.05;

/// What a rise has to stand above, and how long it has to last to be more than was there before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Before {
    /// The highest level, but of those from before a fall only what was left of them.
    pub(super) highest_bytes: u64,
    /// Twice as long as a higher level before the fall has lasted; zero without one, seconds.
    pub(super) to_outlast_s: f64,
}

/// What was before a rise. A level that has fallen back to the floor, longer ago than it had been up,
/// says nothing of what comes then: a start that took much and gave it back.
pub(super) fn before(points: &[Point]) -> Option<Before> {
    let highest_of = |points: &[Point]| points.iter().map(|point| point.live_bytes).max();
    let highest_bytes = highest_of(points)?;
    let lowest = points.iter().map(|point| point.low_bytes).min()?;
    let floor = lowest as f64 + FLOOR_SHARE * (highest_bytes - lowest) as f64;
    let is_up = |point: &Point| point.live_bytes as f64 > floor;
    let all = Before {
        highest_bytes,
        to_outlast_s: 0.0,
    };
    let first_up = points.iter().position(is_up);
    let falls = |pair: &[Point]| is_up(&pair[0]) && !is_up(&pair[1]);
    let last_fall = points.windows(2).rposition(falls);
    let (Some(first_up), Some(last_fall), Some(last)) = (first_up, last_fall, points.last()) else {
        return Some(all);
    };
    let since = &points[last_fall + 1..];
    let fell_s = since[0].at_s;
    let up_s = fell_s - points[first_up].at_s;
    match last.at_s - fell_s > up_s {
        true => Some(Before {
            highest_bytes: highest_of(since)?,
            to_outlast_s: OUTLASTS * up_s,
        }),
        false => Some(all),
    }
}

/// The points from where a level has begun to rise, if it stands above all that was before: a forecast is of
/// the rise, not of the calm before it.
pub(super) fn of_rise(points: &[Point]) -> &[Point] {
    let Some((last, lowest)) = points.last().zip(points.iter().map(|p| p.low_bytes).min()) else {
        return points;
    };
    let rise = last.live_bytes.saturating_sub(lowest) as f64;
    let beginning = lowest as f64 + BEGINNING_SHARE * rise;
    let begin = points
        .iter()
        .rposition(|point| point.low_bytes as f64 <= beginning);
    let Some((calm, rising)) = begin.map(|begin| points.split_at(begin)) else {
        return points;
    };
    let highest = calm.iter().map(|point| point.live_bytes).max().unwrap_or(0);
    let later = rising.get(rising.len() / 2..).unwrap_or_default();
    match later.iter().all(|point| point.low_bytes > highest) {
        true => rising,
        false => points,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::series::points;

    #[test]
    fn a_peak_that_was_given_back_long_ago_is_no_measure_and_teeth_are() {
        let peak = points((0..30).map(|at| if (3..7).contains(&at) { 40_000 } else { 1000 }));
        let told = before(&peak).map(|before| (before.highest_bytes, before.to_outlast_s));
        assert_eq!(told, Some((1000, 8.0)));
        let teeth = points((0..55).map(|at| at % 20 * 1000));
        let told = before(&teeth).map(|before| before.highest_bytes);
        assert_eq!(told, Some(19_000));
    }

    #[test]
    fn a_rise_begins_where_the_calm_ends_and_a_tooth_is_none() {
        let late = points((0..90_u64).map(|at| 500 + at.saturating_sub(60) * 1000));
        assert_eq!(of_rise(&late).len(), 29);
        let even = points((0..90).map(|at| at * 1000));
        assert_eq!(of_rise(&even).len(), 86);
        let teeth = points((0..97).map(|at| at % 20 * 1000));
        assert_eq!(of_rise(&teeth).len(), 97);
    }
}

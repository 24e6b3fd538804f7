//! The end of a series → whether what grew has stopped; and whether a site is one block that is made anew,
//! larger each time. Judges nothing else.

use super::series::Point;

/// Rest below which nothing is said to have stopped, seconds: as long as a leak takes to be called one.
const LEAST_REST_S: f64 = 6.5;
/// The same as a share of the time in which it grew: who looks at the end of a test, a little after the work has
/// ended, is told of the leak.
const LEAST_REST_SHARE: f64 = 0.25;
/// By how much a rest has to be longer than any before. Of n waits for what happens at random, the longest is
/// ln n times the mean, and one thrice as long comes with probability 1/n³.
const LONGER: f64 = 3.0;
/// Changes that a site has to have shown: of fewer the longest rest is not known.
const MIN_CHANGES: usize = 4;
/// Times that a block has to have been made anew.
const MIN_RENEWALS: u32 = 2;

/// For how many seconds the level has not moved, if that is much longer than it ever rested before. Readings
/// that were thinned out count as a rest.
pub(super) fn stopped_for_s(points: &[Point]) -> Option<f64> {
    let last = points.last()?;
    let moves = |point: &Point| point.live_bytes != last.live_bytes;
    // The first reading with the level that it has kept since.
    let stopped = points.iter().rposition(moves)? + 1;
    let rest = points.get(stopped..)?;
    let rest_s = last.at_s - rest.first()?.at_s;
    if rest_s < LEAST_REST_S || rest.iter().skip(1).any(|p| p.low_bytes < p.live_bytes) {
        return None;
    }
    let active = points.get(..=stopped)?;
    // What was there before the first change is no rest of what grows.
    let begun = active.windows(2).position(is_change)?;
    let active = active.get(begun..)?;
    let begun_s = active.first()?.at_s;
    let (mut changes, mut longest_s, mut changed_s) = (0, 0.0, begun_s);
    for pair in active.windows(2).filter(|pair| is_change(pair)) {
        longest_s = f64::max(longest_s, pair[1].at_s - changed_s);
        changed_s = pair[1].at_s;
        changes += 1;
    }
    let is_long = rest_s > LONGER * longest_s && rest_s > LEAST_REST_SHARE * (changed_s - begun_s);
    (changes >= MIN_CHANGES && is_long).then_some(rest_s)
}

fn is_change(pair: &[Point]) -> bool {
    pair[0].live_bytes != pair[1].live_bytes
}

/// Whether the site has never held more than one block, and this has been made anew again and again.
pub(super) fn is_one_block(points: &[Point]) -> bool {
    let one = points.iter().all(|point| point.live_count <= 1);
    let last = points.last();
    one && last.is_some_and(|last| last.live_count == 1 && last.freed_count >= MIN_RENEWALS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::series::points;

    /// One block, made anew at every reading.
    fn renewed(levels: impl Iterator<Item = u64>) -> Vec<Point> {
        let renewed = |(freed_count, point)| Point {
            live_count: 1,
            freed_count,
            ..point
        };
        (0..).zip(points(levels)).map(renewed).collect()
    }

    #[test]
    fn a_rest_much_longer_than_any_before_is_a_stop() {
        let stops = points((0..45).map(|at: u64| at.min(30) * 1000));
        assert_eq!(stopped_for_s(&stops), Some(14.0));
        let just_now = points((0..45).map(|at: u64| at.min(37) * 1000));
        assert_eq!(stopped_for_s(&just_now), None);
        let goes_on = points((0..45).map(|at| at * 1000));
        assert_eq!(stopped_for_s(&goes_on), None);
        let in_bursts = points((0..49).map(|at| at / 10 * 1000));
        assert_eq!(stopped_for_s(&in_bursts), None);
        let falls_back = points((0..45).map(|at| if at < 30 { at % 2 } else { 5 }));
        assert_eq!(stopped_for_s(&falls_back), Some(14.0));
    }

    #[test]
    fn a_block_that_is_made_anew_is_told_from_several() {
        assert!(is_one_block(&renewed(0..20)));
        let mut two = renewed(0..20);
        two[7].live_count = 2;
        assert!(!is_one_block(&two));
        assert!(!is_one_block(&renewed(0..2)));
    }
}

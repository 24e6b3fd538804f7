//! Statistics on a series that need no model of it: the Theil–Sen slope and the Mann–Kendall
//! trend test. Knows nothing of verdicts.

use super::series::Point;

/// The Theil–Sen estimate of the slope of the live bytes, bytes per second: the median of the
/// slopes of all pairs of points, so that a few outlying readings do not move it. Absent for
/// fewer than two points. H. Theil, "A rank-invariant method of linear and polynomial regression
/// analysis", 1950; P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau",
/// 1968.
///
/// O(n²): 7,140 pairs for the longest series.
pub(super) fn theil_sen_slope(points: &[Point]) -> Option<f64> {
    if let [first, rest @ ..] = points
        && !rest.is_empty()
        && rest.iter().all(|p| p.live_bytes == first.live_bytes)
    {
        return Some(0.0);
    }
    let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (i, a) in points.iter().enumerate() {
        for b in &points[i + 1..] {
            let span_s = b.at_s - a.at_s;
            if span_s > 0.0 {
                slopes.push((b.live_bytes as f64 - a.live_bytes as f64) / span_s);
            }
        }
    }
    median(&mut slopes)
}

/// The Mann–Kendall statistic of the live bytes, normalised: under "no trend" it is close to
/// standard normal, positive for an upward trend. Zero where nothing can be said (constant, or
/// fewer than two points). H. B. Mann, "Nonparametric tests against trend", 1945; M. G. Kendall,
/// "Rank correlation methods", 1975, for the variance with ties and the continuity correction.
///
/// O(n²), like the slope.
pub(super) fn mann_kendall_z(points: &[Point]) -> f64 {
    let mut score = 0_i64;
    for (i, a) in points.iter().enumerate() {
        for b in &points[i + 1..] {
            score += b.live_bytes.cmp(&a.live_bytes) as i64;
        }
    }
    let variance = score_variance(points);
    if variance <= 0.0 {
        return 0.0;
    }
    (score - score.signum()) as f64 / variance.sqrt()
}

/// Variance of the Mann–Kendall score under "no trend", less what tied readings take from it.
fn score_variance(points: &[Point]) -> f64 {
    let term = |n: usize| {
        let n = n as f64;
        n * (n - 1.0) * (2.0 * n + 5.0)
    };
    let mut values: Vec<u64> = points.iter().map(|p| p.live_bytes).collect();
    values.sort_unstable();
    let ties: f64 = values
        .chunk_by(|a, b| a == b)
        .map(|group| term(group.len()))
        .sum();
    (term(points.len()) - ties) / 18.0
}

fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let odd = values.len() % 2 == 1;
    let middle = values.len() / 2;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn points(live: &[u64]) -> Vec<Point> {
        live.iter()
            .enumerate()
            .map(|(i, live_bytes)| Point {
                at_s: i as f64,
                live_bytes: *live_bytes,
                freed_bytes: 0,
            })
            .collect()
    }

    #[test]
    fn one_wild_reading_does_not_move_the_slope() {
        let mut live: Vec<u64> = (0..50).map(|i| 1000 + i * 10).collect();
        live[25] = 1_000_000;
        let slope = theil_sen_slope(&points(&live)).unwrap();
        assert!((slope - 10.0).abs() < 0.5, "{slope}");
    }

    #[test]
    fn slope_is_the_median_of_all_pairs() {
        // Slopes of the pairs: 1, 1.5, 3, 2, 4, 6.
        let slope = theil_sen_slope(&points(&[0, 1, 3, 9])).unwrap();
        assert!((slope - 2.5).abs() < 1e-9, "{slope}");
        assert_eq!(theil_sen_slope(&points(&[5])), None);
        assert_eq!(theil_sen_slope(&points(&[5, 5, 5])), Some(0.0));
    }

    #[test]
    fn trend_statistic_agrees_with_the_formula_worked_by_hand() {
        // Score 10 of 10 pairs, variance 5·4·15/18 = 16.67.
        let z = mann_kendall_z(&points(&[1, 2, 3, 4, 5]));
        assert!((z - 9.0 / (300.0_f64 / 18.0).sqrt()).abs() < 1e-9, "{z}");
        // Score 6, one tie of three takes 3·2·11/18 from the variance.
        let z = mann_kendall_z(&points(&[1, 1, 1, 2, 3]));
        assert!((z - 6.0 / (234.0_f64 / 18.0).sqrt()).abs() < 1e-9, "{z}");
    }

    #[test]
    fn constant_and_empty_series_have_no_trend() {
        assert_eq!(mann_kendall_z(&points(&[7; 30])), 0.0);
        assert_eq!(mann_kendall_z(&[]), 0.0);
        assert!(mann_kendall_z(&points(&[5, 4, 3, 2, 1])) < 0.0);
    }
}

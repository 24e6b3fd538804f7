//! Statistics on equally spaced levels that need no model of them: the Theil–Sen slope with its
//! confidence interval and the Mann–Kendall trend test. Knows nothing of verdicts.

/// Two-sided 5% point of the standard normal distribution.
const Z_95: f64 = 1.960;
/// Levels below which autocorrelation cannot be told from chance.
const MIN_FOR_AUTOCORRELATION: usize = 10;

/// A slope with the interval in which the true one lies with 95% confidence, per step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Slope {
    /// The estimate.
    pub(super) value: f64,
    /// Lower end.
    pub(super) low: f64,
    /// Upper end.
    pub(super) high: f64,
}

impl Slope {
    /// That of what rests.
    pub(super) const NONE: Self = Self {
        value: 0.0,
        low: 0.0,
        high: 0.0,
    };
}

/// A trend test.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Trend {
    /// Pairs that rise less pairs that fall.
    score: f64,
    /// Variance of the score if there is no trend.
    variance: f64,
}

impl Trend {
    /// The normalised statistic: under "no trend" close to standard normal, positive for an upward
    /// trend; zero where nothing can be said. With the correction for continuity (Kendall 1975).
    pub(super) fn z(&self) -> f64 {
        match self.variance > 0.0 && self.score != 0.0 {
            true => (self.score - self.score.signum()) / self.variance.sqrt(),
            false => 0.0,
        }
    }
}

/// The Mann–Kendall test (H. B. Mann, "Nonparametric tests against trend", 1945; M. G. Kendall,
/// "Rank correlation methods", 1975, for ties). Levels that depend on those before them show a
/// trend where there is none, so the variance is widened by the autocorrelation of the ranks (K. H.
/// Hamed, A. R. Rao, "A modified Mann–Kendall trend test for autocorrelated data", 1998); `slope`
/// is the trend that is taken out before. O(n²).
pub(super) fn mann_kendall(levels: &[f64], slope: f64) -> Trend {
    let mut score = 0.0;
    for (i, a) in levels.iter().enumerate() {
        for b in &levels[i + 1..] {
            score += f64::from(b.total_cmp(a) as i8);
        }
    }
    Trend {
        score,
        variance: tied_variance(levels) * autocorrelation_factor(levels, slope),
    }
}

/// The Theil–Sen estimate of the slope, the median of the slopes of all pairs (H. Theil, 1950), and
/// Sen's confidence interval from the variance of the trend's score (P. K. Sen, "Estimates of the
/// regression coefficient based on Kendall's tau", 1968), widened for autocorrelation like the
/// test. Absent for fewer than three levels. O(n² log n).
pub(super) fn theil_sen(levels: &[f64]) -> Option<Slope> {
    if levels.len() < 3 {
        return None;
    }
    let mut slopes = Vec::with_capacity(levels.len() * (levels.len() - 1) / 2);
    for (i, a) in levels.iter().enumerate() {
        for (j, b) in levels.iter().enumerate().skip(i + 1) {
            slopes.push((b - a) / (j - i) as f64);
        }
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let last = slopes.len() - 1;
    let value = f64::midpoint(slopes[last / 2], slopes[last.div_ceil(2)]);
    let half_width = Z_95 * mann_kendall(levels, value).variance.sqrt() / 2.0;
    let middle = slopes.len() as f64 / 2.0;
    // Sen counts slopes from 1: from the M1-th to the one behind the M2-th.
    let low = ((middle - half_width).floor() - 1.0).max(0.0) as usize;
    let high = (middle + half_width).ceil() as usize;
    Some(Slope {
        value,
        low: slopes[low.min(last)],
        high: slopes[high.min(last)],
    })
}

/// Two-sided 5% point of Student's t distribution with so many degrees of freedom, from 3 on within 1%
/// (the expansion about the normal point: M. Abramowitz, I. A. Stegun, "Handbook of Mathematical
/// Functions", 1964, 26.7.5).
pub(super) fn student_t_95(freedom: f64) -> f64 {
    let z = Z_95;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

/// Variance of the score if there is no trend, less what tied levels take from it.
fn tied_variance(levels: &[f64]) -> f64 {
    let term = |n: usize| {
        let n = n as f64;
        n * (n - 1.0) * (2.0 * n + 5.0)
    };
    let mut sorted = levels.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let ties: f64 = sorted
        .chunk_by(|a, b| a == b)
        .map(|group| term(group.len()))
        .sum();
    (term(levels.len()) - ties) / 18.0
}

/// By how much autocorrelation widens the variance (Hamed & Rao, equation 11); never below 1, which
/// would make alternating levels more certain than independent ones.
fn autocorrelation_factor(levels: &[f64], slope: f64) -> f64 {
    let n = levels.len();
    if n < MIN_FOR_AUTOCORRELATION {
        return 1.0;
    }
    let residuals: Vec<f64> = levels
        .iter()
        .enumerate()
        .map(|(i, level)| level - slope * i as f64)
        .collect();
    let ranks = ranks(&residuals);
    let mean = (n as f64 - 1.0) / 2.0;
    let product = |lag: usize| -> f64 {
        let pairs = ranks.iter().zip(&ranks[lag..]);
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let power = product(0);
    if power <= 0.0 {
        return 1.0;
    }
    let n_real = n as f64;
    let chance = Z_95 / n_real.sqrt();
    // Of long lags too few pairs are left to say anything.
    let sum: f64 = (1..=n / 4)
        .map(|lag| (lag as f64, product(lag) / power))
        .filter(|(_, correlation)| correlation.abs() > chance)
        .map(|(lag, correlation)| {
            (n_real - lag) * (n_real - lag - 1.0) * (n_real - lag - 2.0) * correlation
        })
        .sum();
    (1.0 + 2.0 * sum / (n_real * (n_real - 1.0) * (n_real - 2.0))).max(1.0)
}

/// Rank of each value from 0; tied ones share the middle of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut begin = 0;
    for group in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = begin as f64 + (group.len() as f64 - 1.0) / 2.0;
        for index in group {
            ranks[*index] = rank;
        }
        begin += group.len();
    }
    ranks
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn z(levels: &[f64]) -> f64 {
        mann_kendall(levels, 0.0).z()
    }

    /// Repeatable, evenly spread over 0 to 1.
    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64
        })
    }

    #[test]
    fn one_wild_level_does_not_move_the_slope() {
        let mut levels: Vec<f64> = (0..50).map(|i| 1000.0 + f64::from(i) * 10.0).collect();
        levels[25] = 1e6;
        let slope = theil_sen(&levels).unwrap();
        assert!((slope.value - 10.0).abs() < 0.5, "{slope:?}");
    }

    #[test]
    fn slope_is_the_median_of_all_pairs() {
        // Slopes of the pairs: 1, 1.5, 3, 2, 4, 6.
        let slope = theil_sen(&[0.0, 1.0, 3.0, 9.0]).unwrap();
        assert!((slope.value - 2.5).abs() < 1e-9, "{slope:?}");
        assert_eq!(theil_sen(&[5.0, 6.0]), None);
        let flat = theil_sen(&[5.0, 5.0, 5.0]).unwrap();
        assert_eq!((flat.low, flat.value, flat.high), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_interval_covers_the_true_slope_in_nineteen_of_twenty() {
        let runs = 2000;
        let covered = (0..runs).filter(|seed| {
            let noisy = noise(seed + 1).take(30).enumerate();
            let levels: Vec<f64> = noisy.map(|(i, e)| 0.05 * i as f64 + e).collect();
            let slope = theil_sen(&levels).unwrap();
            slope.low <= 0.05 && 0.05 <= slope.high
        });
        let covered = covered.count() as f64 / runs as f64;
        assert!((0.94..0.98).contains(&covered), "{covered}");
    }

    #[test]
    fn the_interval_of_what_falls_is_that_of_what_rises_turned_round() {
        for seed in 1..50 {
            let rising: Vec<f64> = noise(seed).take(12).collect();
            let falling: Vec<f64> = rising.iter().map(|level| -level).collect();
            let (up, down) = (theil_sen(&rising).unwrap(), theil_sen(&falling).unwrap());
            assert_eq!((up.low, up.high), (-down.high, -down.low));
        }
        // Ten levels: 45 slopes, C = 1.96 √125 = 21.9, from the 11th to the 35th.
        let levels: Vec<f64> = noise(7).take(10).collect();
        let mut slopes = Vec::new();
        for (i, a) in levels.iter().enumerate() {
            for (j, b) in levels.iter().enumerate().skip(i + 1) {
                slopes.push((b - a) / (j - i) as f64);
            }
        }
        slopes.sort_unstable_by(f64::total_cmp);
        let slope = theil_sen(&levels).unwrap();
        assert_eq!((slope.low, slope.high), (slopes[10], slopes[34]));
    }

    #[test]
    fn students_t_is_that_of_the_tables() {
        for (freedom, t) in [(3.0, 3.182), (5.0, 2.571), (10.0, 2.228), (30.0, 2.042)] {
            let found = student_t_95(freedom);
            assert!((found / t - 1.0).abs() < 0.01, "{freedom}: {found}");
        }
    }

    #[test]
    fn trend_statistic_agrees_with_the_formula_worked_by_hand() {
        // Score 10 of 10 pairs, variance 5·4·15/18 = 16.67.
        let rising = z(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((rising - 9.0 / (300.0_f64 / 18.0).sqrt()).abs() < 1e-9);
        // Score 6, one tie of three takes 3·2·11/18 from the variance.
        let tied = z(&[1.0, 1.0, 1.0, 2.0, 3.0]);
        assert!((tied - 6.0 / (234.0_f64 / 18.0).sqrt()).abs() < 1e-9);
    }

    #[test]
    fn constant_and_empty_series_have_no_trend() {
        assert_eq!(z(&[7.0; 30]), 0.0);
        assert_eq!(z(&[]), 0.0);
        assert!(z(&[5.0, 4.0, 3.0, 2.0, 1.0]) < 0.0);
    }

    #[test]
    fn levels_that_hang_on_one_another_show_a_trend_less_often_than_untreated() {
        let runs = 1000;
        let mut found = [0, 0];
        for seed in 0..runs {
            let mut level = 0.0;
            let walk = noise(seed + 1).take(32).map(|e| {
                level = 0.7 * level + e - 0.5;
                level
            });
            let levels: Vec<f64> = walk.collect();
            let slope = theil_sen(&levels).unwrap().value;
            let trend = mann_kendall(&levels, slope);
            let untreated = Trend {
                variance: tied_variance(&levels),
                ..trend
            };
            found[0] += usize::from(untreated.z().abs() > 2.326);
            found[1] += usize::from(trend.z().abs() > 2.326);
        }
        assert!(found[1] * 3 < found[0] * 2, "{found:?} of {runs}");
    }
}

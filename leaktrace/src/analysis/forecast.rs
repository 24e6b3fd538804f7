//! A level that rises toward a bound → how long until it is reached, as an interval. Pure.

use super::late;
use super::series::Series;
use super::trend::{Slope, theil_sen};
use super::window::{MAX_STEPS, Window};

/// Readings below which nothing is forecast.
const MIN_READINGS: usize = 8;
/// By how much a forecast is wider than what the rates say: levels are read at intervals, and the
/// kernel gives a little back before it refuses.
const MARGIN: f64 = 0.1;
/// Stretches of the time whose rates are compared, and Student's t for them (two-sided 95%, one degree
/// of freedom fewer).
const STRETCHES: usize = 6;
const STUDENT_T: f64 = 2.571;
/// The future is at least this part of a stretch: what is nearer, no rate says.
const LEAST_FUTURE: f64 = 0.25;

/// Seconds until so many bytes more are used, from and to; only for levels that rise now beyond
/// doubt. What was before a rise that stands above it says nothing of when it ends.
///
/// Two things can be wrong with a forecast. The slope is known only so well: Sen's interval of the
/// later half, widened by that of the whole where that rises too. And the work goes on as unevenly
/// as it did: rates of stretches of the past scatter, and the mean of those to come lies around theirs
/// in Student's prediction interval (W. Q. Meeker, G. J. Hahn, L. A. Escobar, "Statistical
/// Intervals", 2017, 4.7). The wider one counts.
pub(super) fn seconds_until(series: &Series, left_bytes: f64) -> Option<[f64; 2]> {
    let all = series.points();
    let points = late::of_rise(all);
    let (first, last) = (points.first()?, points.last()?);
    // Without a calm before it, readings that have left no point count too.
    let readings = match points.len() == all.len() {
        true => series.readings() as usize,
        false => points.len(),
    };
    if readings < MIN_READINGS || last.at_s <= first.at_s {
        return None;
    }
    let intervals = readings - 1;
    let slope = |start_s: f64, steps: usize| -> Option<Slope> {
        let window = Window::new(points, start_s, steps.clamp(2, MAX_STEPS));
        let slope = theil_sen(&window.live)?;
        Some(Slope {
            value: slope.value / window.step_s,
            low: slope.low / window.step_s,
            high: slope.high / window.step_s,
        })
    };
    let late = slope(f64::midpoint(first.at_s, last.at_s), intervals / 2)?;
    let whole = slope(first.at_s, intervals)?;
    if late.low <= 0.0 {
        return None;
    }
    let (mut low, mut high) = match whole.low > 0.0 {
        true => (late.low.min(whole.low), late.high.max(whole.high)),
        false => (late.low, late.high),
    };
    let stretches = Window::new(points, first.at_s, STRETCHES);
    if let Some([from, to]) = rates_to_come(&stretches, left_bytes) {
        low = low.min(from);
        high = high.max(to);
    }
    // So uneven that it may as well never get there.
    if low <= 0.0 {
        return None;
    }
    Some([
        left_bytes / high * (1.0 - MARGIN),
        left_bytes / low * (1.0 + MARGIN),
    ])
}

/// Between what the mean rate will be until so much more is used, bytes a second; absent for what
/// does not rise.
fn rates_to_come(stretches: &Window, left_bytes: f64) -> Option<[f64; 2]> {
    let rates: Vec<f64> = stretches
        .live
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) / stretches.step_s)
        .collect();
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    if mean <= 0.0 {
        return None;
    }
    let squares: f64 = rates.iter().map(|rate| (rate - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    let future = (left_bytes / mean / stretches.step_s).max(LEAST_FUTURE);
    let error = STUDENT_T * deviation * (1.0 / count + 1.0 / future).sqrt();
    Some([mean - error, mean + error])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshot::Totals;

    /// A level that rises by these amounts a second.
    fn series(rates: impl Iterator<Item = u64>) -> Series {
        let mut series = Series::default();
        let mut live_bytes = 0;
        for (second, rate) in rates.enumerate() {
            live_bytes += rate;
            let totals = Totals {
                live_bytes,
                ..Totals::default()
            };
            series.push(Duration::from_secs(second as u64), &totals);
        }
        series
    }

    #[test]
    fn an_even_rise_is_forecast_narrowly_and_an_uneven_one_widely() {
        let even = seconds_until(&series((0..30).map(|_| 1000)), 20_000.0).unwrap();
        assert!(even[0] <= 20.0 && 20.0 <= even[1], "{even:?}");
        assert!(even[1] - even[0] < 5.0, "{even:?}");
        let rates = (0..30).map(|second| if second / 5 % 2 == 0 { 700 } else { 1300 });
        let uneven = seconds_until(&series(rates), 20_000.0).unwrap();
        assert!(uneven[1] - uneven[0] > 10.0, "{uneven:?}");
    }

    #[test]
    fn a_rise_that_changes_its_rate_is_covered() {
        // It has slowed down by a fifth in the last third, and goes on like that.
        let rates = (0..30).map(|second| if second < 20 { 1000 } else { 800 });
        let forecast = seconds_until(&series(rates), 20_000.0).unwrap();
        assert!(forecast[0] <= 25.0 && 25.0 <= forecast[1], "{forecast:?}");
    }

    #[test]
    fn a_rise_after_a_calm_is_forecast_from_its_first_seconds_to_the_limit() {
        for seconds in [75, 90, 119] {
            let rates = (0..=seconds).map(|second| if second < 60 { 0 } else { 1000 });
            let left = f64::from(130 - seconds) * 1000.0;
            let forecast = seconds_until(&series(rates), left).unwrap();
            let truth = f64::from(130 - seconds);
            assert!(forecast[0] <= truth && truth <= forecast[1], "{forecast:?}");
            assert!(forecast[1] < 2.0 * truth, "{forecast:?} of {truth}");
        }
    }

    #[test]
    fn a_tooth_is_no_rise_to_the_limit() {
        let mut series = Series::default();
        for second in 0..97 {
            let totals = Totals {
                live_bytes: second % 20 * 1000,
                ..Totals::default()
            };
            series.push(Duration::from_secs(second), &totals);
        }
        assert_eq!(seconds_until(&series, 5000.0), None);
    }

    #[test]
    fn what_has_come_to_rest_is_not_forecast() {
        let rates = (0..30).map(|second| if second < 10 { 1000 } else { 0 });
        assert_eq!(seconds_until(&series(rates), 20_000.0), None);
        assert_eq!(seconds_until(&series((0..5).map(|_| 1000)), 1e6), None);
    }
}

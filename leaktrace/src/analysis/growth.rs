//! A site's series and cohorts → how fast it grows, the verdict, and why. Pure; the statistics are
//! in `trend`, the survival of blocks in `survival`.

use super::cohorts::Cohorts;
use super::late::{self, Before};
use super::reason::{Finding, Reason, Steps};
use super::records::may_be_records;
use super::series::{Point, Series};
use super::stopped::{is_one_block, stopped_for_s};
use super::survival::{Kept, Survival};
use super::trend::{Slope, mann_kendall, theil_sen};
use super::verdict::Verdict;
use super::window::{MAX_STEPS, Window};

/// Readings below which there is no slope.
const MIN_READINGS_FOR_SLOPE: u32 = 3;
/// Readings below which there is no verdict: of five, not even five that rise are a trend at the level
/// of [`SIGNIFICANT_Z`].
const MIN_READINGS_FOR_VERDICT: u32 = 6;
/// Readings below which nothing is called a leak: a cache that fills, sessions that have not ended yet
/// and a batch look the same until one of the intervals is the last in which they grow. When none of 14
/// was, fewer than one in five is such an end, with 95% confidence (the rule of three: J. A. Hanley, A.
/// Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983).
const MIN_READINGS_FOR_LEAK: u32 = 15;
/// Observation below which nothing is called a leak, however often it was read: readings that come faster
/// are not more of them in which something could have ended. It is what so many take at two a second, less
/// the half second by which one of them may be late.
const MIN_SPAN_FOR_LEAK_S: f64 = 6.5;
/// Observation below which there is no verdict: shorter ones see start-up work only.
const MIN_SPAN_S: f64 = 2.0;
/// One-sided 1% point of the standard normal distribution: a trend over the whole series.
const SIGNIFICANT_Z: f64 = 2.326;
/// One-sided 5% point: the trend goes on in the later half, which has fewer steps.
const CONTINUES_Z: f64 = 1.645;
/// One-sided 0.1% point: a second look must not bring as many false trends as the first.
const BEYOND_DOUBT_Z: f64 = 3.090;
/// Share of the overall rate, and of the overall rise, below which the later half counts as a
/// plateau.
const PLATEAU_SHARE: f64 = 0.1;
/// Freed share of what was allocated from which on levels can come down again.
const FREED_SHARE: f64 = 0.1;
/// Rise of each third of the time as a share of the third before it, below which it slows down; and
/// the steps from which on that can be told.
const SLOWING_SHARE: f64 = 0.75;
const SLOWING_STEPS: usize = 9;
/// Parts of the later half that are looked at one by one, and how many of them a leak grows in.
const PARTS: usize = 4;
const GROWING_PARTS: usize = 3;
/// Steps that the reason counts.
const REASON_STEPS: usize = 12;
/// Points that the last part of a long calm has to have before it is looked at alone.
const MIN_LATE_POINTS: usize = 8;
/// Parts of the time of which the last is looked at alone.
const LATE_PARTS: [f64; 7] = [4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// How a site grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Slope of the live bytes; absent while too little was seen.
    pub bytes_per_s: Option<f64>,
    /// Where the true slope lies with 95% confidence: from, to.
    pub interval_bytes_per_s: Option<[f64; 2]>,
    /// What the readings say.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

impl Growth {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        bytes_per_s: None,
        interval_bytes_per_s: None,
        verdict: Verdict::Unknown,
        reason: Reason::NOTHING_SEEN,
    };

    /// The reason in words, with the rate.
    pub fn words(&self) -> String {
        self.reason.words(self.verdict, self.rate())
    }

    fn rate(&self) -> Option<(f64, [f64; 2])> {
        self.bytes_per_s.zip(self.interval_bytes_per_s)
    }
}

/// Which way the levels go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up(Finding),
    Still,
    Down,
}

/// Slope, verdict and reason of a site. Cohorts are absent where births are not counted.
pub(super) fn judge(series: &Series, cohorts: Option<&Cohorts>) -> Growth {
    let points = series.points();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Growth::UNKNOWN;
    };
    let intervals = series.readings().saturating_sub(1) as usize;
    let span_s = last.at_s - first.at_s;
    let window = |steps: usize| Window::new(points, first.at_s, intervals.clamp(1, steps));
    let steps = Steps::count(&window(REASON_STEPS));
    let reason = |finding| Reason {
        steps,
        span_s,
        finding,
    };
    if series.readings() < MIN_READINGS_FOR_SLOPE {
        return Growth {
            reason: reason(Finding::TooLittle),
            ..Growth::UNKNOWN
        };
    }
    let whole = window(MAX_STEPS);
    let (direction, late) = direction(&whole, points);
    // What was born before says nothing of what has begun since, unless that may go the same way yet.
    let tells = |cohorts: &&Cohorts| match (&late, direction) {
        (Some(late), Direction::Up(Finding::NothingFreed)) => {
            cohorts.tells_of(last.at_s - late.span_s(), late.span_s())
        }
        _ => true,
    };
    let survival = cohorts
        .filter(tells)
        .map_or(Survival::Unclear, Cohorts::survival);
    let (verdict, finding) = if series.readings() < MIN_READINGS_FOR_VERDICT || span_s < MIN_SPAN_S
    {
        (Verdict::Unknown, Finding::TooLittle)
    } else {
        match verdict(direction, survival) {
            (Verdict::Leaking, _) if is_early(series.readings(), span_s) => {
                (Verdict::Unknown, Finding::TooEarly)
            }
            (Verdict::Leaking, _) if may_be_records(points) => {
                (Verdict::Growing, Finding::FewSteps)
            }
            judged => judged,
        }
    };
    // What has begun late is judged by that time.
    let late = late.filter(|_| matches!(verdict, Verdict::Leaking | Verdict::Growing));
    let slope = slope(late.as_ref().unwrap_or(&whole), verdict, survival);
    // No trend yet, and yet the slope is not zero beyond doubt, or may be much: a few readings more will
    // tell.
    let highest = whole.live.iter().copied().fold(0.0, f64::max);
    let moves = slope.is_some_and(|slope| {
        let is_much = slope.value.abs() * whole.span_s() > PLATEAU_SHARE * highest;
        slope.low > 0.0 || slope.high < 0.0 || is_much
    });
    let (verdict, finding) = match verdict {
        Verdict::Steady if moves && is_early(series.readings(), span_s) => {
            (Verdict::Unknown, Finding::TooEarly)
        }
        Verdict::Steady => end_of_steady(&whole).unwrap_or((verdict, finding)),
        Verdict::Leaking | Verdict::Growing => match stopped_for_s(points) {
            Some(rest_s) => {
                let rest_s = rest_s.round() as u32;
                (Verdict::Steady, Finding::Stopped { rest_s })
            }
            None if verdict == Verdict::Growing && is_one_block(points) => {
                (verdict, Finding::OneBlock)
            }
            None => (verdict, finding),
        },
        _ => (verdict, finding),
    };
    let slope = match finding {
        Finding::Stopped { .. } => Some(Slope::NONE),
        _ => slope,
    };
    let reason = |finding| match &late {
        Some(late) => {
            let start_s = last.at_s - late.span_s();
            let steps = late.live.len().saturating_sub(1).clamp(1, REASON_STEPS);
            Reason {
                steps: Steps::count(&Window::new(points, start_s, steps)),
                span_s: late.span_s(),
                finding,
            }
        }
        None => reason(finding),
    };
    Growth {
        bytes_per_s: slope.map(|slope| slope.value),
        interval_bytes_per_s: slope.map(|slope| [slope.low, slope.high]),
        verdict,
        reason: reason(finding),
    }
}

/// Whether a leak and what will end look the same yet.
fn is_early(readings: u32, span_s: f64) -> bool {
    readings < MIN_READINGS_FOR_LEAK || span_s < MIN_SPAN_FOR_LEAK_S
}

/// What is said of a site at rest whose later half moves beyond any doubt, by much or evenly, which what comes to
/// rest does not: it has no trend over the whole time because of what was before.
fn end_of_steady(whole: &Window) -> Option<(Verdict, Finding)> {
    let later = at_rest(whole);
    let slope = theil_sen(&later.live)?;
    let z = mann_kendall(&later.live, slope.value).z();
    let highest = later.live.iter().copied().fold(0.0, f64::max);
    let is_much = later.rise().abs() > PLATEAU_SHARE * highest;
    match z.abs() > BEYOND_DOUBT_Z && (is_much || !slows_down(&later)) {
        true if slope.low > 0.0 => Some((Verdict::Growing, Finding::Late)),
        true if slope.high < 0.0 => Some((Verdict::Shrinking, Finding::Still)),
        _ => None,
    }
}

/// Levels say which way it goes, cohorts whether that stays.
fn verdict(direction: Direction, survival: Survival) -> (Verdict, Finding) {
    match (direction, survival) {
        (_, Survival::Kept(kept)) => (Verdict::Leaking, kept_finding(kept)),
        (Direction::Up(_), Survival::Filled) => (Verdict::Growing, Finding::Filled),
        (Direction::Up(_), Survival::Passing) => (Verdict::Growing, Finding::Passing),
        (Direction::Up(Finding::NothingFreed), Survival::Unclear) => {
            (Verdict::Leaking, Finding::NothingFreed)
        }
        (Direction::Up(finding), Survival::Unclear) => (Verdict::Growing, finding),
        (Direction::Still, _) => (Verdict::Steady, Finding::Still),
        (Direction::Down, _) => (Verdict::Shrinking, Finding::Still),
    }
}

fn kept_finding(kept: Kept) -> Finding {
    Finding::Kept {
        percent: (100.0 * kept.share).round() as u32,
        age_s: kept.age_s.round() as u32,
    }
}

/// What has come to rest is said to grow by what it grows by now, not by how it got there; and a
/// leak whose levels drown in what comes and goes by what stays of it.
fn slope(whole: &Window, verdict: Verdict, survival: Survival) -> Option<Slope> {
    let judged = match verdict {
        Verdict::Steady => at_rest(whole),
        _ => whole.clone(),
    };
    let per_step = theil_sen(&judged.live)?;
    let per_s = Slope {
        value: per_step.value / judged.step_s,
        low: per_step.low / judged.step_s,
        high: per_step.high / judged.step_s,
    };
    Some(match survival {
        Survival::Kept(kept) if per_s.low <= 0.0 => kept_slope(&kept),
        _ => per_s,
    })
}

/// What has stayed of a second of births. Blocks of all times have, so the rate is above zero: where Student's
/// interval reaches down to it, that of the logarithm holds (W. Q. Meeker, L. A. Escobar, "Statistical
/// Methods for Reliability Data", 1998, 7.3).
fn kept_slope(kept: &Kept) -> Slope {
    let (value, error) = (kept.bytes_per_s, kept.error_bytes_per_s);
    let (low, high) = match error < value {
        true => (value - error, value + error),
        false => {
            let factor = (error / value).exp();
            (value / factor, value * factor)
        }
    };
    Slope { value, low, high }
}

/// Which way the levels go, and the last part of the time if that is what says so: of a site that was calm
/// for long, or of which all was freed for long.
fn direction(whole: &Window, points: &[Point]) -> (Direction, Option<Window>) {
    let judged = trend(whole);
    if !matches!(
        judged,
        Direction::Still | Direction::Up(Finding::FreedInPart)
    ) {
        return (judged, None);
    }
    match (rise_after_calm(whole, points), judged) {
        (Some((Finding::NothingFreed, late)), _) => {
            (Direction::Up(Finding::NothingFreed), Some(late))
        }
        (Some((_, late)), Direction::Still) => (Direction::Up(Finding::Late), Some(late)),
        _ => (judged, None),
    }
}

fn trend(window: &Window) -> Direction {
    let slope = theil_sen(&window.live).map_or(0.0, |slope| slope.value);
    let z = mann_kendall(&window.live, slope).z();
    let later = later_half(window);
    if z.abs() <= SIGNIFICANT_Z || !continues(window, &later, z.signum()) {
        Direction::Still
    } else if z < 0.0 {
        Direction::Down
    } else if window.freed_share() >= FREED_SHARE {
        Direction::Up(Finding::FreedInPart)
    } else if slows_down(window) {
        Direction::Up(Finding::Filled)
    } else if grows_throughout(&later) {
        Direction::Up(Finding::NothingFreed)
    } else {
        Direction::Up(Finding::FewSteps)
    }
}

/// What has come after a long calm, from its first reading on, if it rises above all that was before, and
/// how: a leak that has just begun. The trend of the whole sees that only when it is as long as the calm.
fn rise_after_calm(whole: &Window, points: &[Point]) -> Option<(Finding, Window)> {
    LATE_PARTS.into_iter().find_map(|part| {
        let (begin, to_outlast_s) = begin_of_rise(whole, points, whole.span_s() / part)?;
        let late = points.get(begin..)?;
        let steps = late.len().saturating_sub(1).clamp(1, MAX_STEPS);
        let window = Window::new(points, late.first()?.at_s, steps);
        let Direction::Up(finding) = trend(&window) else {
            return None;
        };
        // As few readings say as little here as at the start; and a peak that was given back may come again.
        let readings = u32::try_from(late.len()).unwrap_or(u32::MAX);
        let is_early = is_early(readings, window.span_s()) || window.span_s() < to_outlast_s;
        Some(match finding {
            Finding::NothingFreed if is_early => (Finding::Late, window),
            finding => (finding, window),
        })
    })
}

/// The last point that is not above all that was before the last so many seconds, if the later half of
/// these is; and how long a rise has to last from there.
fn begin_of_rise(whole: &Window, points: &[Point], late_s: f64) -> Option<(usize, f64)> {
    let start_s = points.last()?.at_s - late_s;
    let begin = points.partition_point(|point| point.at_s < start_s);
    let (before, late) = points.split_at(begin);
    if late.len() < MIN_LATE_POINTS || late_s < MIN_SPAN_S {
        return None;
    }
    let window = Window::new(points, start_s, late.len().min(MAX_STEPS));
    let Before {
        highest_bytes: highest,
        to_outlast_s,
    } = late::before(before)?;
    let lows = later_half(&window).low.into_iter();
    // After a peak that was given back, the rate of the whole says nothing.
    let is_faster = window.rise() * whole.span_s() > whole.rise() * window.span_s();
    let is_above =
        lows.fold(f64::INFINITY, f64::min) > highest as f64 && (is_faster || to_outlast_s > 0.0);
    let rise = late.iter().rposition(|point| point.low_bytes <= highest);
    is_above.then_some((begin + rise.unwrap_or(0), to_outlast_s))
}

/// The later half of the time, and at least as many levels as a verdict takes.
fn later_half(window: &Window) -> Window {
    let levels = window.live.len();
    window.from((levels / 2).min(levels.saturating_sub(MIN_READINGS_FOR_VERDICT as usize)))
}

/// The later half of the time, in as many levels as a slope takes.
fn at_rest(window: &Window) -> Window {
    let levels = window.live.len();
    window.from((levels / 2).min(levels.saturating_sub(MIN_READINGS_FOR_SLOPE as usize)))
}

/// Whether the later half still moves in this direction, which a cache that has filled does not.
/// Either the half has a trend of its own, or it is a staircase: it moved, and never the other
/// way, which is how a leak looks that comes in bursts.
fn continues(whole: &Window, later: &Window, direction: f64) -> bool {
    let (late_rise, whole_rise) = (direction * later.rise(), direction * whole.rise());
    if late_rise <= 0.0 || late_rise * whole.span_s() < PLATEAU_SHARE * whole_rise * later.span_s()
    {
        return false;
    }
    // The teeth of a sawtooth are trends, but memory falls back to where it was. That takes
    // frees; where there are next to none, a leak may have begun after a long calm.
    let floor = |window: &Window| {
        let levels = window.low.iter().map(|level| direction * level);
        levels.fold(f64::INFINITY, f64::min)
    };
    if later.freed_share() >= FREED_SHARE
        && floor(later) - floor(whole) < PLATEAU_SHARE * whole_rise
    {
        return false;
    }
    let never_back = later
        .live
        .windows(2)
        .all(|pair| direction * pair[1] >= direction * pair[0]);
    never_back || direction * mann_kendall(&later.live, 0.0).z() > CONTINUES_Z
}

/// Whether each third of the time brings clearly less than the one before: what fills up.
fn slows_down(window: &Window) -> bool {
    let steps = window.live.len().saturating_sub(1);
    let level = |third: usize| window.live.get(third * steps / 3).copied().unwrap_or(0.0);
    let rise = |third: usize| level(third + 1) - level(third);
    steps >= SLOWING_STEPS && rise(1) < SLOWING_SHARE * rise(0) && rise(2) < SLOWING_SHARE * rise(1)
}

/// Whether most parts of the later half, equally long in time, end higher than they began. One
/// big step fails this; it does not depend on how often the site was read.
fn grows_throughout(later: &Window) -> bool {
    let steps = later.live.len().saturating_sub(1);
    let level = |part: usize| later.live.get(part * steps / PARTS);
    let growing = (0..PARTS).filter(|part| level(part + 1) > level(*part));
    growing.count() >= GROWING_PARTS
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;

//! A series → how fast the site grows, and the verdict. Pure; its statistics are in `trend`.

use super::series::Point;
use super::trend::{mann_kendall_z, theil_sen_slope};
use super::verdict::Verdict;

/// Points below which there is no slope.
const MIN_POINTS_FOR_SLOPE: usize = 3;
/// Points below which there is no verdict.
const MIN_POINTS_FOR_VERDICT: usize = 5;
/// Observation below which there is no verdict: shorter ones see start-up work only.
const MIN_SPAN_S: f64 = 2.0;
/// One-sided 1% point of the standard normal distribution: a trend over the whole series.
const SIGNIFICANT_Z: f64 = 2.326;
/// One-sided 5% point: the trend goes on in the later half, which has fewer points.
const CONTINUES_Z: f64 = 1.645;
/// Share of the overall rate, and of the overall rise, below which the later half counts as a
/// plateau.
const PLATEAU_SHARE: f64 = 0.1;
/// Freed share of what was allocated from which on a growing site is not called leaking.
const LEAK_FREED_SHARE: f64 = 0.1;
/// Parts of the later half that are looked at one by one, and how many of them a leak grows in.
const PARTS: usize = 4;
const GROWING_PARTS: usize = 3;

/// How a site grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Slope of the live bytes; absent while too little was seen.
    pub bytes_per_s: Option<f64>,
    /// What the readings say.
    pub verdict: Verdict,
}

impl Growth {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        bytes_per_s: None,
        verdict: Verdict::Unknown,
    };
}

/// Slope and verdict of a series.
pub(super) fn judge(points: &[Point]) -> Growth {
    if points.len() < MIN_POINTS_FOR_SLOPE {
        return Growth::UNKNOWN;
    }
    let verdict = verdict(points);
    // What has come to rest is said to grow by what it grows by now, not by how it got there.
    let judged = match verdict {
        Verdict::Steady => later_half(points),
        _ => points,
    };
    Growth {
        bytes_per_s: theil_sen_slope(judged),
        verdict,
    }
}

fn verdict(points: &[Point]) -> Verdict {
    let [first, .., last] = points else {
        return Verdict::Unknown;
    };
    if points.len() < MIN_POINTS_FOR_VERDICT || last.at_s - first.at_s < MIN_SPAN_S {
        return Verdict::Unknown;
    }
    let z = mann_kendall_z(points);
    let later = later_half(points);
    if z.abs() <= SIGNIFICANT_Z || !continues(points, later, z.signum()) {
        Verdict::Steady
    } else if z < 0.0 {
        Verdict::Shrinking
    } else if grows_throughout(later) && !falls_back(points) {
        Verdict::Leaking
    } else {
        Verdict::Growing
    }
}

/// The points of the later half of the time, and at least as many as a verdict takes.
fn later_half(points: &[Point]) -> &[Point] {
    let [first, .., last] = points else {
        return points;
    };
    let middle_s = f64::midpoint(first.at_s, last.at_s);
    let start = points.partition_point(|p| p.at_s < middle_s);
    &points[start.min(points.len().saturating_sub(MIN_POINTS_FOR_VERDICT))..]
}

/// Whether the later half still moves in this direction, which a cache that has filled does not.
/// Either the half has a trend of its own, or it is a staircase: it moved, and never the other
/// way, which is how a leak looks that comes in bursts.
fn continues(points: &[Point], later: &[Point], direction: f64) -> bool {
    let level = |p: &Point| direction * p.live_bytes as f64;
    let rise = |points: &[Point]| match points {
        [first, .., last] => (level(last) - level(first), last.at_s - first.at_s),
        _ => (0.0, 0.0),
    };
    let (late_rise, late_s) = rise(later);
    let (whole_rise, whole_s) = rise(points);
    if late_rise <= 0.0 || late_rise * whole_s < PLATEAU_SHARE * whole_rise * late_s {
        return false;
    }
    // The teeth of a sawtooth are trends, but memory falls back to where it was. That takes
    // frees; where there are next to none, a leak may have begun after a long calm.
    let floor = |points: &[Point]| points.iter().map(level).fold(f64::INFINITY, f64::min);
    let earlier = &points[..points.len() - later.len()];
    if falls_back(later) && floor(later) - floor(earlier) < PLATEAU_SHARE * whole_rise {
        return false;
    }
    let never_back = later
        .windows(2)
        .all(|pair| level(&pair[1]) >= level(&pair[0]));
    never_back || direction * mann_kendall_z(later) > CONTINUES_Z
}

/// Whether enough is freed over these points that their level can come down again.
fn falls_back(points: &[Point]) -> bool {
    match points {
        [first, .., last] => freed_share(first, last) >= LEAK_FREED_SHARE,
        _ => false,
    }
}

/// Whether most parts of the later half, equally long in time, end higher than they began. One
/// big step fails this; it does not depend on how often the site was read.
fn grows_throughout(later: &[Point]) -> bool {
    let [first, .., last] = later else {
        return false;
    };
    let part_s = (last.at_s - first.at_s) / PARTS as f64;
    let live_at = |part: usize| {
        let until_s = first.at_s + part_s * part as f64;
        let behind = later.partition_point(|p| p.at_s <= until_s);
        later[behind.max(1) - 1].live_bytes
    };
    let growing = (0..PARTS).filter(|part| {
        let end = if part + 1 == PARTS {
            last.live_bytes
        } else {
            live_at(part + 1)
        };
        end > live_at(*part)
    });
    growing.count() >= GROWING_PARTS
}

/// Bytes freed between two points as a share of the bytes allocated between them.
fn freed_share(first: &Point, last: &Point) -> f64 {
    let freed = last.freed_bytes.saturating_sub(first.freed_bytes) as f64;
    let allocated = freed + last.live_bytes as f64 - first.live_bytes as f64;
    if allocated > 0.0 {
        freed / allocated
    } else {
        1.0
    }
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;

//! Many sites → the few that can be among the fastest or be judged leaking, told cheaply. Judges nothing.

use std::collections::BTreeSet;

use super::History;
use super::series::Point;

/// Parts of the end of a series that are looked at one by one, and at how many of them it is looked: a leak
/// grows in all but one.
const PARTS: usize = 4;
/// Lengths of the ends that are looked at, in points, of which recent ones are readings: what has begun late
/// is at rest before.
const ENDS: [usize; 2] = [12, 48];
/// Ways to grow: see [`guesses`].
const GUESSES: usize = 4;
/// Candidates of each way besides two for each place.
const SPARE: usize = 32;

/// Which of these sites can be among the first so many, by their places.
pub(super) fn candidates(sites: &[Option<&History>], count: usize) -> BTreeSet<usize> {
    let each = count.saturating_mul(2).saturating_add(SPARE);
    let guesses: Vec<[f64; GUESSES]> = sites.iter().map(|site| guesses(*site)).collect();
    let best_of = |way: usize| {
        let guess = |place: &usize| guesses[*place][way];
        let mut places: Vec<usize> = match way {
            // What is at rest or falls ranks last, and is as good as any other there.
            0 => (0..sites.len()).collect(),
            _ => (0..sites.len())
                .filter(|place| guess(place) > 0.0)
                .collect(),
        };
        if each < places.len() {
            places.select_nth_unstable_by(each, |a, b| guess(b).total_cmp(&guess(a)));
            places.truncate(each);
        }
        places
    };
    (0..GUESSES).flat_map(best_of).collect()
}

/// Bytes per second by which a site may grow: from the first reading to the last; in later readings; in
/// most parts of an end of the time; and in blocks of all times that have stayed, which rise above no noise.
fn guesses(site: Option<&History>) -> [f64; GUESSES] {
    let Some(site) = site else {
        return [0.0; GUESSES];
    };
    let whole = site.series.end_to_end_slope();
    let points = site.series.points();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return [0.0; GUESSES];
    };
    let half_s = f64::midpoint(first.at_s, last.at_s);
    match points {
        // Nothing has happened in the later half.
        [.., before, _] if before.at_s <= half_s && before.live_bytes == last.live_bytes => {
            [whole, 0.0, 0.0, 0.0]
        }
        _ => [
            whole,
            points[points.len() / 2].slope_to(last),
            even_growth(points),
            site.cohorts.as_ref().map_or(0.0, |all| all.least_density()),
        ],
    }
}

/// The least growth but one of the parts of an end, at the end where that is most.
fn even_growth(points: &[Point]) -> f64 {
    let newest = points.len().saturating_sub(1);
    let of_end = |length: usize| {
        let length = length.min(newest);
        let bound = |part: usize| points.get(newest - length + length * part / PARTS);
        let mut rates = [0.0; PARTS];
        for (part, rate) in rates.iter_mut().enumerate() {
            let ends = bound(part).zip(bound(part + 1));
            *rate = ends.map_or(0.0, |(from, to)| from.slope_to(to));
        }
        rates.sort_unstable_by(f64::total_cmp);
        rates[1]
    };
    ENDS.into_iter().map(of_end).fold(0.0, f64::max)
}

//! The cohorts of a site that are old enough → whether what it allocates ever goes away. Keeps nothing, and
//! knows nothing of levels and trends.

use super::trend::{mann_kendall, student_t_95};

/// What dies counts as the way of the site's blocks when it is at least this share of what stays.
const MATERIAL_SHARE: f64 = 0.1;
/// By how much a cohort has to outlive the age at which earlier ones have died, to be called kept:
/// where blocks have been kept from the beginning, and where that began later.
const OUTLIVED: f64 = 1.25;
const OUTLIVED_LATE: f64 = 2.0;
/// Share of the time that kept cohorts have to have been born in.
const LEAST_SPAN_SHARE: f64 = 0.15;
/// Cohorts that have to have kept something.
const LEAST_COHORTS: usize = 4;
/// Share of the time, the first third left out, whose cohorts have to have kept something: records
/// of a high-water mark get rarer and rarer.
const HOLDING_SHARE: f64 = 0.5;
/// Thirds of the births that are looked at apart.
const THIRDS: usize = 3;
/// Bytes that have stayed of a second of births in the last third, as a share of those before,
/// below which next to nothing new stays; that it is not by chance has to show as a trend, too
/// (one-sided 5% point of the normal distribution).
const FILLED_SHARE: f64 = 0.25;
const FILLED_Z: f64 = 1.645;
/// The same of each third as a share of the third before, below which ever less may stay; that it
/// does has to show as a trend, too (one-sided 2.5% point of the normal distribution).
const SLOWING_SHARE: f64 = 0.75;
const SLOWING_Z: f64 = 1.960;

/// Least age from which on blocks are said to have stayed, seconds.
const LEAST_AGE_S: f64 = 1.0;

/// What the cohorts say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Survival {
    /// Too little is old enough, or none of it says anything.
    Unclear,
    /// Blocks of all times have stayed.
    Kept(Kept),
    /// Blocks have stayed, but of late next to none of the new ones.
    Filled,
    /// What is allocated dies out.
    Passing,
}

/// What has stayed of a site's blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Kept {
    /// Share of what was still there at the last look at it (or at this age, if nothing ever
    /// dies) that is there now.
    pub(super) share: f64,
    /// Age in seconds from which on blocks have stayed.
    pub(super) age_s: f64,
    /// Bytes that have stayed of each second of births.
    pub(super) bytes_per_s: f64,
    /// Half the width of the 95% interval of that.
    pub(super) error_bytes_per_s: f64,
}

/// A cohort that is old enough, with its place in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    /// When its blocks were born, seconds: from, to.
    pub(super) start_s: f64,
    /// See `start_s`.
    pub(super) end_s: f64,
    /// Live bytes when it was first old enough.
    pub(super) settled_bytes: u64,
    /// What its live bytes are a share of: where some of it dies early, what was left of it then.
    pub(super) reference_bytes: u64,
    /// Live bytes now.
    pub(super) live_bytes: u64,
    /// Greatest age at which a material share of it was freed, seconds; zero if never.
    pub(super) decayed_at_age_s: f64,
    /// Whether the site has allocated in its time. That none of it is left says nothing where not.
    pub(super) born: bool,
}

impl Settled {
    fn width_s(&self) -> f64 {
        self.end_s - self.start_s
    }

    fn density(&self) -> f64 {
        self.live_bytes as f64 / self.width_s()
    }
}

/// What these cohorts, in the order of time, say now.
pub(super) fn survival(settled: &[Settled], now_s: f64) -> Survival {
    let (Some(first), Some(last)) = (settled.first(), settled.last()) else {
        return Survival::Unclear;
    };
    let seen_s = last.end_s - first.start_s;
    let dead_by_s = dead_by_s(settled);
    let old = outlived(settled, now_s, OUTLIVED * dead_by_s);
    if span_s(&old) < LEAST_SPAN_SHARE * seen_s || old.len() < LEAST_COHORTS {
        return Survival::Unclear;
    }
    if old.iter().all(|settled| settled.live_bytes == 0) {
        return passing(&old, seen_s);
    }
    match judge(&old, OUTLIVED * dead_by_s) {
        Survival::Unclear => {}
        clear => return clear,
    }
    let late = outlived(settled, now_s, OUTLIVED_LATE * dead_by_s);
    let begun = late.iter().position(|settled| settled.live_bytes > 0);
    match begun.and_then(|begun| late.get(begun..)) {
        Some(late) if span_s(late) >= LEAST_SPAN_SHARE * seen_s => {
            judge(late, OUTLIVED_LATE * dead_by_s)
        }
        _ => Survival::Unclear,
    }
}

/// Those whose youngest block is at least this old.
fn outlived(settled: &[Settled], now_s: f64, age_s: f64) -> Vec<Settled> {
    let old = settled
        .iter()
        .filter(|settled| now_s - settled.end_s >= age_s);
    old.copied().collect()
}

/// Age by which the blocks have died that do die: of every cohort that lost a material part.
fn dead_by_s(settled: &[Settled]) -> f64 {
    let mut densities: Vec<f64> = settled.iter().map(Settled::density).collect();
    let typical = middle(&mut densities);
    settled
        .iter()
        .filter(|settled| {
            let lost = settled.settled_bytes.saturating_sub(settled.live_bytes);
            lost as f64 > MATERIAL_SHARE * typical * settled.width_s()
        })
        .map(|settled| settled.decayed_at_age_s)
        .fold(0.0, f64::max)
}

/// Of old cohorts of which nothing is left: whether there was anything.
fn passing(old: &[Settled], seen_s: f64) -> Survival {
    let born = || old.iter().filter(|settled| settled.born);
    let born_s: f64 = born().map(Settled::width_s).sum();
    match born().count() >= LEAST_COHORTS && born_s >= LEAST_SPAN_SHARE * seen_s {
        true => Survival::Passing,
        false => Survival::Unclear,
    }
}

/// Judges cohorts that have outlived what dies, by this age.
fn judge(old: &[Settled], age_s: f64) -> Survival {
    let Some(first) = old.first() else {
        return Survival::Unclear;
    };
    let third_s = span_s(old) / THIRDS as f64;
    let third_of = |settled: &Settled| {
        let middle_s = f64::midpoint(settled.start_s, settled.end_s) - first.start_s;
        ((middle_s / third_s) as usize).min(THIRDS - 1)
    };
    let mut held = [0.0; THIRDS];
    let mut width_s = [0.0; THIRDS];
    for settled in old {
        held[third_of(settled)] += settled.live_bytes as f64;
        width_s[third_of(settled)] += settled.width_s();
    }
    let density = |third: usize| match width_s[third] > 0.0 {
        true => held[third] / width_s[third],
        false => 0.0,
    };
    if is_filled([density(0), density(1), density(2)], old) {
        return Survival::Filled;
    }
    let holding = || old.iter().filter(|old| old.live_bytes > 0);
    let late_holding_s: f64 = holding()
        .filter(|old| third_of(old) > 0)
        .map(Settled::width_s)
        .sum();
    let late_s: f64 = width_s.iter().skip(1).sum();
    if holding().count() < LEAST_COHORTS
        || held.contains(&0.0)
        || late_holding_s < HOLDING_SHARE * late_s
    {
        return Survival::Unclear;
    }
    Survival::Kept(kept(old, age_s))
}

/// Whether of births of late next to nothing has stayed, or ever less: a cache that fills takes up
/// the less the fuller it is.
fn is_filled(thirds: [f64; THIRDS], old: &[Settled]) -> bool {
    let [first, second, third] = thirds;
    let densities: Vec<f64> = old.iter().map(Settled::density).collect();
    let z = mann_kendall(&densities, 0.0).z();
    let filled = third < FILLED_SHARE * first.min(second) && z < -FILLED_Z;
    let slowing = second < SLOWING_SHARE * first && third < SLOWING_SHARE * second;
    filled || (slowing && z < -SLOWING_Z)
}

fn kept(old: &[Settled], age_s: f64) -> Kept {
    let live: u64 = old.iter().map(|old| old.live_bytes).sum();
    let reference: u64 = old.iter().map(|old| old.reference_bytes).sum();
    let bytes_per_s = live as f64 / span_s(old);
    let scatter: f64 = old
        .iter()
        .map(|old| old.width_s() * (old.density() - bytes_per_s).powi(2))
        .sum();
    // Student's interval of a mean: of few cohorts the scatter, too, is known badly.
    let freedom = (old.len() as f64 - 1.0).max(1.0);
    Kept {
        share: live as f64 / reference.max(live).max(1) as f64,
        age_s: age_s.max(LEAST_AGE_S),
        bytes_per_s,
        error_bytes_per_s: student_t_95(freedom) * (scatter / span_s(old) / freedom).sqrt(),
    }
}

fn span_s(cohorts: &[Settled]) -> f64 {
    match (cohorts.first(), cohorts.last()) {
        (Some(first), Some(last)) => last.end_s - first.start_s,
        _ => 0.0,
    }
}

/// The median; zero of none.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

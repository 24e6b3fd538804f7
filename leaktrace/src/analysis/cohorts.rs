//! Live bytes by time of birth, reading after reading → whether what a site allocates ever goes
//! away. Blocks born in the same stretch of time are a cohort; those of a cache, a queue or a
//! session die out sooner or later, those of a leak do not decay (the idea of generations in M.
//! Jump, K. S. McKinley, "Cork: dynamic memory leak detection", 2007, with time for collections).
//! Knows nothing of levels and trends.

use leaktrace_common::birth::birth_slot_start_ns;

use super::trend::mann_kendall;

/// A cohort is looked at once it is this old, seconds: before, blocks under way are in it.
const YOUNGEST_S: f64 = 1.0;
/// Share of a cohort that has to be freed between two looks to count as a decay.
const DECAY_SHARE: f64 = 0.1;
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

/// One cohort, as it was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cohort {
    /// Live bytes when it was first old enough; absent (`seen` false) before.
    settled_bytes: u64,
    /// Live bytes at the last look, and the age at which the next is due.
    mark_bytes: u64,
    next_look_s: f32,
    /// Greatest age at which a material share of it was freed; zero if never.
    decayed_at_age_s: f32,
    live_bytes: u64,
    seen: bool,
}

/// The cohorts of one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cohorts {
    cohorts: Vec<Cohort>,
    now_s: f64,
}

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
    /// Bytes that have stayed of each second of births, and twice the standard error of that.
    pub(super) bytes_per_s: f64,
    /// See `bytes_per_s`.
    pub(super) error_bytes_per_s: f64,
}

/// A cohort that is old enough, with its place in time.
#[derive(Clone, Copy, Debug)]
struct Settled {
    start_s: f64,
    end_s: f64,
    cohort: Cohort,
}

impl Settled {
    fn width_s(&self) -> f64 {
        self.end_s - self.start_s
    }

    fn density(&self) -> f64 {
        self.cohort.live_bytes as f64 / self.width_s()
    }
}

impl Cohorts {
    /// Takes a reading: live bytes by birth slot.
    pub(super) fn observe(&mut self, now_s: f64, live_bytes: &[u64]) {
        self.now_s = now_s;
        if self.cohorts.len() < live_bytes.len() {
            self.cohorts.resize(live_bytes.len(), Cohort::default());
        }
        for (slot, cohort) in self.cohorts.iter_mut().enumerate() {
            let (start_s, end_s) = (slot_start_s(slot), slot_start_s(slot + 1));
            let old_enough_s = YOUNGEST_S.max((end_s - start_s) / 2.0);
            if now_s - end_s < old_enough_s {
                break;
            }
            let live_bytes = live_bytes.get(slot).copied().unwrap_or(0);
            cohort.look(now_s - start_s, live_bytes);
        }
    }

    /// What the cohorts say now.
    pub(super) fn survival(&self) -> Survival {
        let settled = self.settled();
        let (Some(first), Some(last)) = (settled.first(), settled.last()) else {
            return Survival::Unclear;
        };
        let seen_s = last.end_s - first.start_s;
        let dead_by_s = dead_by_s(&settled);
        let old = self.outlived(&settled, OUTLIVED * dead_by_s);
        if span_s(&old) < LEAST_SPAN_SHARE * seen_s || old.len() < LEAST_COHORTS {
            return Survival::Unclear;
        }
        if old.iter().all(|settled| settled.cohort.live_bytes == 0) {
            return Survival::Passing;
        }
        match judge(&old, OUTLIVED * dead_by_s) {
            Survival::Unclear => {}
            clear => return clear,
        }
        let late = self.outlived(&settled, OUTLIVED_LATE * dead_by_s);
        let begun = late
            .iter()
            .position(|settled| settled.cohort.live_bytes > 0);
        match begun.and_then(|begun| late.get(begun..)) {
            Some(late) if span_s(late) >= LEAST_SPAN_SHARE * seen_s => {
                judge(late, OUTLIVED_LATE * dead_by_s)
            }
            _ => Survival::Unclear,
        }
    }

    fn settled(&self) -> Vec<Settled> {
        let cohorts = self.cohorts.iter().enumerate();
        cohorts
            .take_while(|(_, cohort)| cohort.seen)
            .map(|(slot, cohort)| Settled {
                start_s: slot_start_s(slot),
                end_s: slot_start_s(slot + 1),
                cohort: *cohort,
            })
            .collect()
    }

    /// Those whose youngest block is at least this old.
    fn outlived(&self, settled: &[Settled], age_s: f64) -> Vec<Settled> {
        let old = settled
            .iter()
            .filter(|settled| self.now_s - settled.end_s >= age_s);
        old.copied().collect()
    }
}

impl Cohort {
    /// What its live bytes are a share of: where some of it dies early, what was left of it then.
    fn reference_bytes(&self) -> u64 {
        match self.decayed_at_age_s > 0.0 {
            true => self.mark_bytes,
            false => self.settled_bytes,
        }
    }

    /// Looks again whenever the age has doubled, so that slow decay adds up, and whenever much is
    /// gone.
    fn look(&mut self, oldest_s: f64, live_bytes: u64) {
        self.live_bytes = live_bytes;
        if !self.seen {
            self.seen = true;
            self.settled_bytes = live_bytes;
            self.mark_bytes = live_bytes;
            self.next_look_s = (2.0 * oldest_s) as f32;
            return;
        }
        if (live_bytes as f64) < (1.0 - DECAY_SHARE) * self.mark_bytes as f64 {
            self.decayed_at_age_s = oldest_s as f32;
            self.mark_bytes = live_bytes;
        }
        if oldest_s as f32 >= self.next_look_s {
            self.mark_bytes = live_bytes;
            self.next_look_s = (2.0 * oldest_s) as f32;
        }
    }
}

/// Age by which the blocks have died that do die: of every cohort that lost a material part.
fn dead_by_s(settled: &[Settled]) -> f64 {
    let mut densities: Vec<f64> = settled.iter().map(Settled::density).collect();
    let typical = middle(&mut densities);
    settled
        .iter()
        .filter(|settled| {
            let lost = settled
                .cohort
                .settled_bytes
                .saturating_sub(settled.cohort.live_bytes);
            lost as f64 > MATERIAL_SHARE * typical * settled.width_s()
        })
        .map(|settled| f64::from(settled.cohort.decayed_at_age_s))
        .fold(0.0, f64::max)
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
        held[third_of(settled)] += settled.cohort.live_bytes as f64;
        width_s[third_of(settled)] += settled.width_s();
    }
    let density = |third: usize| match width_s[third] > 0.0 {
        true => held[third] / width_s[third],
        false => 0.0,
    };
    if is_filled([density(0), density(1), density(2)], old) {
        return Survival::Filled;
    }
    let holding = || old.iter().filter(|old| old.cohort.live_bytes > 0);
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
    let live: u64 = old.iter().map(|old| old.cohort.live_bytes).sum();
    let reference: u64 = old.iter().map(|old| old.cohort.reference_bytes()).sum();
    let bytes_per_s = live as f64 / span_s(old);
    let scatter: f64 = old
        .iter()
        .map(|old| old.width_s() * (old.density() - bytes_per_s).powi(2))
        .sum();
    Kept {
        share: live as f64 / reference.max(live).max(1) as f64,
        age_s: age_s.max(YOUNGEST_S),
        bytes_per_s,
        error_bytes_per_s: 2.0 * (scatter / span_s(old) / old.len() as f64).sqrt(),
    }
}

fn span_s(cohorts: &[Settled]) -> f64 {
    match (cohorts.first(), cohorts.last()) {
        (Some(first), Some(last)) => last.end_s - first.start_s,
        _ => 0.0,
    }
}

fn slot_start_s(slot: usize) -> f64 {
    birth_slot_start_ns(slot) as f64 / 1e9
}

/// The median; zero of none.
fn middle(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

//! Live bytes by time of birth, reading after reading → what has become of the blocks of each time.
//! Blocks born in the same stretch of time are a cohort; those of a cache, a queue or a session die
//! out sooner or later, those of a leak do not decay (the idea of generations in M. Jump, K. S.
//! McKinley, "Cork: dynamic memory leak detection", 2007, with time for collections).
//! Judges nothing: what they say is in `survival`.

use leaktrace_common::birth::{BIRTH_SLOTS, birth_slot_start_ns};

use super::survival::{Settled, Survival, survival};

/// A cohort is looked at once it is this old, seconds: before, blocks under way are in it.
const YOUNGEST_S: f64 = 1.0;
/// Share of a cohort that has to be freed between two looks to count as a decay.
const DECAY_SHARE: f64 = 0.1;
/// Share of a cohort that is a material part of it.
const MATERIAL_SHARE: f64 = 0.1;

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
    /// Whether the site has allocated in its time. That none of it is left says nothing where not.
    born: bool,
}

/// How much older than what has gone before blocks have to be to be another kind.
const OUTLIVED_TWICE: f64 = 2.0;

/// The cohorts of one site.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Cohorts {
    cohorts: Vec<Cohort>,
    /// The site has not allocated before: what was not there has not gone away.
    begun_s: f64,
    now_s: f64,
    allocated_count: u64,
}

impl Cohorts {
    /// Those of a site that had not allocated anything by this time.
    pub(super) fn since(begun_s: f64) -> Self {
        Self {
            begun_s,
            now_s: begun_s,
            ..Self::default()
        }
    }

    /// Those of several sites as one. They were all read at the same times.
    pub(super) fn sum(sites: &[&Self]) -> Self {
        let begun_s = sites.iter().map(|site| site.begun_s);
        let slots = sites.iter().map(|site| site.cohorts.len()).max();
        let cohort = |slot: usize| {
            // Of a site that began later, nothing is missing here.
            let there = sites
                .iter()
                .filter(|site| start_s(slot, site.begun_s).is_some())
                .map(|site| site.cohorts.get(slot).copied().unwrap_or_default());
            Cohort::sum(&there.collect::<Vec<_>>())
        };
        Self {
            cohorts: (0..slots.unwrap_or(0)).map(cohort).collect(),
            begun_s: begun_s.fold(f64::INFINITY, f64::min),
            now_s: sites.iter().map(|site| site.now_s).fold(0.0, f64::max),
            allocated_count: sites.iter().map(|site| site.allocated_count).sum(),
        }
    }

    /// Takes a reading: live bytes by birth slot, and blocks allocated so far.
    pub(super) fn observe(&mut self, now_s: f64, live_bytes: &[u64], allocated_count: u64) {
        if self.cohorts.len() < live_bytes.len() {
            self.cohorts.resize(live_bytes.len(), Cohort::default());
        }
        self.note_births(now_s, live_bytes, allocated_count);
        self.now_s = now_s;
        let begun_s = self.begun_s;
        for (slot, cohort) in self.cohorts.iter_mut().enumerate() {
            let Some(start_s) = start_s(slot, begun_s) else {
                continue;
            };
            let end_s = slot_end_s(slot);
            let old_enough_s = YOUNGEST_S.max((end_s - start_s) / 2.0);
            if now_s - end_s < old_enough_s {
                break;
            }
            let live_bytes = live_bytes.get(slot).copied().unwrap_or(0);
            cohort.look(now_s - start_s, live_bytes);
        }
    }

    /// Notes in which slots the site has allocated: in those since the last reading, if it has
    /// allocated since.
    fn note_births(&mut self, now_s: f64, live_bytes: &[u64], allocated_count: u64) {
        if self.allocated_count == 0 {
            // A stack may become known later than its first blocks.
            for (slot, _) in live_bytes.iter().enumerate().filter(|held| *held.1 > 0) {
                self.begun_s = self.begun_s.min(slot_start_s(slot));
                self.cohorts[slot].born = true;
            }
        }
        if allocated_count > self.allocated_count {
            let from_the_end = self.cohorts.iter_mut().enumerate().rev();
            for (_, cohort) in from_the_end
                .take_while(|(slot, _)| slot_end_s(*slot) > self.now_s)
                .filter(|(slot, _)| slot_start_s(*slot) <= now_s)
            {
                cohort.born = true;
            }
        }
        self.allocated_count = allocated_count;
    }

    /// Whether they say anything of blocks that were born since a time, so many seconds ago: because some
    /// of these are old enough, or because those before have gone at an age that these have not outlived.
    pub(super) fn tells_of(&self, since_s: f64, age_s: f64) -> bool {
        let mut settled = self.cohorts.iter().enumerate();
        settled.any(|(slot, cohort)| {
            cohort.seen
                && (slot_end_s(slot) > since_s
                    || f64::from(cohort.decayed_at_age_s) * OUTLIVED_TWICE > age_s)
        })
    }

    /// Bytes that have stayed of a second of births, in the third of the time in which that is least, from
    /// the first births of which anything has: a cheap guess.
    pub(super) fn least_density(&self) -> f64 {
        let old = || self.cohorts.iter().enumerate().filter(|(_, one)| one.seen);
        let begun = old().find(|(_, cohort)| cohort.live_bytes > 0);
        let (Some((first, _)), Some((last, _))) = (begun, old().next_back()) else {
            return 0.0;
        };
        let begun_s = slot_start_s(first);
        let third_s = (slot_end_s(last) - begun_s) / 3.0;
        let mut held = [0.0; 3];
        for (slot, cohort) in old().skip_while(|(slot, _)| *slot < first) {
            let middle_s = f64::midpoint(slot_start_s(slot), slot_end_s(slot));
            held[(((middle_s - begun_s) / third_s) as usize).min(2)] += cohort.live_bytes as f64;
        }
        held.into_iter().fold(f64::INFINITY, f64::min) / third_s
    }

    /// What they say now.
    pub(super) fn survival(&self) -> Survival {
        let cohorts = self.cohorts.iter().enumerate();
        let settled: Vec<Settled> = cohorts
            .filter_map(|(slot, cohort)| Some((slot, start_s(slot, self.begun_s)?, cohort)))
            .take_while(|(_, _, cohort)| cohort.seen)
            .map(|(slot, start_s, cohort)| cohort.settled(start_s, slot_end_s(slot)))
            .collect();
        survival(&settled, self.now_s)
    }
}

impl Cohort {
    /// The cohort of the same time of several sites. It has decayed when one has that is a material part
    /// of it.
    fn sum(parts: &[Self]) -> Self {
        let settled_bytes = parts.iter().map(|part| part.settled_bytes).sum();
        let decayed = parts.iter().filter(|part| {
            let lost_bytes = part.settled_bytes.saturating_sub(part.live_bytes);
            lost_bytes as f64 > MATERIAL_SHARE * settled_bytes as f64
        });
        Self {
            settled_bytes,
            mark_bytes: parts.iter().map(|part| part.mark_bytes).sum(),
            next_look_s: 0.0,
            decayed_at_age_s: decayed
                .map(|part| part.decayed_at_age_s)
                .fold(0.0, f32::max),
            live_bytes: parts.iter().map(|part| part.live_bytes).sum(),
            seen: !parts.is_empty() && parts.iter().all(|part| part.seen),
            born: parts.iter().any(|part| part.born),
        }
    }

    fn settled(&self, start_s: f64, end_s: f64) -> Settled {
        Settled {
            start_s,
            end_s,
            settled_bytes: self.settled_bytes,
            reference_bytes: match self.decayed_at_age_s > 0.0 {
                true => self.mark_bytes,
                false => self.settled_bytes,
            },
            live_bytes: self.live_bytes,
            decayed_at_age_s: f64::from(self.decayed_at_age_s),
            born: self.born,
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

/// When the part of a slot begins in which the site may have allocated; absent where that is next to
/// nothing.
fn start_s(slot: usize, begun_s: f64) -> Option<f64> {
    let start_s = slot_start_s(slot).max(begun_s);
    (slot_end_s(slot) - start_s >= YOUNGEST_S).then_some(start_s)
}

/// The last slot takes whatever is born after it, and never ends.
fn slot_end_s(slot: usize) -> f64 {
    match slot + 1 < BIRTH_SLOTS {
        true => slot_start_s(slot + 1),
        false => f64::INFINITY,
    }
}

fn slot_start_s(slot: usize) -> f64 {
    birth_slot_start_ns(slot) as f64 / 1e9
}

#[cfg(test)]
#[path = "cohorts_tests.rs"]
mod tests;

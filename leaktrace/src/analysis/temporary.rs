//! Readings of sites → which share of their bytes is freed right after birth. The kernel side tells live
//! bytes by the time of their birth: what was born since a slot began, less what of it is live, is freed.
//! Pure.

use foldhash::HashMap;
use leaktrace_common::birth::birth_slot_start_ns;

use crate::snapshot::Snapshot;

/// Blocks that are older when they are freed are not freed right after birth. Slots become longer than
/// this, and only their beginnings are looked at.
const YOUNG_S: f64 = 2.5;

/// What of a site is freed right after birth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FreedYoung {
    /// Freed bytes as a share of those born in the times that were looked at, 0 to 1. Of a site that
    /// goes on evenly it is the mean of the shares that are freed within all ages up to `within_s`, so
    /// that at least so much is freed within that.
    pub share: f64,
    /// The oldest that a block can be that was taken for young, seconds.
    pub within_s: f64,
}

/// What is known of all sites of a process.
#[derive(Debug, Default)]
pub struct Temporaries {
    sites: HashMap<u32, Seen>,
}

/// One site.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// At the last reading: the slot of that time, what was live of it, and all that was allocated.
    slot: usize,
    young_bytes: u64,
    allocated_bytes: u64,
    /// Between readings that were close behind the beginning of the same slot.
    born_bytes: u64,
    freed_bytes: f64,
    within_s: f64,
}

impl Temporaries {
    /// Takes a reading. Sites of which births are not counted are passed over.
    pub fn observe(&mut self, snapshot: &Snapshot) {
        let now_s = snapshot.elapsed.as_secs_f64();
        for site in &snapshot.sites {
            let Some((slot, young_bytes)) = youngest(site.live_by_birth.as_deref()) else {
                self.sites.remove(&site.index);
                continue;
            };
            let allocated_bytes = site.totals.allocated_bytes;
            let age_s = now_s - birth_slot_start_ns(slot) as f64 / 1e9;
            let seen = self.sites.entry(site.index).or_insert(Seen {
                slot: usize::MAX,
                ..Seen::default()
            });
            if seen.slot == slot && age_s <= YOUNG_S {
                seen.count(young_bytes, allocated_bytes, age_s);
            }
            seen.slot = slot;
            seen.young_bytes = young_bytes;
            seen.allocated_bytes = allocated_bytes;
        }
    }

    /// What is known of a site, by its index in the kernel's table.
    pub fn of(&self, site_index: u32) -> Option<FreedYoung> {
        let seen = self.sites.get(&site_index)?;
        (seen.born_bytes > 0).then(|| FreedYoung {
            share: (seen.freed_bytes / seen.born_bytes as f64).clamp(0.0, 1.0),
            within_s: seen.within_s,
        })
    }
}

impl Seen {
    /// Counts what has come and gone since the last reading, which was of the same slot.
    fn count(&mut self, young_bytes: u64, allocated_bytes: u64, age_s: f64) {
        let born_bytes = allocated_bytes.saturating_sub(self.allocated_bytes);
        let stayed_bytes = young_bytes as f64 - self.young_bytes as f64;
        self.born_bytes += born_bytes;
        // Of an uneven site more can go in an interval than has come in it.
        self.freed_bytes += born_bytes as f64 - stayed_bytes;
        self.within_s = self.within_s.max(age_s);
    }
}

/// The slot of the present, and what is live of it.
fn youngest(live_by_birth: Option<&[u64]>) -> Option<(usize, u64)> {
    let (young_bytes, before) = live_by_birth?.split_last()?;
    Some((before.len(), *young_bytes))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::time::Duration;

    use leaktrace_common::birth::birth_slot;

    use super::*;
    use crate::snapshot::{SiteReading, Totals};

    /// A site that allocates ten bytes every 10 ms, of which so many are freed after so many steps, read
    /// twice a second.
    fn share(freed: impl Fn(u64) -> Option<u64>, seconds: u64) -> FreedYoung {
        let mut temporaries = Temporaries::default();
        let steps = seconds * 100;
        let mut births: Vec<(u64, Option<u64>)> = Vec::new();
        for step in 0..steps {
            births.push((step, freed(step).map(|after| step + after)));
            if step % 50 != 49 {
                continue;
            }
            let at = |step: u64| step * 10_000_000;
            let mut by_birth = vec![0; birth_slot(at(step)) + 1];
            let live = births
                .iter()
                .filter(|(_, end)| end.is_none_or(|end| end > step));
            live.for_each(|(born, _)| by_birth[birth_slot(at(*born))] += 10);
            let totals = Totals {
                allocated_bytes: 10 * (step + 1),
                ..Totals::default()
            };
            let site = SiteReading::of_numbers(0, totals, Some(by_birth.into()));
            let elapsed = Duration::from_nanos(at(step));
            temporaries.observe(&Snapshot::of_sites(elapsed, vec![site]));
        }
        temporaries.of(0).unwrap()
    }

    #[test]
    fn what_is_freed_at_once_is_told_from_what_stays_in_ten_seconds_and_in_ten_minutes() {
        for seconds in [10, 60, 600] {
            assert!(share(|_| Some(1), seconds).share > 0.97);
            assert_eq!(share(|_| None, seconds).share, 0.0);
            assert_eq!(share(|_| Some(1000), seconds).share, 0.0);
            let half = share(|step| (step % 2 == 0).then_some(1), seconds);
            assert!((half.share - 0.5).abs() < 0.03, "{half:?}");
            assert!(half.within_s <= YOUNG_S);
        }
    }

    #[test]
    fn a_site_whose_births_are_not_counted_is_not_known() {
        let mut temporaries = Temporaries::default();
        for second in 1..20 {
            let site = SiteReading::of_numbers(3, Totals::default(), None);
            temporaries.observe(&Snapshot::of_sites(Duration::from_secs(second), vec![site]));
        }
        assert_eq!(temporaries.of(3), None);
    }
}

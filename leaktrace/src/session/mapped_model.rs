//! The ledger of mappings beside a model of what the kernel has: a site for each page, and whatever calls of
//! threads in whatever order.

use super::*;

/// What the kernel has: which site mapped each of these pages.
#[derive(Clone)]
struct Pages {
    of: Vec<Option<u32>>,
}

const SPACE: u64 = 96;
const BASE: u64 = 0x10000;

/// Stands for whoever mapped before the session.
const BEFORE: u32 = 0;

impl Pages {
    fn set(&mut self, start: u64, length: u64, site: Option<u32>) {
        self.of[start as usize..(start + length) as usize].fill(site);
    }

    fn range(&self, start: u64, length: u64) -> &[Option<u32>] {
        &self.of[start as usize..(start + length) as usize]
    }

    fn is_free(&self, start: u64, length: u64) -> bool {
        self.range(start, length).iter().all(Option::is_none)
    }

    fn bytes_of(&self, site: u32) -> u64 {
        self.of.iter().filter(|page| **page == Some(site)).count() as u64 * PAGE
    }
}

/// xorshift64, Marsaglia 2003: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// A range of pages.
    fn range(&mut self) -> (u64, u64) {
        let start = self.below(SPACE);
        (start, self.length_from(start))
    }

    fn length_from(&mut self, start: u64) -> u64 {
        1 + self.below((SPACE - start).min(20))
    }
}

/// One mremap, in pages.
struct Remap {
    start: u64,
    length: u64,
    target: u64,
    new_length: u64,
    /// MREMAP_DONTUNMAP.
    stays: bool,
}

impl Remap {
    fn throw(dice: &mut Dice, pages: &Pages, start: u64, length: u64) -> Self {
        let (target, new_length) = match dice.below(2) {
            0 => (start, dice.length_from(start)),
            _ => dice.range(),
        };
        let stays = dice.below(4) == 0 && target != start;
        let same = stays || pages.range(start, length).contains(&None);
        Self {
            start,
            length,
            target: if same {
                target.min(SPACE - length)
            } else {
                target
            },
            new_length: if same { length } else { new_length },
            stays,
        }
    }

    /// What becomes of the pages; `None` when the kernel refuses.
    fn done_to(&self, pages: &Pages) -> Option<Pages> {
        let old = pages.range(self.start, self.length);
        let (old_end, new_end) = (self.start + self.length, self.target + self.new_length);
        let has_gap = old.contains(&None);
        if self.target == self.start {
            let grown = new_end.saturating_sub(old_end);
            if has_gap || !pages.is_free(old_end.min(SPACE), grown) {
                return None;
            }
        } else if self.target < old_end && self.start < new_end || old[0].is_none() {
            return None;
        }
        let mut after = pages.clone();
        if !self.stays {
            after.set(self.start, self.length, None);
        }
        for number in 0..self.new_length {
            let page = old[number.min(self.length - 1) as usize];
            let place = self.target + number;
            // A gap leaves what it comes to lie over; the ledger takes it for pages from before.
            if page.is_none() && !pages.is_free(place, 1) {
                return None;
            }
            after.set(place, 1, page);
        }
        Some(after)
    }
}

/// The events of one call that the kernel would make of it, by one of several threads.
fn step(dice: &mut Dice, pages: &mut Pages, ledger: &mut MappedLedger) {
    let site = 1 + dice.below(5) as u32;
    let tid = 1 + dice.below(3) as u32;
    let (start, length) = dice.range();
    let at = |page: u64| BASE + page * PAGE;
    let call = |kind, start: u64, length: u64| Event {
        tid,
        site,
        ..event(kind, at(start), length * PAGE)
    };
    match dice.below(6) {
        // MAP_FIXED, over whatever is there.
        0 | 1 => {
            ledger.apply(&call(EventKind::Mapped, start, length));
            pages.set(start, length, Some(site));
        }
        2 => {
            ledger.apply(&call(EventKind::Unmapping, start, length));
            pages.set(start, length, None);
        }
        3 => {
            ledger.apply(&call(EventKind::Unmapping, start, length));
            ledger.apply(&call(EventKind::StillMapped, start, length));
        }
        // mremap of whatever is there.
        _ => {
            let remap = Remap::throw(dice, pages, start, length);
            let event = |kind, place| Event {
                old_size_bytes: length * PAGE,
                flags: if remap.stays { 4 } else { 0 },
                ..call(kind, place, remap.new_length)
            };
            ledger.apply(&event(EventKind::Remapping, start));
            if let Some(after) = remap.done_to(pages) {
                ledger.apply(&event(EventKind::Remapped, remap.target));
                *pages = after;
            } else {
                ledger.apply(&event(EventKind::StillMapped, start));
            }
        }
    }
}

#[test]
fn whatever_is_called_the_ledger_has_what_the_kernel_has() {
    for seed in 1..=200 {
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
        let mut pages = Pages {
            of: vec![None; SPACE as usize],
        };
        for _ in 0..4 {
            let (start, length) = dice.range();
            pages.set(start, length, Some(BEFORE));
        }
        let mut ledger = MappedLedger::default();
        for number in 0..400 {
            step(&mut dice, &mut pages, &mut ledger);
            for (site, totals) in ledger.totals() {
                assert_eq!(
                    totals.live_bytes,
                    pages.bytes_of(site),
                    "site {site} after call {number} of seed {seed}"
                );
                assert_eq!(totals.live_count == 0, totals.live_bytes == 0);
            }
        }
    }
}

//! Promises of the ledger of mappings.

use super::*;

const PAGE: u64 = PAGE_BYTES;

const READ_WRITE: u64 = 3;

fn event(kind: EventKind, address: u64, size_bytes: u64) -> Event {
    Event {
        kind: kind as u32,
        tid: 7,
        site: 1,
        address,
        size_bytes,
        old_size_bytes: READ_WRITE,
        ..Event::default()
    }
}

fn live(ledger: &MappedLedger) -> (u64, u64) {
    ledger.totals().fold((0, 0), |sum, (_, t)| {
        (sum.0 + t.live_bytes, sum.1 + t.live_count)
    })
}

fn reserved(ledger: &MappedLedger) -> u64 {
    ledger.reserved_by_site().values().sum()
}

fn unmap(ledger: &mut MappedLedger, address: u64, size_bytes: u64) {
    ledger.apply(&event(EventKind::Unmapping, address, size_bytes));
}

#[test]
fn a_length_is_rounded_up_to_pages() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 1));
    assert_eq!(live(&ledger), (PAGE, 1));
    unmap(&mut ledger, 0x10000, 5);
    assert_eq!(live(&ledger), (0, 0));
}

#[test]
fn start_end_and_middle_can_be_cut() {
    for cut in [0, 3, 6] {
        let mut ledger = MappedLedger::default();
        ledger.apply(&event(EventKind::Mapped, 0x10000, 7 * PAGE));
        unmap(&mut ledger, 0x10000 + cut * PAGE, PAGE);
        assert_eq!(live(&ledger), (6 * PAGE, 1));
        unmap(&mut ledger, 0x10000, 7 * PAGE);
        assert_eq!(live(&ledger), (0, 0));
    }
}

#[test]
fn one_call_can_unmap_many_mappings() {
    let mut ledger = MappedLedger::default();
    for i in 0..5 {
        ledger.apply(&event(EventKind::Mapped, 0x10000 + i * 2 * PAGE, PAGE));
    }
    unmap(&mut ledger, 0x10000 + PAGE, 100 * PAGE);
    assert_eq!(live(&ledger), (PAGE, 1));
}

#[test]
fn a_fixed_mapping_replaces_what_was_there() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 4 * PAGE));
    ledger.apply(&Event {
        site: 2,
        ..event(EventKind::Mapped, 0x10000 + PAGE, PAGE)
    });
    assert_eq!(live(&ledger), (4 * PAGE, 2));
    let of_two = ledger
        .totals()
        .find(|(site, _)| *site == 2)
        .map(|(_, t)| t.live_bytes);
    assert_eq!(of_two, Some(PAGE));
}

#[test]
fn a_failed_unmap_leaves_the_mapping_live() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 4 * PAGE));
    unmap(&mut ledger, 0x10000 + PAGE, PAGE);
    ledger.apply(&event(EventKind::StillMapped, 0x10000 + PAGE, PAGE));
    assert_eq!(live(&ledger), (4 * PAGE, 1));
    unmap(&mut ledger, 0x10000, 4 * PAGE);
    assert_eq!(live(&ledger), (0, 0));
}

#[test]
fn a_moved_mapping_keeps_its_site_and_its_new_length() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 2 * PAGE));
    let old = Event {
        old_size_bytes: 2 * PAGE,
        ..event(EventKind::Remapping, 0x10000, 8 * PAGE)
    };
    ledger.apply(&old);
    ledger.apply(&Event {
        kind: EventKind::Remapped as u32,
        address: 0x90000,
        site: 9,
        ..old
    });
    assert_eq!(live(&ledger), (8 * PAGE, 1));
    assert!(
        ledger
            .totals()
            .all(|(site, t)| site == 1 || t.live_bytes == 0)
    );
}

#[test]
fn what_was_mapped_before_the_session_stays_out() {
    let mut ledger = MappedLedger::default();
    unmap(&mut ledger, 0x10000, PAGE);
    let old = Event {
        old_size_bytes: PAGE,
        ..event(EventKind::Remapping, 0x50000, 2 * PAGE)
    };
    ledger.apply(&old);
    ledger.apply(&Event {
        kind: EventKind::Remapped as u32,
        address: 0x90000,
        ..old
    });
    assert_eq!(live(&ledger), (0, 0));
}

#[test]
fn addresses_that_are_only_set_aside_are_told_apart() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, PAGE));
    assert_eq!(reserved(&ledger), 0);
    let none = Event {
        old_size_bytes: PROT_NONE,
        ..event(EventKind::Mapped, 0x50000, 9 * PAGE)
    };
    ledger.apply(&none);
    assert_eq!(
        (live(&ledger), reserved(&ledger)),
        ((10 * PAGE, 2), 9 * PAGE)
    );
    unmap(&mut ledger, 0x50000, 4 * PAGE);
    assert_eq!(reserved(&ledger), 5 * PAGE);
}

#[test]
fn mappings_that_come_and_go_leave_nothing_behind() {
    let mut ledger = MappedLedger::default();
    for round in 0..5_000u64 {
        let tid = u32::try_from(round).unwrap_or(0);
        let at_ns = round * 10_000_000;
        ledger.apply(&Event {
            tid,
            at_ns,
            ..event(EventKind::Mapped, 0x10000, PAGE)
        });
        ledger.apply(&Event {
            tid,
            at_ns,
            ..event(EventKind::Unmapping, 0x10000, PAGE)
        });
    }
    assert_eq!(live(&ledger), (0, 0));
    assert!(ledger.origins.is_empty() && ledger.pieces.is_empty());
    assert!(ledger.announced.len() <= MAX_ANNOUNCED);
}

#[test]
fn a_mapping_that_is_doubled_counts_twice_and_ends_twice() {
    for offset in [0, 3] {
        let mut ledger = MappedLedger::default();
        ledger.apply(&event(EventKind::Mapped, 0x10000, 7 * PAGE));
        let old = 0x10000 + offset * PAGE;
        let length_zero = |kind, address| Event {
            old_size_bytes: 0,
            ..event(kind, address, 4 * PAGE)
        };
        ledger.apply(&length_zero(EventKind::Remapping, old));
        ledger.apply(&length_zero(EventKind::Remapped, 0x90000));
        assert_eq!(live(&ledger), (11 * PAGE, 2));
        unmap(&mut ledger, 0x90000, 4 * PAGE);
        unmap(&mut ledger, 0x10000, 7 * PAGE);
        assert_eq!(live(&ledger), (0, 0));
    }
}

/// What the kernel has: which site mapped each of these pages.
#[derive(Clone)]
struct Pages {
    of: Vec<Option<u32>>,
}

const SPACE: u64 = 96;
const BASE: u64 = 0x10000;

impl Pages {
    fn set(&mut self, start: u64, length: u64, site: Option<u32>) {
        self.of[start as usize..(start + length) as usize].fill(site);
    }

    fn is_one_sites(&self, start: u64, length: u64) -> Option<u32> {
        let range = &self.of[start as usize..(start + length) as usize];
        let site = range.first().copied()??;
        range.iter().all(|page| *page == Some(site)).then_some(site)
    }

    fn is_free(&self, start: u64, length: u64) -> bool {
        let range = &self.of[start as usize..(start + length) as usize];
        range.iter().all(Option::is_none)
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
        (start, 1 + self.below((SPACE - start).min(20)))
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
        2 | 3 => {
            ledger.apply(&call(EventKind::Unmapping, start, length));
            pages.set(start, length, None);
        }
        4 => {
            ledger.apply(&call(EventKind::Unmapping, start, length));
            ledger.apply(&call(EventKind::StillMapped, start, length));
        }
        // mremap takes what is of one kind, and moves it to where nothing is.
        _ => {
            let Some(owner) = pages.is_one_sites(start, length) else {
                return;
            };
            let (target, new_length) = dice.range();
            let mut without = pages.clone();
            without.set(start, length, None);
            let succeeds = without.is_free(target, new_length);
            let sizes = |kind, place, bytes| Event {
                old_size_bytes: length * PAGE,
                ..call(kind, place, bytes)
            };
            ledger.apply(&sizes(EventKind::Remapping, start, new_length));
            if succeeds {
                ledger.apply(&sizes(EventKind::Remapped, target, new_length));
                without.set(target, new_length, Some(owner));
                *pages = without;
            } else {
                ledger.apply(&sizes(EventKind::StillMapped, start, new_length));
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

fn attach(ledger: &mut MappedLedger, address: u64, pages: u64) {
    ledger.apply(&event(EventKind::Attached, address, pages * PAGE));
}

fn detach(ledger: &mut MappedLedger, address: u64) {
    ledger.apply(&event(EventKind::Detaching, address, 0));
}

#[test]
fn what_is_left_of_a_segment_goes_with_its_address() {
    let mut ledger = MappedLedger::default();
    attach(&mut ledger, 0x10000, 8);
    attach(&mut ledger, 0x10000 + 8 * PAGE, 8);
    unmap(&mut ledger, 0x10000, 2 * PAGE);
    unmap(&mut ledger, 0x10000 + 4 * PAGE, PAGE);
    ledger.apply(&event(EventKind::Mapped, 0x10000 + 6 * PAGE, PAGE));
    assert_eq!(live(&ledger), (13 * PAGE, 3));
    detach(&mut ledger, 0x10000);
    assert_eq!(live(&ledger), (9 * PAGE, 2));
    // Inside of it nothing is attached.
    detach(&mut ledger, 0x10000 + 9 * PAGE);
    assert_eq!(live(&ledger), (9 * PAGE, 2));
}

#[test]
fn a_failed_detach_leaves_the_segment_live() {
    let mut ledger = MappedLedger::default();
    attach(&mut ledger, 0x10000, 8);
    unmap(&mut ledger, 0x10000 + 4 * PAGE, PAGE);
    detach(&mut ledger, 0x10000);
    assert_eq!(live(&ledger), (0, 0));
    ledger.apply(&event(EventKind::StillMapped, 0x10000, 0));
    assert_eq!(live(&ledger), (7 * PAGE, 1));
    detach(&mut ledger, 0x10000);
    assert_eq!(live(&ledger), (0, 0));
}

#[test]
fn a_segment_that_was_moved_is_detached_where_it_is() {
    let mut ledger = MappedLedger::default();
    attach(&mut ledger, 0x10000, 8);
    let old = Event {
        old_size_bytes: 4 * PAGE,
        ..event(EventKind::Remapping, 0x10000 + 4 * PAGE, 4 * PAGE)
    };
    ledger.apply(&old);
    ledger.apply(&Event {
        kind: EventKind::Remapped as u32,
        address: 0x90000,
        ..old
    });
    detach(&mut ledger, 0x10000);
    assert_eq!(live(&ledger), (4 * PAGE, 1));
    detach(&mut ledger, 0x90000 - 4 * PAGE);
    assert_eq!(live(&ledger), (0, 0));
}

#[test]
fn a_segment_of_unknown_length_is_counted_as_such() {
    let mut ledger = MappedLedger::default();
    attach(&mut ledger, 0x10000, 0);
    detach(&mut ledger, 0x10000);
    assert_eq!(live(&ledger), (0, 0));
    assert_eq!(ledger.lengths_unknown(), 1);
}

//! Promises of the ledger of mappings.

use super::committed::Usable;
use super::*;

#[path = "mapped_model.rs"]
mod model;

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
    ledger.reserved_by_site(u64::MAX).values().sum()
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
fn what_has_become_memory_of_addresses_set_aside_is_not_reserved() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&Event {
        old_size_bytes: PROT_NONE,
        ..event(EventKind::Mapped, 0x50000, 16 * PAGE)
    });
    ledger.apply(&Event {
        flags: MAP_NORESERVE,
        ..event(EventKind::Mapped, 0x90000, 16 * PAGE)
    });
    let usable = |start, pages, held| Usable {
        start,
        end: start + pages * PAGE,
        held_bytes: held * PAGE,
    };
    // One page is of somebody else, before the first mapping.
    ledger.note_usable(&[
        usable(0x50000 - PAGE, 4, 0),
        usable(0x50000 + 8 * PAGE, 2, 1),
        usable(0x90000, 16, 5),
    ]);
    assert_eq!(reserved(&ledger), (16 - 3 - 2) * PAGE + (16 - 5) * PAGE);
    assert_eq!(live(&ledger), (32 * PAGE, 2));
    unmap(&mut ledger, 0x50000, 12 * PAGE);
    ledger.note_usable(&[]);
    assert_eq!(reserved(&ledger), 4 * PAGE + 16 * PAGE);
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

/// Of one mremap of this range; its flags are those of the second event.
fn remap(ledger: &mut MappedLedger, old: (u64, u64), new: (u64, u64)) {
    let call = |kind, address| Event {
        old_size_bytes: old.1,
        ..event(kind, address, new.1)
    };
    ledger.apply(&call(EventKind::Remapping, old.0));
    ledger.apply(&call(EventKind::Remapped, new.0));
}

fn of_site(ledger: &MappedLedger, site: u32) -> u64 {
    let mut totals = ledger.totals().filter(|(known, _)| *known == site);
    totals.next().map_or(0, |(_, totals)| totals.live_bytes)
}

/// Two pages of site 1, then four of site 2.
fn neighbours() -> MappedLedger {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 2 * PAGE));
    ledger.apply(&Event {
        site: 2,
        ..event(EventKind::Mapped, 0x10000 + 2 * PAGE, 4 * PAGE)
    });
    ledger
}

#[test]
fn neighbours_that_move_as_one_keep_their_sites() {
    for (length, of_one, of_two) in [(6, 2, 4), (9, 2, 7), (5, 2, 3), (2, 2, 0), (1, 1, 0)] {
        for target in [0x10000, 0x90000] {
            let mut ledger = neighbours();
            let new = (target, length * PAGE);
            remap(&mut ledger, (0x10000, 6 * PAGE), new);
            let held = (of_site(&ledger, 1), of_site(&ledger, 2));
            assert_eq!(held, (of_one * PAGE, of_two * PAGE), "{length} pages");
            unmap(&mut ledger, new.0, new.1);
            assert_eq!(live(&ledger), (0, 0));
        }
    }
}

#[test]
fn pages_from_before_the_session_move_along_without_a_site() {
    // Two pages before and three behind.
    let mut ledger = neighbours();
    let old = (0x10000 - 2 * PAGE, 11 * PAGE);
    remap(&mut ledger, old, (0x90000, 15 * PAGE));
    assert_eq!(live(&ledger), (6 * PAGE, 2));
    unmap(&mut ledger, 0x90000, 2 * PAGE);
    unmap(&mut ledger, 0x90000 + 8 * PAGE, 7 * PAGE);
    assert_eq!(live(&ledger), (6 * PAGE, 2));
}

#[test]
fn what_comes_to_lie_over_a_mapping_replaces_it() {
    let mut ledger = neighbours();
    remap(&mut ledger, (0x50000, PAGE), (0x10000 + PAGE, 2 * PAGE));
    assert_eq!((of_site(&ledger, 1), of_site(&ledger, 2)), (PAGE, 3 * PAGE));
}

#[test]
fn after_lost_events_pieces_are_as_long_as_what_is_mapped() {
    let mut ledger = neighbours();
    let page = |number: u64| 0x10000 + number * PAGE;
    let mapped = [(page(1), page(2)), (page(2), page(3)), (page(5), page(9))];
    ledger.keep_only(mapped.into_iter());
    assert_eq!((of_site(&ledger, 1), of_site(&ledger, 2)), (PAGE, 2 * PAGE));
    ledger.keep_only([(page(20), page(21))].into_iter());
    assert_eq!(live(&ledger), (0, 0));
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
fn a_segment_far_below_is_not_found_by_an_address_above_it() {
    let mut ledger = MappedLedger::default();
    attach(&mut ledger, 0x10000, 8);
    unmap(&mut ledger, 0x10000, 7 * PAGE);
    attach(&mut ledger, 0x90000, 2);
    detach(&mut ledger, 0x10000);
    assert_eq!(live(&ledger), (2 * PAGE, 1));
}

#[test]
fn a_segment_of_unknown_length_covers_its_first_page() {
    let mut ledger = neighbours();
    attach(&mut ledger, 0x10000 + PAGE, 0);
    assert_eq!((of_site(&ledger, 1), of_site(&ledger, 2)), (PAGE, 4 * PAGE));
}

#[test]
fn a_segment_of_unknown_length_is_counted_as_such() {
    let mut ledger = MappedLedger::default();
    attach(&mut ledger, 0x10000, 0);
    detach(&mut ledger, 0x10000);
    assert_eq!(live(&ledger), (0, 0));
    assert_eq!(ledger.lengths_unknown(), 1);
}

#[test]
fn only_the_lengths_asked_for_are_counted_and_all_others_still_cover() {
    let mut ledger = MappedLedger::counting(2 * PAGE..=4 * PAGE);
    for (site, pages) in [(1, 1), (2, 2), (3, 4), (4, 5)] {
        let place = 0x10000 * u64::from(site);
        ledger.apply(&Event {
            site,
            ..event(EventKind::Mapped, place, pages * PAGE)
        });
    }
    let held = |ledger: &MappedLedger| [1, 2, 3, 4].map(|site| of_site(ledger, site) / PAGE);
    assert_eq!(held(&ledger), [0, 2, 4, 0]);
    // One page that is not counted comes to lie over one that is; that it is too short changes nothing.
    ledger.apply(&Event {
        site: 1,
        ..event(EventKind::Mapped, 0x30000, PAGE)
    });
    assert_eq!(held(&ledger), [0, 2, 3, 0]);
    unmap(&mut ledger, 0x40000, 5 * PAGE);
    unmap(&mut ledger, 0x20000, 2 * PAGE);
    assert_eq!(held(&ledger), [0, 0, 3, 0]);
    ledger.apply(&event(EventKind::StillMapped, 0, 0));
    assert_eq!(held(&ledger), [0, 2, 3, 0]);
    assert_eq!(live(&ledger.emptied()), (0, 0));
}

#[test]
fn a_mapping_is_as_old_as_the_call_that_made_it_also_when_it_has_moved() {
    let mut ledger = MappedLedger::default();
    for (site, at_ns) in [(1, 100), (2, 200)] {
        ledger.apply(&Event {
            site,
            at_ns,
            ..event(EventKind::Mapped, 0x10000 * u64::from(site), 2 * PAGE)
        });
    }
    remap(&mut ledger, (0x10000, 2 * PAGE), (0x90000, 8 * PAGE));
    unmap(&mut ledger, 0x90000, PAGE);
    let left = |latest_ns| {
        let left = ledger.left_by_site(latest_ns);
        [1, 2].map(|site| left.get(&site).copied().unwrap_or_default())
    };
    assert_eq!(left(99), [(0, 0), (0, 0)]);
    assert_eq!(left(100), [(7 * PAGE, 1), (0, 0)]);
    assert_eq!(left(200), [(7 * PAGE, 1), (2 * PAGE, 1)]);
}

const MAP_GROWSDOWN: u64 = 0x100;

#[test]
fn of_a_range_in_doubt_what_is_not_mapped_goes() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 10 * PAGE));
    ledger.apply(&event(EventKind::PerhapsGone, 0x10000 + 2 * PAGE, 4 * PAGE));
    assert!(ledger.is_doubted());
    // The start is gone, too, but nobody has doubted it.
    ledger.compare(&[
        (0x10000 + 3 * PAGE, 0x10000 + 4 * PAGE),
        (0x10000 + 6 * PAGE, 0x20000),
    ]);
    assert_eq!(live(&ledger), (7 * PAGE, 1));
    assert!(!ledger.is_doubted());
}

#[test]
fn what_is_not_in_the_ledger_is_not_doubted() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 2 * PAGE));
    ledger.apply(&event(
        EventKind::PerhapsGone,
        0x10000 + 2 * PAGE,
        40 * PAGE,
    ));
    ledger.apply(&event(EventKind::PerhapsGone, 0x10000 - PAGE, PAGE));
    assert!(!ledger.is_doubted());
}

#[test]
fn a_hole_of_unknown_length_reaches_up_to_what_is_mapped_next() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x10000, 10 * PAGE));
    ledger.apply(&event(EventKind::PerhapsGone, 0x10000 + 2 * PAGE, 0));
    ledger.compare(&[
        (0x10000, 0x10000 + 2 * PAGE),
        (0x10000 + 5 * PAGE, 0x10000 + 6 * PAGE),
    ]);
    assert_eq!(live(&ledger), (7 * PAGE, 1));
}

#[test]
fn many_ranges_in_doubt_become_one_that_has_them_all() {
    let mut ledger = MappedLedger::default();
    ledger.apply(&event(EventKind::Mapped, 0x100000, 1000 * PAGE));
    for i in 0..500 {
        let length = if i == 3 { 0 } else { PAGE };
        let address = 0x100000 + 2 * i * PAGE;
        ledger.apply(&event(EventKind::PerhapsGone, address, length));
    }
    assert!(ledger.doubts() <= 64);
    let every_other = (0..500).map(|i| 0x100000 + (2 * i + 1) * PAGE);
    ledger.compare(
        &every_other
            .map(|start| (start, start + PAGE))
            .collect::<Vec<_>>(),
    );
    assert_eq!(live(&ledger), (500 * PAGE, 1));
}

#[test]
fn a_mapping_grows_down_to_the_start_of_its_area_or_to_its_neighbour() {
    let mut ledger = MappedLedger::default();
    let growing = |address| Event {
        flags: MAP_GROWSDOWN,
        ..event(EventKind::Mapped, address, 2 * PAGE)
    };
    ledger.apply(&growing(0x50000));
    ledger.compare(&[(0x10000, 0x20000), (0x50000 - 3 * PAGE, 0x50000 + 2 * PAGE)]);
    assert_eq!(live(&ledger), (5 * PAGE, 1));
    ledger.compare(&[(0x50000 - 3 * PAGE, 0x50000 + 2 * PAGE)]);
    assert_eq!(live(&ledger), (5 * PAGE, 1));
    ledger.apply(&growing(0x50000 - 8 * PAGE));
    ledger.compare(&[(0x50000 - 9 * PAGE, 0x50000 + 2 * PAGE)]);
    assert_eq!(live(&ledger), (11 * PAGE, 2));
    unmap(&mut ledger, 0x10000, 100 * PAGE);
    assert_eq!(live(&ledger), (0, 0));
}

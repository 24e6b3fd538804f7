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
    assert_eq!(ledger.reserved_bytes(), 0);
    let none = Event {
        old_size_bytes: PROT_NONE,
        ..event(EventKind::Mapped, 0x50000, 9 * PAGE)
    };
    ledger.apply(&none);
    assert_eq!(
        (live(&ledger), ledger.reserved_bytes()),
        ((10 * PAGE, 2), 9 * PAGE)
    );
    unmap(&mut ledger, 0x50000, 4 * PAGE);
    assert_eq!(ledger.reserved_bytes(), 5 * PAGE);
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

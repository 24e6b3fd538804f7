//! Owners of growth on mappings made by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::target::Mappings;

const MIB: u64 = 1 << 20;

fn area(start_mib: u64, end_mib: u64, resident_mib: u64, kind: AreaKind, path: &str) -> Area {
    let inode = u64::from(kind == AreaKind::File);
    let line = format!(
        "{:x}-{:x} rw-p 00000000 00:00 {inode} {path}",
        start_mib * MIB,
        end_mib * MIB
    );
    let resident_bytes = resident_mib * MIB;
    let of_file = matches!(kind, AreaKind::File | AreaKind::Shared);
    Area {
        mapping: Mappings::parse(line.as_bytes())
            .iter()
            .next()
            .unwrap()
            .clone(),
        kind,
        resident_bytes,
        anonymous_bytes: if of_file { 0 } else { resident_bytes },
        swapped_bytes: 0,
    }
}

fn anonymous(start_mib: u64, end_mib: u64, resident_mib: u64) -> Area {
    area(start_mib, end_mib, resident_mib, AreaKind::Anonymous, "")
}

fn read(area: Area, traced_mib: u64) -> AreaReading {
    AreaReading {
        area,
        traced_bytes: traced_mib * MIB,
    }
}

fn owners(
    start: Vec<Area>,
    blocks_at_mib: &[u64],
    now: &[AreaReading],
    live_heap_mib: u64,
) -> Owners {
    let mut footprint = Footprint::default();
    footprint.begin(start);
    footprint.note_blocks(blocks_at_mib.iter().map(|mib| mib * MIB + 16));
    footprint.observe(Duration::from_secs(10), now, live_heap_mib * MIB);
    let owners = footprint.owners().unwrap().clone();
    let sum = owners.heap_bytes
        + owners.allocator_bytes
        + owners.mapped_bytes
        + owners.data_bytes
        + owners.file_bytes
        + owners.shared_bytes
        + owners.untracked_bytes
        - owners.swapped_bytes;
    assert_eq!(sum, owners.growth_bytes, "the parts are the whole");
    owners
}

fn mib(count: i64) -> i64 {
    count * MIB.cast_signed()
}

#[test]
fn growth_of_memory_with_blocks_is_theirs_and_the_allocators() {
    let start = vec![anonymous(100, 110, 10)];
    let now = [
        read(anonymous(100, 510, 410), 0),
        read(anonymous(900, 912, 12), 0),
    ];
    let owners = owners(start, &[300], &now, 380);
    assert_eq!(owners.growth_bytes, mib(412));
    assert_eq!(owners.heap_bytes, mib(380));
    assert_eq!(owners.allocator_bytes, mib(20));
    assert_eq!(owners.untracked_bytes, mib(12));
    let ratio = owners.explained_ratio().unwrap();
    assert!((ratio - 400.0 / 412.0).abs() < 1e-9, "{ratio}");
}

#[test]
fn memory_from_before_that_is_touched_now_is_nobodys() {
    let start = vec![anonymous(100, 600, 10)];
    let now = [read(anonymous(100, 600, 310), 0)];
    let owners = owners(start, &[], &now, 0);
    assert_eq!(owners.untracked_bytes, mib(300));
    assert_eq!(owners.explained_ratio(), Some(0.0));
}

#[test]
fn a_traced_mapping_counts_as_far_as_it_is_touched() {
    let now = [
        read(anonymous(100, 600, 40), 40),
        read(anonymous(700, 800, 100), 60),
        read(area(900, 990, 30, AreaKind::File, "/data"), 30),
    ];
    let owners = owners(vec![anonymous(700, 740, 40)], &[], &now, 0);
    assert_eq!(owners.mapped_bytes, mib(130));
    assert_eq!((owners.untracked_bytes, owners.file_bytes), (0, 0));
    assert_eq!(owners.explained_ratio(), Some(1.0));
}

#[test]
fn memory_from_before_that_was_given_back_is_told_apart_from_what_leaks() {
    let start = vec![anonymous(100, 600, 500), anonymous(800, 810, 10)];
    let now = [read(anonymous(800, 910, 110), 0)];
    let owners = owners(start, &[850], &now, 100);
    assert_eq!(owners.untracked_bytes, mib(-500));
    assert_eq!((owners.heap_bytes, owners.allocator_bytes), (mib(100), 0));
    assert_eq!(owners.explained_ratio(), None, "it has not grown");
}

#[test]
fn the_allocators_memory_stays_known_when_its_mappings_change() {
    let mut footprint = Footprint::default();
    footprint.begin(vec![anonymous(500, 510, 10)]);
    footprint.note_blocks([505 * MIB]);
    let now = [read(anonymous(490, 510, 20), 0)];
    footprint.observe(Duration::from_secs(1), &now, 10 * MIB);
    assert_eq!(footprint.owners().unwrap().untracked_bytes, 0);
    // All are freed, and the mapping has grown: no block tells, but one did.
    let now = [read(anonymous(400, 510, 110), 0)];
    footprint.observe(Duration::from_secs(2), &now, 0);
    let owners = footprint.owners().unwrap();
    assert_eq!(owners.allocator_bytes, mib(100));
    assert_eq!(owners.untracked_bytes, 0);
}

#[test]
fn files_and_shared_memory_are_named_by_what_has_grown_most() {
    let file = |mib, path| area(100, 900, mib, AreaKind::File, path);
    let start = vec![file(10, "/lib/a.so"), file(5, "/data/b.mdb")];
    let shared = area(1000, 1100, 50, AreaKind::Shared, "/dev/shm/queue");
    let now = [
        read(file(12, "/lib/a.so"), 0),
        read(file(205, "/data/b.mdb"), 0),
        read(shared, 0),
    ];
    let owners = owners(start, &[], &now, 0);
    assert_eq!(
        owners.largest_file,
        Some(("/data/b.mdb".to_owned(), mib(200)))
    );
    assert_eq!(
        owners.largest_shared,
        Some(("/dev/shm/queue".to_owned(), mib(50)))
    );
    assert_eq!(owners.file_bytes, mib(202));
    assert_eq!(owners.shared_bytes, mib(50));
}

#[test]
fn zeroed_data_behind_a_file_is_data_and_what_is_mapped_there_later_is_not() {
    let file = || area(100, 101, 1, AreaKind::File, "/bin/a");
    let start = || vec![file(), anonymous(101, 141, 2)];
    let grown = [read(file(), 0), read(anonymous(101, 141, 30), 0)];
    assert_eq!(owners(start(), &[], &grown, 0).data_bytes, mib(28));
    let joined = [read(file(), 0), read(anonymous(101, 541, 402), 0)];
    assert_eq!(owners(start(), &[], &joined, 0).untracked_bytes, mib(400));
}

#[test]
fn what_has_gone_to_swap_is_still_held() {
    let mut swapped = anonymous(100, 200, 20);
    swapped.swapped_bytes = 80 * MIB;
    let owners = owners(Vec::new(), &[150], &[read(swapped, 0)], 100);
    assert_eq!(owners.growth_bytes, mib(20));
    assert_eq!(owners.swapped_bytes, mib(80));
    assert_eq!(owners.allocator_bytes, 0);
}

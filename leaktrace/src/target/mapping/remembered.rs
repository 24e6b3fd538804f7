//! Code that a process maps no more, kept so that stacks taken while it was there can be named, and
//! what has taken its place. Pure; reads no file.

use std::ops::Range;

use super::{Mapping, Mappings};

impl Mappings {
    /// Takes over a newer reading, but keeps what is gone of the code and where the newer one has no
    /// other: stacks taken while it was there still have to be named.
    pub fn remember(&mut self, newer: &Self) {
        let code: Vec<Range<u64>> = newer.executable().map(addresses).collect();
        let kept: Vec<Mapping> = self
            .executable()
            .flat_map(|old| without(old, &code))
            .collect();
        let covered: Vec<Range<u64>> = kept.iter().map(addresses).collect();
        // Stacks have frames in code and not in data that has come to its place.
        let seen = newer.iter().flat_map(|mapping| match mapping.executable {
            true => vec![mapping.clone()],
            false => without(mapping, &covered),
        });
        let mut list: Vec<Mapping> = seen.chain(kept).collect();
        list.sort_by_key(|mapping| mapping.start);
        self.list = list;
    }

    /// Addresses of code of files that the newer reading does not show at its place, ascending.
    pub fn code_gone_from(&self, newer: &Self) -> Vec<Range<u64>> {
        let of_files = self.executable().filter(|old| old.file.is_some());
        let gone = of_files.flat_map(|old| {
            let same = newer.executable().filter(|new| is_same_code(old, new));
            let same: Vec<Range<u64>> = same.map(addresses).collect();
            without(old, &same)
        });
        gone.map(|piece| addresses(&piece)).collect()
    }

    /// Addresses of code of files that have other code in the newer reading, ascending.
    pub fn code_replaced_by(&self, newer: &Self) -> Vec<Range<u64>> {
        let of_files = self.executable().filter(|old| old.file.is_some());
        let replaced = of_files.flat_map(|old| {
            let others = newer.executable().filter(|new| !is_same_code(old, new));
            others.map(|new| old.start.max(new.start)..old.end.min(new.end))
        });
        replaced.filter(|range| !range.is_empty()).collect()
    }
}

/// Whether an address has the same byte of the same file behind it in both.
fn is_same_code(one: &Mapping, other: &Mapping) -> bool {
    let bias = |mapping: &Mapping| mapping.start.wrapping_sub(mapping.file_offset);
    one.file == other.file && bias(one) == bias(other)
}

const fn addresses(mapping: &Mapping) -> Range<u64> {
    mapping.start..mapping.end
}

/// What is left of a mapping outside of these ranges, which are ascending.
fn without(mapping: &Mapping, ranges: &[Range<u64>]) -> Vec<Mapping> {
    let mut left = Vec::new();
    let mut start = mapping.start;
    let first = ranges.partition_point(|range| range.end <= mapping.start);
    let end = mapping.end..mapping.end;
    let end = std::iter::once(&end);
    for range in ranges[first..].iter().chain(end) {
        let until = range.start.min(mapping.end);
        if until > start {
            left.push(Mapping {
                start,
                end: until,
                file_offset: mapping.file_offset + (start - mapping.start),
                ..mapping.clone()
            });
        }
        start = start.max(range.end);
        if start >= mapping.end {
            break;
        }
    }
    left
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const OLD: &[u8] = b"\
1000-2000 r-xp 00000000 fe:00 1 /program
3000-7000 r-xp 00001000 fe:00 2 /a.so
8000-9000 rw-p 00000000 00:00 0 
";

    fn remembered(newer: &[u8]) -> Mappings {
        let mut mappings = Mappings::parse(OLD);
        mappings.remember(&Mappings::parse(newer));
        mappings
    }

    #[test]
    fn code_that_is_gone_is_remembered_where_no_other_code_takes_its_place() {
        let mappings = remembered(b"4000-5000 r-xp 00000000 fe:00 5 /other\n");
        let at = |address| mappings.containing(address);
        assert_eq!(at(0x4800).unwrap().path, PathBuf::from("/other"));
        let before = at(0x3fff).unwrap();
        assert_eq!((before.start, before.file_offset), (0x3000, 0x1000));
        let behind = at(0x5000).unwrap();
        assert_eq!((behind.end, behind.file_offset), (0x7000, 0x3000));
        assert_eq!(behind.path, PathBuf::from("/a.so"));
        assert!(at(0x1000).is_some());
        assert!(at(0x8000).is_none(), "data is not remembered");
    }

    #[test]
    fn data_does_not_hide_code_that_was_there() {
        let mappings = remembered(b"2000-4000 rw-p 00000000 00:00 0 \n");
        let at = |address| mappings.containing(address).unwrap();
        assert_eq!(at(0x3800).path, PathBuf::from("/a.so"));
        assert_eq!((at(0x2800).start, at(0x2800).end), (0x2000, 0x3000));
    }

    #[test]
    fn gone_and_replaced_are_told_from_the_same_code_in_other_pieces() {
        let old = Mappings::parse(OLD);
        let same = Mappings::parse(
            b"\
1000-2000 r-xp 00000000 fe:00 1 /program
3000-4000 r-xp 00001000 fe:00 2 /a.so
4000-7000 r-xp 00002000 fe:00 2 /a.so
",
        );
        assert_eq!(old.code_gone_from(&same), []);
        assert_eq!(old.code_replaced_by(&same), []);
        let other = Mappings::parse(
            b"\
1000-2000 r-xp 00000000 fe:00 1 /program
3000-5000 r-xp 00001000 fe:00 3 /b.so
6000-7000 r-xp 00000000 fe:00 2 /a.so
",
        );
        let gone = old.code_gone_from(&other);
        assert_eq!((gone.len(), &gone[0]), (1, &(0x3000..0x7000)));
        assert_eq!(
            old.code_replaced_by(&other),
            [0x3000..0x5000, 0x6000..0x7000]
        );
    }
}

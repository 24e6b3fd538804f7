//! Names that are looked for, and where in a table of strings they stand. A table of some 20 MB is
//! gone through once, piece by piece, and never held as a whole.

use std::collections::HashSet;

use foldhash::{HashMap, HashMapExt};
use memchr::memchr2_iter;

/// No function that is looked for has a name as long as this.
const MAX_NAME_BYTES: usize = 256;

/// Bytes of a table that are looked at in one go: as many as stay in the processor's cache.
const PIECE_BYTES: usize = 256 << 10;

/// A table in which wanted names stand at more places than this is hostile.
const MAX_PLACES: usize = 1 << 20;

/// Names that are looked for.
pub(super) struct Wanted<'a> {
    names: HashSet<&'a [u8]>,
    endings: Vec<&'a [u8]>,
    /// The names by their last byte.
    by_last: Vec<Vec<&'a [u8]>>,
    /// By the last two bytes of a name: whether one that is looked for ends so. Few names of a
    /// program do.
    may_end: Vec<bool>,
}

/// Wanted names by the place of their first byte in a table of strings.
pub(super) type Places = HashMap<u32, String>;

impl<'a> Wanted<'a> {
    /// These names. One that begins with `*` stands for all that end with the rest.
    pub(super) fn new(names: &[&'a str]) -> Self {
        let (endings, names): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.starts_with('*'));
        let endings: Vec<&[u8]> = endings.iter().map(|name| &name.as_bytes()[1..]).collect();
        let names: HashSet<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let mut by_last = vec![Vec::new(); 256];
        for name in &names {
            if let Some(last) = name.last() {
                by_last[usize::from(*last)].push(*name);
            }
        }
        let mut may_end = vec![false; 1 << 16];
        for name in names.iter().chain(&endings) {
            match name {
                [.., before, last] => may_end[two_bytes(*before, *last)] = true,
                [last] => (0..=u8::MAX).for_each(|before| may_end[two_bytes(before, *last)] = true),
                [] => may_end.fill(true),
            }
        }
        Self {
            names,
            endings,
            by_last,
            may_end,
        }
    }

    /// Whether a name is one of them.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.names.contains(name) || self.endings.iter().any(|ending| name.ends_with(ending))
    }

    /// The name at this place in a string table, without the version that .symtab writes into it,
    /// if it is a wanted one.
    pub(super) fn at<'data>(&self, strings: &'data [u8], place: u32) -> Option<&'data [u8]> {
        let rest = strings.get(place as usize..)?;
        // A table of strings without an end would make the search quadratic.
        let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
        let end = rest.iter().position(|byte| is_end(*byte))?;
        Some(&rest[..end]).filter(|name| self.contains(name))
    }

    /// All places in a table of strings at which [`Wanted::at`] finds a name. Names may begin within
    /// others: linkers let `free` be the end of `xfree`. `read` fills a piece from this place on.
    ///
    /// # Errors
    ///
    /// When the table cannot be read, or has absurdly many of them.
    pub(super) fn places(
        &self,
        size_bytes: u64,
        mut read: impl FnMut(&mut [u8], u64) -> std::io::Result<()>,
    ) -> Result<Places, String> {
        let mut places = Places::new();
        let mut piece = vec![0; PIECE_BYTES + MAX_NAME_BYTES];
        // Bytes at the front of the piece of a name whose end has not been read yet.
        let mut kept = 0;
        let mut start = 0;
        while start < size_bytes {
            let length = (size_bytes - start).min(PIECE_BYTES as u64) as usize;
            read(&mut piece[kept..kept + length], start).map_err(|error| error.to_string())?;
            let bytes = &piece[..kept + length];
            let mut name = 0;
            for end in memchr2_iter(0, b'@', bytes) {
                self.note(
                    &bytes[name..end],
                    start + name as u64 - kept as u64,
                    &mut places,
                );
                name = end + 1;
            }
            if places.len() > MAX_PLACES {
                return Err("its symbols have absurdly many of the names of allocators".to_owned());
            }
            let rest = name.max(bytes.len().saturating_sub(MAX_NAME_BYTES))..bytes.len();
            start += length as u64;
            kept = rest.len();
            piece.copy_within(rest, 0);
        }
        Ok(places)
    }

    /// Notes the wanted names that end with this one, which stands at `place`.
    fn note(&self, whole: &[u8], place: u64, places: &mut Places) {
        let last = match whole {
            [.., before, last] if !self.may_end[two_bytes(*before, *last)] => return,
            [.., last] => last,
            [] => return,
        };
        let mut add = |from: usize| {
            let name = &whole[from..];
            if name.len() < MAX_NAME_BYTES
                && let Ok(place) = u32::try_from(place + from as u64)
            {
                places.insert(place, String::from_utf8_lossy(name).into_owned());
            }
        };
        for wanted in &self.by_last[usize::from(*last)] {
            if whole.ends_with(wanted) {
                add(whole.len() - wanted.len());
            }
        }
        for ending in &self.endings {
            if whole.ends_with(ending) {
                (0..=whole.len() - ending.len()).for_each(&mut add);
            }
        }
    }
}

fn two_bytes(before: u8, last: u8) -> usize {
    usize::from(before) << 8 | usize::from(last)
}

/// Behind `@`, .symtab has the version.
fn is_end(byte: u8) -> bool {
    matches!(byte, 0 | b'@')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(wanted: &Wanted<'_>, table: &[u8]) -> Places {
        let read = |piece: &mut [u8], place: u64| {
            let place = place as usize;
            piece.copy_from_slice(&table[place..place + piece.len()]);
            Ok(())
        };
        match wanted.places(table.len() as u64, read) {
            Ok(places) => places,
            Err(reason) => panic!("{reason}"),
        }
    }

    fn assert_equal_to_one_by_one(wanted: &Wanted<'_>, table: &[u8]) {
        let found = places(wanted, table);
        for place in 0..table.len() as u32 {
            let expected = wanted.at(table, place).map(String::from_utf8_lossy);
            assert_eq!(found.get(&place).map(String::as_str), expected.as_deref());
        }
    }

    #[test]
    fn names_are_found_at_every_place_where_they_begin() {
        let wanted = Wanted::new(&["malloc", "mi_malloc", "free", "f", "*mallctl"]);
        let table =
            b"\0mi_malloc\0xfree\0free@@V_1\0malloc@free@f\0je_mallctl\0mallctl\0freed\0free";
        assert_equal_to_one_by_one(&wanted, table);
        let found = places(&wanted, table);
        let of = |name| found.values().filter(|found| *found == name).count();
        // The last one has no end.
        assert_eq!((of("malloc"), of("free"), of("mi_malloc")), (2, 3, 1));
        assert_eq!(
            (of("mallctl"), of("je_mallctl"), of("e_mallctl")),
            (2, 1, 1)
        );
    }

    #[test]
    fn names_across_pieces_and_very_long_ones_are_found_too() {
        let wanted = Wanted::new(&["malloc", "*mallctl"]);
        for before in [
            PIECE_BYTES - 7,
            PIECE_BYTES - 3,
            PIECE_BYTES,
            PIECE_BYTES + 1,
        ] {
            let mut table = vec![b'x'; before];
            table.extend(b"malloc\0");
            table.extend(vec![b'y'; PIECE_BYTES - 2]);
            table.extend(b"mallctl\0malloc@V\0");
            assert_equal_to_one_by_one(&wanted, &table);
        }
    }

    #[test]
    fn a_table_full_of_wanted_names_is_refused() {
        let wanted = Wanted::new(&["f"]);
        let read = |piece: &mut [u8], _| {
            for (number, byte) in piece.iter_mut().enumerate() {
                *byte = if number % 2 == 0 { b'f' } else { 0 };
            }
            Ok(())
        };
        assert!(wanted.places(64 << 20, read).is_err());
    }
}

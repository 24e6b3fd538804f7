//! The lines of a perf map (`START SIZE NAME`, both numbers in hex) → the name of the code at an
//! address. A line that is none of these is counted and left out. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Names are cut behind this.
const MAX_NAME_CHARS: usize = 1024;

/// A map that names more pieces of code than this is not kept: each takes some hundred bytes. The
/// largest programs have some hundred thousand.
pub(super) const MAX_PIECES: usize = 2_000_000;

/// Named code that a runtime has made. Where lines speak of the same addresses the later one
/// holds: code was replaced.
#[derive(Debug, Default)]
pub(super) struct PerfMap {
    /// By the first address.
    pieces: BTreeMap<u64, Piece>,
    /// The beginning of a line whose end has not been written yet.
    rest: Vec<u8>,
    /// Lines that are not what they should be.
    pub(super) malformed: u64,
    /// Whether there were too many pieces. Then none is kept: to keep the first would be to call code
    /// by names that later lines have taken from it.
    pub(super) is_full: bool,
}

/// What is left of the code of one line.
#[derive(Clone, Debug)]
struct Piece {
    /// The address behind it.
    end: u64,
    /// Where the code of the line began.
    start_of_code: u64,
    name: Arc<str>,
}

impl PerfMap {
    /// Takes what has been written to the file since.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        if !self.rest.is_empty() {
            self.rest.extend(lines.next().unwrap_or_default());
            if self.rest.ends_with(b"\n") {
                let line = std::mem::take(&mut self.rest);
                self.take_line(&line);
            }
        }
        for line in lines {
            if self.is_full {
                return;
            }
            match line.ends_with(b"\n") {
                true => self.take_line(line),
                false => self.rest = line.to_vec(),
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match parse(line) {
            _ if line.is_empty() || self.is_full => {}
            Some((start, end, name)) => self.put(start, end, name.into()),
            None => self.malformed += 1,
        }
        if self.pieces.len() > MAX_PIECES {
            *self = Self {
                is_full: true,
                malformed: self.malformed,
                ..Self::default()
            };
        }
    }

    /// Whether no line has named anything.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Name of the code at this address, and how far behind its start the address is.
    pub(super) fn name(&self, address: u64) -> Option<(&str, u64)> {
        let (_, piece) = self.pieces.range(..=address).next_back()?;
        (address < piece.end).then(|| (&*piece.name, address - piece.start_of_code))
    }

    fn put(&mut self, start: u64, end: u64, name: Arc<str>) {
        if let Some((_, before)) = self.pieces.range_mut(..start).next_back()
            && before.end > start
        {
            let tail = before.clone();
            before.end = start;
            if tail.end > end {
                self.pieces.insert(end, tail);
            }
        }
        let covered: Vec<u64> = self.pieces.range(start..end).map(|(at, _)| *at).collect();
        for at in covered {
            if let Some(piece) = self.pieces.remove(&at)
                && piece.end > end
            {
                self.pieces.insert(end, piece);
            }
        }
        let piece = Piece {
            end,
            start_of_code: start,
            name,
        };
        self.pieces.insert(start, piece);
    }
}

/// First address, the address behind the last, and name.
fn parse(line: &[u8]) -> Option<(u64, u64, String)> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let start = hex(fields.next()?)?;
    let size_bytes = hex(fields.next()?).filter(|size_bytes| *size_bytes > 0)?;
    let name = String::from_utf8_lossy(fields.next()?);
    let name: String = name.trim().chars().take(MAX_NAME_CHARS).collect();
    let end = start.checked_add(size_bytes)?;
    (!name.is_empty()).then_some((start, end, name))
}

/// The JVM writes `0x` before its numbers, others do not.
fn hex(digits: &[u8]) -> Option<u64> {
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    // A sign would pass from_str_radix.
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> PerfMap {
        let mut map = PerfMap::default();
        map.take(text.as_bytes());
        map
    }

    #[test]
    fn names_hold_from_the_first_byte_to_the_last() {
        let map = map("1000 20 LazyCompile:*add /app/shop.js:3:1\n0x2000 0x8 Lshop/Cart;::add\n");
        assert_eq!(map.name(0xfff), None);
        let add = "LazyCompile:*add /app/shop.js:3:1";
        assert_eq!(map.name(0x1000), Some((add, 0)));
        assert_eq!(map.name(0x101f), Some((add, 0x1f)));
        assert_eq!(map.name(0x1020), None);
        assert_eq!(map.name(0x2004), Some(("Lshop/Cart;::add", 4)));
        assert_eq!(map.malformed, 0);
    }

    #[test]
    fn the_later_line_holds_where_two_speak_of_the_same_code() {
        let map = map("1000 100 old\n1040 20 new\n10f0 40 last\n");
        assert_eq!(map.name(0x103f), Some(("old", 0x3f)));
        assert_eq!(map.name(0x1040), Some(("new", 0)));
        assert_eq!(map.name(0x1060), Some(("old", 0x60)));
        assert_eq!(map.name(0x10ef), Some(("old", 0xef)));
        assert_eq!(map.name(0x112f), Some(("last", 0x3f)));
        let over = self::map("1000 10 a\n1010 10 b\n1020 20 c\n1008 20 d\n");
        assert_eq!(over.name(0x1007), Some(("a", 7)));
        assert_eq!(over.name(0x1010), Some(("d", 8)));
        assert_eq!(over.name(0x1028), Some(("c", 8)));
    }

    #[test]
    fn malformed_lines_are_counted_and_left_out() {
        let map = map(concat!(
            "no numbers at all\n",
            "1000\n",
            "1000 10\n",
            "1000 10 \n",
            "+1000 10 signed\n",
            "1000 0 empty\n",
            "ffffffffffffffff 10 around\n",
            "11111111111111111 10 long\n",
            "\n",
            "1000 10 good\n",
        ));
        assert_eq!(map.malformed, 8);
        assert_eq!(map.name(0x1000), Some(("good", 0)));
    }

    #[test]
    fn a_map_of_too_many_pieces_names_nothing_until_it_is_written_anew() {
        let mut map = PerfMap::default();
        let line = |number: usize| format!("{:x} 1 a\n", number * 2);
        let text: String = (0..MAX_PIECES).map(line).collect();
        map.take(text.as_bytes());
        assert_eq!(map.name(0), Some(("a", 0)));
        map.take(line(MAX_PIECES).as_bytes());
        map.take(b"0 1 b\n1 1");
        assert!(map.is_full && map.is_empty() && map.rest.is_empty());
    }

    #[test]
    fn lines_that_come_in_pieces_are_put_together() {
        let mut map = map("1000 10 fi");
        assert!(map.is_empty());
        map.take(b"rst\n1010 10 sec");
        assert_eq!(map.name(0x1000), Some(("first", 0)));
        assert_eq!(map.name(0x1010), None);
        map.take(b"ond\n");
        assert_eq!(map.name(0x1010), Some(("second", 0)));
        assert_eq!(map.malformed, 0);
    }
}

//! /proc/PID/smaps → [`Area`]s: what of each mapping is in memory. Reads /proc and changes nothing;
//! judges nothing.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use super::{Mapping, Mappings, Process};

/// The text is read up to here: a million mappings have some 700 bytes each.
const MAX_SMAPS_BYTES: u64 = 1 << 30;

/// Entries of /proc/PID/pagemap that are read at once.
const PAGES_AT_ONCE: usize = 64 * 1024;

/// Bits of an entry of pagemap (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// What kind of memory a mapping is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AreaKind {
    /// Memory of no file, private to the process; the heap of brk, too.
    Anonymous,
    /// The stack of the main thread.
    Stack,
    /// A file on a disk.
    File,
    /// Memory that can be shared: tmpfs, memfd, System V, shared anonymous mappings.
    Shared,
}

/// A mapping and what of it is in memory, bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Where it is, and what is mapped.
    pub mapping: Mapping,
    /// What kind of memory it is.
    pub kind: AreaKind,
    /// Resident, of any kind.
    pub resident_bytes: u64,
    /// Of what is resident, pages that belong to no file: all of an anonymous mapping, and what was
    /// written to a private mapping of a file.
    pub anonymous_bytes: u64,
    /// In swap.
    pub swapped_bytes: u64,
}

impl Area {
    /// All areas of a process, ascending; absent when it has ended or may not be looked at. The
    /// kernel walks the page tables for this: it takes the longer the more is resident.
    pub fn of(process: &Process) -> Option<Vec<Self>> {
        let file = File::open(format!("/proc/{}/smaps", process.shown_as())).ok()?;
        let areas = parse(BufReader::new(file.take(MAX_SMAPS_BYTES)));
        (!areas.is_empty() && !process.has_exited()).then_some(areas)
    }

    /// Bytes between two addresses that are resident or in swap; absent when that cannot be read.
    pub fn held_between(process: &Process, start: u64, end: u64) -> Option<u64> {
        let page_bytes = rustix::param::page_size() as u64;
        let file = File::open(format!("/proc/{}/pagemap", process.shown_as())).ok()?;
        let (mut page, last) = (start / page_bytes, end.div_ceil(page_bytes));
        let mut entries = vec![0; PAGES_AT_ONCE.min((last - page) as usize) * size_of::<u64>()];
        let mut held = 0;
        while page < last {
            let wanted = (entries.len() / size_of::<u64>()).min((last - page) as usize);
            let part = &mut entries[..wanted * size_of::<u64>()];
            file.read_exact_at(part, page * size_of::<u64>() as u64)
                .ok()?;
            let words = part.as_chunks::<8>().0;
            held += words
                .iter()
                .filter(|word| u64::from_ne_bytes(**word) & (PRESENT | SWAPPED) != 0)
                .count() as u64;
            page += wanted as u64;
        }
        Some(held * page_bytes)
    }

    /// First address.
    pub const fn start(&self) -> u64 {
        self.mapping.start
    }

    /// First address behind it.
    pub const fn end(&self) -> u64 {
        self.mapping.end
    }

    /// Resident and swapped.
    pub const fn held_bytes(&self) -> u64 {
        self.resident_bytes + self.swapped_bytes
    }
}

fn parse(text: impl BufRead) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    for line in text.split(b'\n').map_while(Result::ok) {
        // A header begins with an address, in small letters and digits; a field with a capital.
        if !line.first().is_some_and(u8::is_ascii_uppercase) {
            areas.extend(header(&line));
            continue;
        }
        let Some(area) = areas.last_mut() else {
            continue;
        };
        let place = if line.starts_with(b"Rss:") {
            &mut area.resident_bytes
        } else if line.starts_with(b"Anonymous:") {
            &mut area.anonymous_bytes
        } else if line.starts_with(b"Swap:") {
            &mut area.swapped_bytes
        } else {
            continue;
        };
        *place = kilobytes(&line).unwrap_or(0);
    }
    areas
}

fn header(line: &[u8]) -> Option<Area> {
    let mapping = Mappings::parse(line).iter().next()?.clone();
    let shared = line.split(|byte| *byte == b' ').nth(1)?.get(3) == Some(&b's');
    Some(Area {
        kind: kind(&mapping, shared),
        mapping,
        resident_bytes: 0,
        anonymous_bytes: 0,
        swapped_bytes: 0,
    })
}

fn kind(mapping: &Mapping, shared: bool) -> AreaKind {
    let path = mapping.path.to_string_lossy();
    let of_tmpfs = ["/dev/shm/", "/memfd:", "/SYSV", "/dev/zero", "[anon_shmem:"];
    if of_tmpfs.iter().any(|name| path.starts_with(name)) {
        AreaKind::Shared
    } else if mapping.file.is_some() {
        AreaKind::File
    } else if path == "[stack]" {
        AreaKind::Stack
    } else if shared {
        AreaKind::Shared
    } else {
        AreaKind::Anonymous
    }
}

fn kilobytes(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?;
    let number: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\
55d0c0a00000-55d0c0a01000 r-xp 00001000 fe:00 1234                       /usr/bin/a b
Size:                  4 kB
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
55d0c1a00000-55d0c1b00000 rw-p 00000000 00:00 0                          [heap]
Rss:                 512 kB
Anonymous:           512 kB
Swap:                 64 kB
SwapPss:              99 kB
7f0000000000-7f0000001000 rw-s 00000000 00:01 77                         /dev/zero (deleted)
Rss:                   4 kB
7f0000002000-7f0000003000 rw-s 00000000 00:1a 78                         /dev/shm/queue
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
Rss:                  12 kB
Anonymous:            12 kB
";

    #[test]
    fn areas_have_their_kind_and_what_is_in_memory() {
        let areas = parse(TEXT);
        let kinds: Vec<AreaKind> = areas.iter().map(|area| area.kind).collect();
        assert_eq!(
            kinds,
            [
                AreaKind::File,
                AreaKind::Anonymous,
                AreaKind::Shared,
                AreaKind::Shared,
                AreaKind::Stack
            ]
        );
        assert_eq!(areas[1].resident_bytes, 512 << 10);
        assert_eq!(areas[1].swapped_bytes, 64 << 10);
        assert_eq!(areas[1].held_bytes(), 576 << 10);
        assert_eq!(areas[4].anonymous_bytes, 12 << 10);
    }

    #[test]
    fn what_a_process_has_touched_is_what_is_found() {
        use std::io::{Read, Write};
        use std::process::Stdio;
        // What has echoed a line waits for the next, and touches nothing meanwhile.
        let mut child = std::process::Command::new("cat");
        child.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        for _ in 0..2 {
            child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        }
        let process = Process::open(child.id()).unwrap();
        let areas = Area::of(&process).unwrap();
        let held: u64 = areas
            .iter()
            .map(|area| Area::held_between(&process, area.start(), area.end()).unwrap_or(0))
            .sum();
        let said: u64 = areas.iter().map(Area::held_bytes).sum();
        assert!(said > 0);
        // Special mappings of the kernel are counted by neither or by one of the two.
        assert!(held.abs_diff(said) <= 64 << 10, "{held} and {said}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Area::of(&process), None);
    }
}

//! What the kernel says about a process. Changes nothing.

use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Processor time, user and kernel, that the process has used so far.
pub fn cpu_time(pid: u32) -> Duration {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).expect("cannot read the statistics of a process");
    // The name in parentheses may contain spaces; utime and stime are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number of ticks"))
        .sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Largest resident set that the process has had.
pub fn peak_resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .expect("cannot read the status of a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("a peak of the resident set");
    let kib: u64 = line
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .expect("a number of KiB");
    kib * 1024
}

/// The bytes that the process has at this address, in hex: breakpoints included.
pub fn code_at(pid: u32, address: u64, length: usize) -> String {
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("cannot open the memory");
    let mut bytes = vec![0; length];
    memory
        .read_exact_at(&mut bytes, address)
        .expect("cannot read code of a process");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where in its file the code at this address of a process is.
pub(crate) fn file_offset_of(pid: u32, address: u64) -> u64 {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("cannot read mappings");
    let offset = maps.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let offset = number(words.nth(1)?)?;
        (start..end)
            .contains(&address)
            .then(|| address - start + offset)
    });
    offset.expect("an address of code that is mapped")
}

/// Whether this machine runs this version of Linux, or a newer one.
pub fn kernel_is_at_least(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    (number(), number()) >= (Some(major), Some(minor))
}

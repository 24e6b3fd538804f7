//! Lengths of mappings of huge pages, which the kernel rounds up to whole ones. Reads the kernel's
//! default size once.

/// Flag of mmap that asks for huge pages, and where their size stands in the flags: the exponent of a
/// power of two, 0 for the kernel's default (uapi/linux/mman.h).
const MAP_HUGETLB: u64 = 0x40000;
const MAP_HUGE_SHIFT: u32 = 26;
const MAP_HUGE_MASK: u64 = 0x3f;

/// What x86-64 kernels have unless they were started with another size.
const USUAL_BYTES: u64 = 2 << 20;

/// Size of a huge page when none is asked for, bytes.
pub(super) fn default_size_bytes() -> u64 {
    std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| default_of(&text))
        .unwrap_or(USUAL_BYTES)
}

fn default_of(meminfo: &str) -> Option<u64> {
    let mut lines = meminfo.lines();
    let rest = lines.find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    let kib: u64 = rest.trim().strip_suffix(" kB")?.parse().ok()?;
    let bytes = kib.checked_mul(1024)?;
    bytes.is_power_of_two().then_some(bytes)
}

/// What is mapped by an mmap of this length with these flags.
pub(super) fn mapped_bytes(length: u64, flags: u64, default_bytes: u64) -> u64 {
    if flags & MAP_HUGETLB == 0 {
        return length;
    }
    let page_bytes = match (flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK {
        0 => default_bytes,
        exponent => 1 << exponent,
    };
    length
        .checked_next_multiple_of(page_bytes)
        .unwrap_or(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn lengths_are_whole_pages_of_the_size_that_was_asked_for() {
        let of = |length, flags| mapped_bytes(length, flags, 2 * MIB);
        assert_eq!(of(5, 0x22), 5);
        assert_eq!(of(1, MAP_HUGETLB), 2 * MIB);
        assert_eq!(of(2 * MIB, MAP_HUGETLB), 2 * MIB);
        assert_eq!(of(3 * MIB, MAP_HUGETLB | 21 << MAP_HUGE_SHIFT), 4 * MIB);
        assert_eq!(of(3 * MIB, MAP_HUGETLB | 30 << MAP_HUGE_SHIFT), 1 << 30);
        assert_eq!(of(u64::MAX, MAP_HUGETLB), u64::MAX);
    }

    #[test]
    fn the_default_is_what_the_kernel_says() {
        let text = "HugePages_Total:       0\nHugepagesize:       2048 kB\nHugetlb:  0 kB\n";
        assert_eq!(default_of(text), Some(2 * MIB));
        assert_eq!(default_of("Hugepagesize: 3 kB\n"), None);
        assert_eq!(default_of(""), None);
    }
}

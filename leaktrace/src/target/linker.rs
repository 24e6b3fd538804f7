//! Where a process's dynamic linker is, from what the kernel has told the process. Reads
//! /proc/PID/auxv.

use super::{FileId, Mappings, Process};

/// The linker calls this when the list of objects has changed, so that debuggers can put a
/// breakpoint there; glibc and musl export it by this name. It does nothing itself.
pub const OBJECTS_CHANGED: &str = "_dl_debug_state";

/// Where the linker says what it is doing: `struct r_debug` of link.h, exported by glibc.
pub const LINKER_STATE: &str = "_r_debug";

/// Offset of `r_state` in it.
pub const LINKER_STATE_OFFSET: u64 = 24;

const AT_BASE: u64 = 7;
const ENTRY_BYTES: usize = 16;

impl Process {
    /// The file of the process's dynamic linker; absent for static programs.
    pub fn linker(&self, mappings: &Mappings) -> Option<FileId> {
        let auxv = std::fs::read(format!("/proc/{}/auxv", self.pid())).ok()?;
        mappings.containing(base(&auxv)?)?.file
    }
}

/// Where the kernel has mapped the linker.
fn base(auxv: &[u8]) -> Option<u64> {
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_ne_bytes);
    auxv.chunks_exact(ENTRY_BYTES)
        .find(|entry| word(&entry[..8]) == Some(AT_BASE))
        .and_then(|entry| word(&entry[8..]))
        .filter(|base| *base != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auxv(entries: &[(u64, u64)]) -> Vec<u8> {
        let words = entries.iter().flat_map(|(key, value)| [*key, *value]);
        words.flat_map(u64::to_ne_bytes).collect()
    }

    #[test]
    fn the_linker_is_where_the_kernel_says() {
        let entries = auxv(&[(3, 0x40), (AT_BASE, 0x7f00_0000_0000), (0, 0)]);
        assert_eq!(base(&entries), Some(0x7f00_0000_0000));
    }

    #[test]
    fn static_programs_and_cut_files_have_none() {
        assert_eq!(base(&auxv(&[(AT_BASE, 0), (0, 0)])), None);
        assert_eq!(base(&auxv(&[(AT_BASE, 5)])[..12]), None);
        assert_eq!(base(&[]), None);
    }
}

//! Where a process's dynamic linker is, what it is doing, and whether the kernel guards the process, from
//! what the kernel has told it. Reads /proc/PID/auxv and the linker's state.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use super::{FileId, Mappings, Process};

/// The linker calls this when the list of objects has changed, so that debuggers can put a
/// breakpoint there; glibc and musl export it by this name. It does nothing itself.
pub const OBJECTS_CHANGED: &str = "_dl_debug_state";

/// Where the linker says what it is doing: `struct r_debug` of link.h, exported by glibc.
pub const LINKER_STATE: &str = "_r_debug";

/// Offset of `r_state` in it.
pub const LINKER_STATE_OFFSET: u64 = 24;

/// `r_state` while nothing is being loaded or unloaded (link.h).
const RT_CONSISTENT: u32 = 0;

const AT_BASE: u64 = 7;
const AT_SECURE: u64 = 23;
const ENTRY_BYTES: usize = 16;

impl Process {
    /// The file of the process's dynamic linker; absent for static programs.
    pub fn linker(&self, mappings: &Mappings) -> Option<FileId> {
        mappings.containing(value(&self.auxv()?, AT_BASE)?)?.file
    }

    /// Whether the linker is mapping objects, or has not begun to. `state` is the address of [`LINKER_STATE`]
    /// and [`LINKER_STATE_OFFSET`]. `false` when that cannot be read.
    pub fn is_linking(&self, state: u64) -> bool {
        let Ok(memory) = File::open(format!("/proc/{}/mem", self.pid())) else {
            return false;
        };
        let read = |address| {
            let mut word = [0; 4];
            let done = memory.read_exact_at(&mut word, address);
            done.is_ok().then(|| u32::from_ne_bytes(word))
        };
        // The version, the first field, is 0 before the linker begins.
        let begun = state.checked_sub(LINKER_STATE_OFFSET).and_then(read);
        let now = read(state);
        begun == Some(0) || now.is_some_and(|now| now != RT_CONSISTENT)
    }

    /// Whether the process runs a program that its caller may not read, or that has given it other rights
    /// (set-uid, set-gid, capabilities): at the exec of such a program the kernel closes inherited perf
    /// events. Others look the same, of which it does not close them: one that has given up rights of its own
    /// since, and one for which a security module has set AT_SECURE (another domain of SELinux, another profile
    /// of AppArmor). With `fs.suid_dumpable` 1 it does not close them at a set-uid program either. One that may
    /// not be read, and has made itself dumpable, is not recognised.
    pub fn is_guarded(&self) -> bool {
        let is_secure = self.auxv().and_then(|auxv| value(&auxv, AT_SECURE));
        // What a guarded process maps is root's to read, and its directory its own.
        let owner = |path: String| fs::metadata(path).ok().map(|of| of.uid());
        let pid = self.pid();
        let own = owner(format!("/proc/{pid}")).zip(owner(format!("/proc/{pid}/maps")));
        is_secure.is_some() || own.is_some_and(|(process, maps)| process != maps)
    }

    fn auxv(&self) -> Option<Vec<u8>> {
        fs::read(format!("/proc/{}/auxv", self.pid())).ok()
    }
}

/// A value that the kernel has passed to the program; absent when it is missing or 0.
fn value(auxv: &[u8], key: u64) -> Option<u64> {
    let word = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_ne_bytes);
    auxv.chunks_exact(ENTRY_BYTES)
        .find(|entry| word(&entry[..8]) == Some(key))
        .and_then(|entry| word(&entry[8..]))
        .filter(|value| *value != 0)
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
        assert_eq!(value(&entries, AT_BASE), Some(0x7f00_0000_0000));
    }

    #[test]
    fn static_programs_and_cut_files_have_none() {
        assert_eq!(value(&auxv(&[(AT_BASE, 0), (0, 0)]), AT_BASE), None);
        assert_eq!(value(&auxv(&[(AT_BASE, 5)])[..12], AT_BASE), None);
        assert_eq!(value(&[], AT_BASE), None);
    }
}

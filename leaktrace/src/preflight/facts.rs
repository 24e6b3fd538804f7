//! What there is to know of this machine and of leaktrace's own privileges. Reads files under /proc
//! and /sys and creates a BPF map that it closes at once; judges nothing.

use std::fs;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use super::helpers::Helpers;

/// What there is to know of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// `uname -m`.
    pub machine: String,
    /// Effective capabilities of leaktrace, one bit each.
    pub capabilities: u64,
    /// What the bpf() system call answers.
    pub bpf: BpfSupport,
    /// What it offers to programs.
    pub helpers: Helpers,
    /// The kernel describes its types (BTF).
    pub has_btf: bool,
    /// The kernel has uprobes.
    pub has_uprobes: bool,
    /// Whether the kernel is locked down.
    pub lockdown: Lockdown,
    /// Most memory that a process may lock, bytes; absent when unlimited.
    pub memlock_limit_bytes: Option<u64>,
}

/// What the bpf() system call answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BpfSupport {
    /// It made a map.
    Works,
    /// The kernel is built without it.
    NotBuilt,
    /// It is forbidden: by missing capabilities, a seccomp filter, a container, or the kernel.
    Forbidden,
    /// It failed otherwise; says how.
    Failed(String),
}

/// Kernel lockdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Not locked down, or not built in.
    None,
    /// Forbids changing the running kernel; tracing works.
    Integrity,
    /// Forbids reading its memory, too, to BPF programs as well.
    Confidentiality,
}

impl Facts {
    /// Looks at this machine. What cannot be read counts as not there.
    pub fn collect() -> Self {
        let system = rustix::system::uname();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
        Self {
            release: system.release().to_string_lossy().into_owned(),
            machine: system.machine().to_string_lossy().into_owned(),
            capabilities: parse_capabilities(&status).unwrap_or(0),
            bpf: probe_bpf(),
            helpers: Helpers::collect(),
            has_btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            has_uprobes: Path::new("/sys/bus/event_source/devices/uprobe").exists(),
            lockdown: parse_lockdown(&lockdown),
            memlock_limit_bytes: rustix::process::getrlimit(rustix::process::Resource::Memlock)
                .current,
        }
    }
}

/// Reads the line `CapEff:` of /proc/PID/status.
fn parse_capabilities(status: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    u64::from_str_radix(value?.trim(), 16).ok()
}

/// Reads /sys/kernel/security/lockdown, in which the current state stands in brackets.
fn parse_lockdown(text: &str) -> Lockdown {
    if text.contains("[confidentiality]") {
        Lockdown::Confidentiality
    } else if text.contains("[integrity]") {
        Lockdown::Integrity
    } else {
        Lockdown::None
    }
}

/// The part of the kernel's `union bpf_attr` that BPF_MAP_CREATE needs.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// Creates an array of one entry: the least that every privilege check applies to.
fn probe_bpf() -> BpfSupport {
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let attributes = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        map_flags: 0,
    };
    // SAFETY: BPF_MAP_CREATE reads `size` bytes at the pointer, which is to a live #[repr(C)] value
    // of that size without padding, and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            &raw const attributes,
            size_of::<MapCreate>(),
        )
    };
    if result < 0 {
        return judge_bpf_error(&std::io::Error::last_os_error());
    }
    match i32::try_from(result) {
        Ok(descriptor) => {
            // SAFETY: the call has just returned this descriptor, and nothing else knows it.
            drop(unsafe { OwnedFd::from_raw_fd(descriptor) });
            BpfSupport::Works
        }
        Err(error) => BpfSupport::Failed(error.to_string()),
    }
}

fn judge_bpf_error(error: &std::io::Error) -> BpfSupport {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => BpfSupport::NotBuilt,
        // Up to 5.10 a low limit of locked memory is EPERM as well; the requirements tell them
        // apart by the capabilities.
        Some(libc::EPERM | libc::EACCES) => BpfSupport::Forbidden,
        _ => BpfSupport::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read_not_permitted_ones() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000008000080000\n";
        assert_eq!(parse_capabilities(status), Some(0x80_0008_0000));
        assert_eq!(parse_capabilities("CapEff:\tzz\n"), None);
        assert_eq!(parse_capabilities(""), None);
    }

    #[test]
    fn lockdown_is_the_word_in_brackets() {
        let none = "[none] integrity confidentiality\n";
        assert_eq!(parse_lockdown(none), Lockdown::None);
        let integrity = "none [integrity] confidentiality\n";
        assert_eq!(parse_lockdown(integrity), Lockdown::Integrity);
        let confidentiality = "none integrity [confidentiality]\n";
        assert_eq!(parse_lockdown(confidentiality), Lockdown::Confidentiality);
        assert_eq!(parse_lockdown(""), Lockdown::None);
    }

    #[test]
    fn bpf_errors_tell_a_kernel_without_bpf_from_a_lack_of_privilege() {
        let judge = |errno| judge_bpf_error(&std::io::Error::from_raw_os_error(errno));
        assert_eq!(judge(libc::ENOSYS), BpfSupport::NotBuilt);
        assert_eq!(judge(libc::EPERM), BpfSupport::Forbidden);
        assert!(matches!(judge(libc::ENOMEM), BpfSupport::Failed(_)));
    }

    #[test]
    fn facts_of_this_machine_can_be_collected() {
        let facts = Facts::collect();
        assert!(!facts.release.is_empty() && !facts.machine.is_empty());
    }
}

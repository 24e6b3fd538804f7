//! What bounds the memory of a process and how much of each bound is used, with the kinds of
//! memory that the process holds. Reads /proc and the cgroup files, and judges nothing.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::Process;
use super::process::{field, read};

/// A limit above this is none: version 1 of cgroups says "unlimited" as a number.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// What runs full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BoundKind {
    /// `memory.max` of the process's cgroup or of one above it.
    Cgroup,
    /// `RLIMIT_AS`, against the address space.
    AddressSpace,
    /// The memory of the machine.
    Machine,
}

impl BoundKind {
    /// The word that reports use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::AddressSpace => "address-space",
            Self::Machine => "machine",
        }
    }
}

/// A bound and what is used of it, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What runs full.
    pub kind: BoundKind,
    /// Of several of a kind, which: the depth of a cgroup among groups.
    pub level: usize,
    /// Where it is full.
    pub limit_bytes: u64,
    /// What is used, without what the kernel gives back before it refuses (inactive file pages).
    pub used_bytes: u64,
}

/// The memory of a process by kind, bytes, and its bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Resident memory of no file: heaps, stacks, private mappings.
    pub anonymous_bytes: u64,
    /// Resident pages of files.
    pub file_bytes: u64,
    /// Resident shared memory.
    pub shared_bytes: u64,
    /// Anonymous memory in swap.
    pub swapped_bytes: u64,
    /// Page faults that had to wait for a disk, since the process began.
    pub major_faults: u64,
    /// What bounds it.
    pub bounds: Vec<Bound>,
}

impl Bound {
    /// What can still be used.
    pub const fn left_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }
}

impl MemoryUse {
    /// Reads it; absent when the process has ended.
    pub fn of(process: &Process) -> Option<Self> {
        let pid = process.shown_as();
        let status = read(pid, "status").ok()?;
        let mut memory = Self {
            anonymous_bytes: kilobytes(&status, "RssAnon:")?,
            file_bytes: kilobytes(&status, "RssFile:")?,
            shared_bytes: kilobytes(&status, "RssShmem:")?,
            swapped_bytes: kilobytes(&status, "VmSwap:").unwrap_or(0),
            major_faults: read(pid, "stat")
                .ok()
                .and_then(|stat| major_faults(&stat))
                .unwrap_or(0),
            bounds: Vec::new(),
        };
        memory.bounds.extend(cgroups(pid));
        memory.bounds.extend(address_space(pid, &status));
        memory.bounds.extend(machine());
        Some(memory)
    }

    /// Of each kind, the bound that has the least left.
    pub fn nearest_bounds(&self) -> Vec<&Bound> {
        let mut nearest: Vec<&Bound> = Vec::new();
        for bound in &self.bounds {
            match nearest.iter_mut().find(|known| known.kind == bound.kind) {
                Some(known) if known.left_bytes() <= bound.left_bytes() => {}
                Some(known) => *known = bound,
                None => nearest.push(bound),
            }
        }
        nearest
    }

    /// Resident bytes of all kinds.
    pub fn resident_bytes(&self) -> u64 {
        self.anonymous_bytes + self.file_bytes + self.shared_bytes
    }
}

/// The limits of the cgroup and of those above it.
fn cgroups(pid: u32) -> Vec<Bound> {
    let found = || {
        let groups = read(pid, "cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        cgroup_folder(&groups, &mounts)
    };
    let Some((mount, folder, version)) = found() else {
        return Vec::new();
    };
    let folders = folder.ancestors().take_while(|f| f.starts_with(&mount));
    folders
        .filter_map(|folder| cgroup_bound(folder, version, folder.components().count()))
        .collect()
}

/// Version of the cgroup hierarchy that has the memory controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The mount and the folder of the memory controller's group, from /proc/PID/cgroup and
/// mountinfo.
fn cgroup_folder(groups: &str, mounts: &str) -> Option<(PathBuf, PathBuf, Version)> {
    let of_version = |version: Version| {
        let group = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let is_it = match version {
                Version::One => controllers.split(',').any(|name| name == "memory"),
                Version::Two => controllers.is_empty(),
            };
            is_it.then_some(path)
        })?;
        mounts.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut place = place.split(' ').skip(3);
            let (root, mount) = (place.next()?, place.next()?);
            let mut kind = kind.split(' ');
            let is_it = match (version, kind.next()?) {
                (Version::One, "cgroup") => kind.nth(1)?.split(',').any(|name| name == "memory"),
                (Version::Two, "cgroup2") => true,
                _ => false,
            };
            // What is mounted may be a part of the hierarchy that the group is not in.
            let below = Path::new(group).strip_prefix(root).ok().filter(|_| is_it)?;
            // A group outside of it shows as /.. and more.
            let is_outside = below.components().any(|part| part == Component::ParentDir);
            let mount = PathBuf::from(mount);
            let folder = mount.join(below);
            (!is_outside).then_some((mount, folder, version))
        })
    };
    of_version(Version::One).or_else(|| of_version(Version::Two))
}

fn cgroup_bound(folder: &Path, version: Version, level: usize) -> Option<Bound> {
    let (limit, usage, inactive) = match version {
        Version::One => (
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            "total_inactive_file",
        ),
        Version::Two => ("memory.max", "memory.current", "inactive_file"),
    };
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok()
    };
    let limit_bytes = number(limit).filter(|limit| *limit < UNLIMITED_BYTES)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let inactive_bytes = stat
        .lines()
        .find_map(|line| line.strip_prefix(inactive)?.trim().parse().ok())
        .unwrap_or(0);
    Some(Bound {
        kind: BoundKind::Cgroup,
        level,
        limit_bytes,
        used_bytes: number(usage)?.saturating_sub(inactive_bytes),
    })
}

fn address_space(pid: u32, status: &str) -> Option<Bound> {
    let limits = read(pid, "limits").ok()?;
    Some(Bound {
        kind: BoundKind::AddressSpace,
        level: 0,
        limit_bytes: address_space_limit(&limits)?,
        used_bytes: kilobytes(status, "VmSize:")?,
    })
}

/// The soft limit; absent when there is none.
fn address_space_limit(limits: &str) -> Option<u64> {
    let line = field(limits, "Max address space")?;
    line.split_whitespace().next()?.parse().ok()
}

fn machine() -> Option<Bound> {
    let memory = fs::read_to_string("/proc/meminfo").ok()?;
    let total = kilobytes(&memory, "MemTotal:")?;
    let available = kilobytes(&memory, "MemAvailable:")?;
    Some(Bound {
        kind: BoundKind::Machine,
        level: 0,
        limit_bytes: total,
        used_bytes: total.saturating_sub(available),
    })
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let number: u64 = field(text, name)?.split(' ').next()?.parse().ok()?;
    number.checked_mul(1024)
}

/// Field 12 of proc_pid_stat(5); the name in parentheses, field 2, may hold anything.
fn major_faults(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const MOUNTS_1: &str = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                            31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    const MOUNTS_2: &str = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_group_is_found_in_both_versions() {
        let one = cgroup_folder("4:memory:/a/b\n0::/\n", MOUNTS_1).unwrap();
        assert_eq!(one.1, Path::new("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(one.2, Version::One);
        let two = cgroup_folder("0::/system.slice/api.service\n", MOUNTS_2).unwrap();
        assert_eq!(two.1, Path::new("/sys/fs/cgroup/system.slice/api.service"));
        assert_eq!(two.2, Version::Two);
    }

    #[test]
    fn a_group_of_the_same_container_is_found_below_its_mount_and_one_outside_is_not() {
        let mounts = "30 25 0:26 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let inside = cgroup_folder("0::/box/app\n", mounts).unwrap();
        assert_eq!(inside.1, Path::new("/sys/fs/cgroup/app"));
        assert_eq!(cgroup_folder("0::/other\n", mounts), None);
        assert_eq!(cgroup_folder("0::/../other\n", MOUNTS_2), None);
    }

    #[test]
    fn limits_and_unlimited_are_told_apart() {
        let limits = "Max file size             unlimited            unlimited            bytes\n\
                      Max address space         1073741824           unlimited            bytes\n";
        assert_eq!(address_space_limit(limits), Some(1 << 30));
        let none = "Max address space         unlimited            unlimited            bytes\n";
        assert_eq!(address_space_limit(none), None);
    }

    #[test]
    fn this_process_holds_memory_and_the_machine_bounds_it() {
        let child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = Process::open(child.id()).unwrap();
        let memory = MemoryUse::of(&process).unwrap();
        assert!(memory.resident_bytes() > 0);
        let kinds: Vec<_> = memory.bounds.iter().map(|bound| bound.kind).collect();
        assert!(kinds.contains(&BoundKind::Machine), "{memory:?}");
        assert!(memory.bounds.iter().all(|b| b.used_bytes <= b.limit_bytes));
        let mut child = child;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(MemoryUse::of(&process), None);
    }
}

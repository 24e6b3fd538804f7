//! Kernel releases, and the releases on which a return probe harms its target. Pure.

/// Version of a kernel, as its release string begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number; 0 where the release has none.
    pub patch: u32,
}

impl KernelVersion {
    /// The version with these numbers.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads `uname -r`: `6.1.0-18-amd64`, `6.18.44-fc`, `7.3-rc7`, `5.15.0+`. Distributions put
    /// their own number behind the dash; absent when there are not two numbers at the beginning.
    pub fn parse(release: &str) -> Option<Self> {
        let numbers = release
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .next()?;
        let mut numbers = numbers.split('.').map(str::parse);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self::new(major, minor, patch))
    }

    /// The kernel that runs; absent when its release cannot be understood.
    pub fn running() -> Option<Self> {
        Self::parse(&rustix::system::uname().release().to_string_lossy())
    }
}

impl std::fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why a return probe would harm a target on this kernel, and what to do; absent when it would
/// not.
///
/// `seccomp_mode` is `Seccomp:` of the target's /proc/PID/status, `shadow_stack` whether its
/// `x86_Thread_features:` has `shstk`. From 6.11 a return probe leaves its trampoline by a system
/// call of its own, which a seccomp filter answers with SIGSYS or SIGKILL until the kernel exempted
/// it (6.12.14, 6.13.3, 6.14). From 6.6 a process can have a user shadow stack, which the
/// trampoline did not keep in step until 6.11. A distribution may have either repair earlier; the
/// release does not say.
pub fn uretprobe_hazard(
    kernel: KernelVersion,
    seccomp_mode: u32,
    shadow_stack: bool,
) -> Option<String> {
    if seccomp_mode != 0 && kills_under_seccomp(kernel) {
        return Some(format!(
            "kernel {kernel} would kill it: return probes break processes under seccomp on 6.11 \
             to 6.12.13 and 6.13.0 to 6.13.2; update the kernel, or run the target without a \
             seccomp filter"
        ));
    }
    if shadow_stack && breaks_shadow_stacks(kernel) {
        return Some(format!(
            "kernel {kernel} would kill it: return probes break user shadow stacks on 6.6 to \
             6.10; update the kernel, or run the target with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"
        ));
    }
    None
}

/// Whether a return probe kills a process under seccomp.
pub(super) fn kills_under_seccomp(kernel: KernelVersion) -> bool {
    let version = KernelVersion::new;
    (version(6, 11, 0)..=version(6, 12, 13)).contains(&kernel)
        || (version(6, 13, 0)..=version(6, 13, 2)).contains(&kernel)
}

/// Whether a return probe kills a process that has a user shadow stack.
pub(super) fn breaks_shadow_stacks(kernel: KernelVersion) -> bool {
    (KernelVersion::new(6, 6, 0)..KernelVersion::new(6, 11, 0)).contains(&kernel)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn version(release: &str) -> KernelVersion {
        KernelVersion::parse(release).unwrap()
    }

    #[test]
    fn releases_of_distributions_are_understood() {
        for (release, expected) in [
            ("6.18.44-fc-v657", (6, 18, 44)),
            ("5.10.0-32-cloud-amd64", (5, 10, 0)),
            ("7.3-rc7", (7, 3, 0)),
            ("6.12+deb13-amd64", (6, 12, 0)),
            ("4.18.0-553.el8_10.x86_64", (4, 18, 0)),
            ("6.6.87.2-microsoft-standard-WSL2", (6, 6, 87)),
            ("5.15.0+", (5, 15, 0)),
        ] {
            let (major, minor, patch) = expected;
            assert_eq!(version(release), KernelVersion::new(major, minor, patch));
        }
        for release in ["", "6", "linux", "6.", "99999999999.1"] {
            assert_eq!(KernelVersion::parse(release), None, "{release}");
        }
    }

    #[test]
    fn return_probes_under_seccomp_are_refused_exactly_where_they_kill() {
        for release in ["6.11", "6.11.9", "6.12.0", "6.12.13", "6.13.0", "6.13.2"] {
            assert!(
                uretprobe_hazard(version(release), 2, false).is_some(),
                "{release}"
            );
            assert!(
                uretprobe_hazard(version(release), 1, false).is_some(),
                "{release}"
            );
            assert!(
                uretprobe_hazard(version(release), 0, false).is_none(),
                "{release}"
            );
        }
        for release in [
            "5.17", "6.10.14", "6.12.14", "6.12.60", "6.13.3", "6.14.0", "7.2.1",
        ] {
            assert!(
                uretprobe_hazard(version(release), 2, false).is_none(),
                "{release}"
            );
        }
    }

    #[test]
    fn return_probes_on_shadow_stacks_are_refused_exactly_where_they_break() {
        for release in ["6.6.0", "6.9.3", "6.10.14"] {
            assert!(
                uretprobe_hazard(version(release), 0, true).is_some(),
                "{release}"
            );
            assert!(
                uretprobe_hazard(version(release), 0, false).is_none(),
                "{release}"
            );
        }
        for release in ["6.5.13", "6.11.0", "6.18.1"] {
            assert!(
                uretprobe_hazard(version(release), 0, true).is_none(),
                "{release}"
            );
        }
    }
}

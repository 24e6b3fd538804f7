//! What tracing needs, judged by the facts. Pure: [`Facts`] in, [`Requirement`]s out.

use leaktrace_common::arch;

use super::facts::{BpfSupport, Facts, Lockdown};
use super::kernel::{KernelVersion, breaks_shadow_stacks, kills_under_seccomp};
use super::{Requirement, State};

/// By them a probe tells what it stands on.
const ATTACH_COOKIE: KernelVersion = KernelVersion::new(5, 15, 0);
/// It bounds the walk by .eh_frame for the verifier.
const BPF_LOOP: KernelVersion = KernelVersion::new(5, 17, 0);
/// The requirement that decides how stacks are walked.
pub(super) const WHOLE_STACKS: &str = "whole stacks";
/// uprobe_multi is there from 6.6, and filters by process rather than by thread from 6.10.
const UPROBE_MULTI: KernelVersion = KernelVersion::new(6, 10, 0);
/// BPF memory is accounted to the memory cgroup instead of the limit of locked memory.
const NO_MEMLOCK: KernelVersion = KernelVersion::new(5, 11, 0);

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// Every requirement; what is beyond repair first.
pub(super) fn all(facts: &Facts) -> Vec<Requirement> {
    let kernel = KernelVersion::parse(&facts.release);
    let mut list = vec![
        architecture(facts),
        kernel_release(facts, kernel),
        privilege(facts),
        bpf(facts),
        whole_stacks(facts, kernel),
        uprobes(facts),
        lockdown(facts),
        btf(facts),
        foreign_processes(facts),
        replaced_files(facts),
        probe_links(facts, kernel),
        return_probes(kernel),
    ];
    list.extend(memlock(facts, kernel));
    list
}

fn ok(name: &'static str, detail: impl Into<String>) -> Requirement {
    Requirement {
        name,
        state: State::Ok,
        detail: detail.into(),
        remedy: None,
    }
}

fn degraded(name: &'static str, detail: impl Into<String>, remedy: &str) -> Requirement {
    Requirement {
        name,
        state: State::Degraded,
        detail: detail.into(),
        remedy: Some(remedy.to_owned()),
    }
}

fn missing(name: &'static str, detail: impl Into<String>, remedy: &str) -> Requirement {
    Requirement {
        state: State::Missing,
        ..degraded(name, detail, remedy)
    }
}

fn has(facts: &Facts, capability: u32) -> bool {
    facts.capabilities & 1 << capability != 0
}

/// CAP_SYS_ADMIN includes what was split off from it.
fn has_or_admin(facts: &Facts, capability: u32) -> bool {
    has(facts, capability) || has(facts, CAP_SYS_ADMIN)
}

fn architecture(facts: &Facts) -> Requirement {
    let name = "architecture";
    match facts.machine.as_str() {
        arch::MACHINE => ok(name, arch::NAME),
        other => missing(
            name,
            format!(
                "this machine is {other}, and only {} is supported",
                arch::NAME
            ),
            &format!("run leaktrace on a machine that is {}", arch::NAME),
        ),
    }
}

fn kernel_release(facts: &Facts, kernel: Option<KernelVersion>) -> Requirement {
    let name = "kernel";
    let release = &facts.release;
    let by_version = kernel.map(|kernel| kernel >= ATTACH_COOKIE);
    match facts.helpers.attach_cookie.or(by_version) {
        Some(true) => ok(
            name,
            format!("{release}: has the ring buffer (5.8) and attach cookies (5.15)"),
        ),
        Some(false) => missing(
            name,
            format!("kernel {release} lacks attach cookies (bpf_get_attach_cookie, 5.15)"),
            "update the kernel to 5.15 or later, better 5.17",
        ),
        None => degraded(
            name,
            format!("release {release:?} is no version number"),
            "check that the kernel is 5.15 or later",
        ),
    }
}

fn whole_stacks(facts: &Facts, kernel: Option<KernelVersion>) -> Requirement {
    let by_version = kernel.is_none_or(|kernel| kernel >= BPF_LOOP);
    match facts.helpers.bpf_loop.unwrap_or(by_version) {
        true => ok(WHOLE_STACKS, "bpf_loop: stacks are unwound by .eh_frame"),
        false => degraded(
            WHOLE_STACKS,
            format!(
                "kernel {} lacks bpf_loop (5.17), so stacks follow frame pointers: of code that was \
                 built without them only the direct caller is seen",
                facts.release
            ),
            "update the kernel to 5.17 or later",
        ),
    }
}

fn privilege(facts: &Facts) -> Requirement {
    let name = "privilege";
    let lacking: Vec<_> = [(CAP_BPF, "CAP_BPF"), (CAP_PERFMON, "CAP_PERFMON")]
        .into_iter()
        .filter(|(capability, _)| !has_or_admin(facts, *capability))
        .map(|(_, name)| name)
        .collect();
    match lacking.as_slice() {
        [] if has(facts, CAP_SYS_ADMIN) => ok(name, "CAP_SYS_ADMIN"),
        [] => ok(name, "CAP_BPF and CAP_PERFMON"),
        [one] => missing(name, format!("{one} is missing"), "run with sudo"),
        all => missing(
            name,
            format!("{} are missing", all.join(" and ")),
            "run with sudo",
        ),
    }
}

fn bpf(facts: &Facts) -> Requirement {
    let name = "bpf";
    match &facts.bpf {
        BpfSupport::Works => ok(name, "the bpf() system call works"),
        BpfSupport::NotBuilt => missing(
            name,
            "this kernel has no bpf() system call",
            "use a kernel built with CONFIG_BPF_SYSCALL, as those of distributions are",
        ),
        BpfSupport::Forbidden if !has_or_admin(facts, CAP_BPF) => missing(
            name,
            "the bpf() system call is not permitted to this user",
            "run with sudo",
        ),
        BpfSupport::Forbidden => missing(
            name,
            "the bpf() system call is forbidden although the capability is there (a container's \
             seccomp profile or user namespace, or a limit of locked memory)",
            "run leaktrace on the host, or in a privileged container with the host's pid namespace",
        ),
        BpfSupport::Failed(error) => missing(
            name,
            format!("the bpf() system call fails: {error}"),
            "look into the kernel log (dmesg)",
        ),
    }
}

fn uprobes(facts: &Facts) -> Requirement {
    let name = "uprobes";
    if facts.has_uprobes {
        return ok(name, "the kernel can probe user programs");
    }
    missing(
        name,
        "/sys/bus/event_source/devices/uprobe is not there: the kernel has no uprobes, or /sys is \
         not mounted",
        "use a kernel built with CONFIG_UPROBE_EVENTS, or mount sysfs",
    )
}

fn lockdown(facts: &Facts) -> Requirement {
    let name = "lockdown";
    match facts.lockdown {
        Lockdown::None => ok(name, "off"),
        Lockdown::Integrity => ok(name, "integrity, which does not hinder tracing"),
        Lockdown::Confidentiality => missing(
            name,
            "the kernel is locked down to confidentiality, which forbids BPF programs to read \
             kernel memory",
            "boot with lockdown=integrity",
        ),
    }
}

fn btf(facts: &Facts) -> Requirement {
    let name = "kernel types";
    if facts.has_btf {
        return ok(name, "/sys/kernel/btf/vmlinux");
    }
    degraded(
        name,
        "/sys/kernel/btf/vmlinux is not there, so how a target ended may stay unknown",
        "use a kernel built with CONFIG_DEBUG_INFO_BTF",
    )
}

fn foreign_processes(facts: &Facts) -> Requirement {
    let name = "other users";
    if has(facts, CAP_SYS_PTRACE) {
        return ok(name, "processes of every user can be traced");
    }
    degraded(
        name,
        "CAP_SYS_PTRACE is missing, so only your own processes can be traced",
        "run with sudo",
    )
}

fn replaced_files(facts: &Facts) -> Requirement {
    let name = "replaced files";
    if has_or_admin(facts, CAP_CHECKPOINT_RESTORE) {
        return ok(name, "a library can be probed after its file was replaced");
    }
    degraded(
        name,
        "CAP_CHECKPOINT_RESTORE is missing, so a library whose file was replaced (an update) \
         cannot be probed",
        "run with sudo, or restart the target",
    )
}

fn probe_links(facts: &Facts, kernel: Option<KernelVersion>) -> Requirement {
    let name = "probe links";
    if kernel.is_none_or(|kernel| kernel >= UPROBE_MULTI) {
        return ok(
            name,
            "uprobe_multi: all probes attach and detach in one step",
        );
    }
    let detail =
        "the kernel is older than 6.10, so that probes attach one by one, and detach slowly";
    if has(facts, CAP_SYS_ADMIN) {
        return degraded(name, detail, "update the kernel to 6.10 or later");
    }
    // Since the fix of CVE-2025-38466, which stable kernels have as well, perf refuses uprobes
    // without it. Older ones do not, so it is not missing for sure.
    degraded(
        name,
        format!("{detail}, and may need CAP_SYS_ADMIN"),
        "run with sudo",
    )
}

fn return_probes(kernel: Option<KernelVersion>) -> Requirement {
    let name = "return probes";
    match kernel {
        Some(kernel) if kills_under_seccomp(kernel) => degraded(
            name,
            format!("on kernel {kernel} they kill processes under seccomp, which are refused"),
            "update the kernel to 6.12.14, 6.13.3 or later",
        ),
        Some(kernel) if breaks_shadow_stacks(kernel) => degraded(
            name,
            format!("on kernel {kernel} they break user shadow stacks; such targets are refused"),
            "update the kernel to 6.11 or later",
        ),
        _ => ok(name, "harmless to targets on this kernel"),
    }
}

/// Only old kernels account BPF maps to the limit of locked memory.
fn memlock(facts: &Facts, kernel: Option<KernelVersion>) -> Option<Requirement> {
    let name = "locked memory";
    let bytes = facts.memlock_limit_bytes?;
    kernel.filter(|kernel| *kernel < NO_MEMLOCK)?;
    Some(degraded(
        name,
        format!(
            "limited to {} KiB, which BPF maps count against",
            bytes / 1024
        ),
        "run `ulimit -l unlimited` before",
    ))
}

//! What the doctor and the first line of a failed start say, for made-up machines.

use super::*;

const BPF_AND_PERFMON: u64 = 1 << 38 | 1 << 39;

fn root() -> Facts {
    Facts {
        release: "6.18.44-amd64".to_owned(),
        machine: "x86_64".to_owned(),
        capabilities: (1 << 41) - 1,
        bpf: BpfSupport::Works,
        helpers: Helpers {
            attach_cookie: Some(true),
            bpf_loop: Some(true),
            bpf_find_vma: Some(true),
        },
        has_btf: true,
        has_uprobes: true,
        lockdown: Lockdown::None,
        memlock_limit_bytes: Some(8 << 20),
    }
}

fn error(facts: &Facts) -> Option<String> {
    Preflight::from_facts(facts).error_for_tracing()
}

fn state(facts: &Facts, name: &str) -> State {
    let preflight = Preflight::from_facts(facts);
    let mut requirements = preflight.requirements.iter();
    requirements.find(|one| one.name == name).unwrap().state
}

#[test]
fn root_on_a_current_kernel_lacks_nothing() {
    let preflight = Preflight::from_facts(&root());
    assert!(
        preflight
            .requirements
            .iter()
            .all(|one| one.state == State::Ok)
    );
    assert_eq!(
        (preflight.error_for_tracing(), preflight.exit_code()),
        (None, 0)
    );
    assert!(
        preflight
            .render_doctor()
            .ends_with("\n\nleaktrace can trace on this machine\n")
    );
}

#[test]
fn without_privilege_the_line_says_what_is_missing_and_what_to_do() {
    let user = Facts {
        capabilities: 0,
        bpf: BpfSupport::Forbidden,
        ..root()
    };
    assert_eq!(
        error(&user).unwrap(),
        "cannot trace: CAP_BPF and CAP_PERFMON are missing; run with sudo"
    );
    let half = Facts {
        capabilities: 1 << 39,
        ..root()
    };
    assert_eq!(
        error(&half).unwrap(),
        "cannot trace: CAP_PERFMON is missing; run with sudo"
    );
    assert_eq!(Preflight::from_facts(&half).exit_code(), 1);
}

#[test]
fn two_capabilities_are_enough_for_own_processes() {
    let facts = Facts {
        capabilities: BPF_AND_PERFMON,
        ..root()
    };
    assert_eq!(error(&facts), None);
    assert_eq!(state(&facts, "other users"), State::Degraded);
    assert_eq!(state(&facts, "replaced files"), State::Degraded);
    let text = Preflight::from_facts(&facts).render_doctor();
    assert!(text.ends_with("can trace on this machine, with the limits above\n"));
}

#[test]
fn a_container_is_told_from_a_lack_of_privilege() {
    let facts = Facts {
        bpf: BpfSupport::Forbidden,
        ..root()
    };
    assert!(error(&facts).unwrap().contains("seccomp profile"));
    let facts = Facts {
        bpf: BpfSupport::NotBuilt,
        ..root()
    };
    assert!(error(&facts).unwrap().contains("no bpf() system call"));
}

#[test]
fn what_cannot_be_helped_is_said_before_privileges() {
    let facts = Facts {
        capabilities: 0,
        release: "5.10.0-32-amd64".to_owned(),
        helpers: Helpers {
            attach_cookie: Some(false),
            bpf_loop: Some(false),
            bpf_find_vma: Some(false),
        },
        ..root()
    };
    assert!(error(&facts).unwrap().contains("lacks attach cookies"));
    let facts = Facts {
        machine: "aarch64".to_owned(),
        ..facts
    };
    assert!(error(&facts).unwrap().contains("only x86-64"));
}

#[test]
fn locked_down_or_without_uprobes_tracing_is_impossible() {
    let confidential = Facts {
        lockdown: Lockdown::Confidentiality,
        ..root()
    };
    assert!(error(&confidential).unwrap().contains("lockdown=integrity"));
    let integrity = Facts {
        lockdown: Lockdown::Integrity,
        ..root()
    };
    assert_eq!(error(&integrity), None);
    let without = Facts {
        has_uprobes: false,
        ..root()
    };
    assert!(error(&without).unwrap().contains("CONFIG_UPROBE_EVENTS"));
}

#[test]
fn older_kernels_trace_with_limits() {
    let facts = Facts {
        release: "6.1.0-18-amd64".to_owned(),
        has_btf: false,
        ..root()
    };
    assert_eq!(error(&facts), None);
    assert_eq!(state(&facts, "probe links"), State::Degraded);
    assert_eq!(state(&facts, "kernel types"), State::Degraded);
    assert_eq!(state(&facts, "return probes"), State::Ok);
    let hazard = Facts {
        release: "6.12.9".to_owned(),
        ..root()
    };
    assert_eq!(state(&hazard, "return probes"), State::Degraded);
}

#[test]
fn without_bpf_loop_stacks_follow_frame_pointers() {
    let lacks = |release: &str, bpf_loop| Facts {
        release: release.to_owned(),
        helpers: Helpers {
            attach_cookie: Some(true),
            bpf_loop,
            bpf_find_vma: bpf_loop,
        },
        ..root()
    };
    let has_loop = |facts: &Facts| {
        assert_eq!(error(facts), None);
        Preflight::from_facts(facts).has_loop()
    };
    assert!(!has_loop(&lacks("5.15.0-100-generic", Some(false))));
    // What a distribution has brought to an older release counts, not the number.
    assert!(has_loop(&lacks("5.14.0-503.el9.x86_64", Some(true))));
    // A kernel that would not say is judged by its number.
    assert!(!has_loop(&lacks("5.16.0", None)));
    assert!(has_loop(&lacks("5.17.0", None)));
}

#[test]
fn the_limit_of_locked_memory_matters_only_where_it_is_counted() {
    let mentions = |facts: &Facts| {
        let preflight = Preflight::from_facts(facts);
        preflight
            .requirements
            .iter()
            .any(|one| one.name == "locked memory")
    };
    assert!(!mentions(&root()));
    let old = Facts {
        release: "5.10.0".to_owned(),
        ..root()
    };
    assert!(mentions(&old));
    assert!(!mentions(&Facts {
        memlock_limit_bytes: None,
        ..old
    }));
}

#[test]
fn the_doctor_prints_a_line_for_each_requirement_with_its_remedy() {
    let facts = Facts {
        capabilities: 0,
        bpf: BpfSupport::Forbidden,
        ..root()
    };
    let preflight = Preflight::from_facts(&facts);
    let text = preflight.render_doctor();
    assert_eq!(text.lines().count(), preflight.requirements.len() + 2);
    assert!(text.contains("missing   privilege"));
    assert!(text.contains("CAP_BPF and CAP_PERFMON are missing; run with sudo\n"));
    assert!(
        text.ends_with(
            "leaktrace cannot trace: CAP_BPF and CAP_PERFMON are missing; run with sudo\n"
        )
    );
}

#[test]
fn this_machine_can_be_checked_without_a_target() {
    let preflight = Preflight::check();
    assert!(preflight.render_doctor().lines().count() > 10);
}

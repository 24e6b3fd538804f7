//! The names that container runtimes give to control groups.

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// Runtime and id of a process in this control group of the unified hierarchy; `ID` stands for an id.
fn of_path(path: &str) -> Option<(Option<&'static str>, String)> {
    let line = format!("0::{}\n", path.replace("ID", ID));
    Container::parse(&line).map(|container| (container.runtime, container.id))
}

#[test]
fn ids_are_found_wherever_runtimes_put_them() {
    let known = [
        ("/system.slice/docker-ID.scope", "docker"),
        ("/docker/ID", "docker"),
        ("/docker/ID/init.scope", "docker"),
        (
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
            "podman",
        ),
        ("/machine.slice/libpod-ID.scope/container", "podman"),
        ("/libpod_parent/ID", "podman"),
        (
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-ID.scope",
            "containerd",
        ),
        (
            "/kubepods.slice/kubepods-pod1_2.slice/crio-ID.scope",
            "cri-o",
        ),
        (
            "/system.slice/containerd.service/kubepods-besteffort-pod1.slice:cri-containerd:ID",
            "containerd",
        ),
        ("/kubepods/besteffort/pod12-34/ID", "kubernetes"),
        ("/kubepods.slice/kubepods-pod1.slice/ID", "kubernetes"),
        ("/../../kubepods/pod12-34/ID", "kubernetes"),
        ("/ecs/0123/ID", "ecs"),
    ];
    for (path, runtime) in known {
        assert_eq!(
            of_path(path),
            Some((Some(runtime), ID.to_owned())),
            "{path}"
        );
    }
    assert_eq!(of_path("/default/ID"), Some((None, ID.to_owned())));
}

#[test]
fn machines_and_lxc_containers_go_by_their_names() {
    let known = [
        (
            "/machine.slice/systemd-nspawn@web.service/payload/system.slice/cron.service",
            "systemd-nspawn",
            "web",
        ),
        (
            "/machine.slice/machine-my\\x2dweb.scope",
            "systemd-nspawn",
            "my-web",
        ),
        ("/lxc.payload.box/system.slice/ssh.service", "lxc", "box"),
        ("/lxc/box", "lxc", "box"),
    ];
    for (path, runtime, name) in known {
        assert_eq!(
            of_path(path),
            Some((Some(runtime), name.to_owned())),
            "{path}"
        );
    }
}

#[test]
fn what_is_in_no_container_is_said_to_be_in_none() {
    let none = [
        "/",
        "/system.slice/docker.service",
        "/system.slice/containerd.service",
        "/user.slice/user-1000.slice/session-3.scope",
        "/machine.slice/libpod-conmon-ID.scope",
        "/kubepods.slice/kubepods-pod1.slice/crio-conmon-ID.scope",
        "/lxc.monitor.box",
        "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope",
        "/machine.slice/machine-\\x1b\\x5b.scope",
        "/machine.slice/machine-\\xé.scope",
        "/docker/ID0",
        "/docker/short",
        "éé-ID",
    ];
    for path in none {
        assert_eq!(of_path(path), None, "{path}");
    }
    assert_eq!(Container::parse("no line of this kind"), None);
}

#[test]
fn the_innermost_container_is_the_one() {
    let line = format!("0::/docker/{OTHER}/docker/{ID}");
    let found = Container::parse(&line).map(|container| container.id);
    assert_eq!(found.as_deref(), Some(ID));
}

#[test]
fn hierarchies_of_version_1_are_read_too_and_speak_last() {
    let text = format!("5:memory:/docker/{OTHER}\n1:name=systemd:/docker/{ID}\n0::/\n");
    let found = Container::parse(&text).map(|container| container.id);
    assert_eq!(found.as_deref(), Some(ID));
}

#[test]
fn people_get_twelve_digits() {
    let container = |runtime, id: &str| Container {
        runtime,
        id: id.to_owned(),
    };
    assert_eq!(container(Some("docker"), ID).short(), "docker 0123456789ab");
    assert_eq!(container(None, ID).short(), "0123456789ab");
    let long_name = "a-machine-with-a-long-name";
    assert_eq!(
        container(Some("lxc"), long_name).short(),
        "lxc a-machine-with-a-long-name"
    );
}

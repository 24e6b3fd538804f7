//! Turns the text of /proc/PID/cgroup into the container that a process is in. Pure; reads no file,
//! and asks no container runtime.

use serde::Serialize;

/// Length of the ids that container runtimes give out, in hex digits.
const ID_DIGITS: usize = 64;

/// Longest name of a machine or container that is not an id.
const MAX_NAME_BYTES: usize = 128;

/// The container that a process is in, as the name of its control group tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Container {
    /// Who runs it (`docker`, `podman`, `containerd`, …); absent when the name does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<&'static str>,
    /// Its id, as the runtime's own tools take it; of systemd-nspawn and LXC, which have none, its
    /// name.
    pub id: String,
}

/// What tells a container by the part of a control group's name in front of the id.
const PREFIXES: [(&str, &str); 7] = [
    ("docker", "docker"),
    ("libpod", "podman"),
    ("cri-containerd", "containerd"),
    ("containerd", "containerd"),
    ("nerdctl", "containerd"),
    ("crio", "cri-o"),
    ("cri-dockerd", "docker"),
];

/// What tells the runtime when the id has a control group of its own, by the name of one above it.
const PARENTS: [(&str, &str); 5] = [
    ("docker", "docker"),
    ("libpod_parent", "podman"),
    ("kubepods", "kubernetes"),
    ("ecs", "ecs"),
    ("actions_job", "docker"),
];

impl Container {
    /// Reads /proc/PID/cgroup: `hierarchy:controllers:path` a line. The unified hierarchy and
    /// systemd's speak first; controllers of version 1 can be left in the root.
    pub fn parse(cgroup: &str) -> Option<Self> {
        let mut paths: Vec<(u8, &str)> = cgroup.lines().filter_map(ranked_path).collect();
        paths.sort_by_key(|(rank, _)| *rank);
        paths.into_iter().find_map(|(_, path)| in_path(path))
    }

    /// Runtime and as much of the id as people use.
    pub fn short(&self) -> String {
        let is_id = is_id(&self.id);
        let id = self.id.get(..12).filter(|_| is_id).unwrap_or(&self.id);
        match self.runtime {
            Some(runtime) => format!("{runtime} {id}"),
            None => id.to_owned(),
        }
    }
}

fn ranked_path(line: &str) -> Option<(u8, &str)> {
    let mut fields = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let rank = match (hierarchy, controllers) {
        ("0", "") => 0,
        (_, "name=systemd") => 1,
        _ => 2,
    };
    Some((rank, path))
}

/// The innermost container: those in it come later in the path.
fn in_path(path: &str) -> Option<Container> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    (0..parts.len()).rev().find_map(|at| {
        let (above, part) = (&parts[..at], parts[at]);
        with_prefix(part)
            .or_else(|| machine(part))
            .or_else(|| lxc(above.last().copied(), part))
            .or_else(|| alone(above, part))
    })
}

/// `docker-<id>.scope` (systemd) and `<slice>:cri-containerd:<id>` (its containerd without systemd).
/// Monitors beside a container (`libpod-conmon-<id>.scope`) are not in it.
fn with_prefix(part: &str) -> Option<Container> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let split = name.len().checked_sub(ID_DIGITS + 1)?;
    let (prefix, id) = (name.get(..split)?, name.get(split + 1..)?);
    if !is_id(id) || !matches!(name.as_bytes()[split], b'-' | b':') {
        return None;
    }
    let prefix = prefix.rsplit_once(':').map_or(prefix, |(_, last)| last);
    let (_, runtime) = PREFIXES.iter().find(|(known, _)| *known == prefix)?;
    Some(Container {
        runtime: Some(runtime),
        id: id.to_owned(),
    })
}

/// Units of systemd-nspawn: `systemd-nspawn@NAME.service`, or the scope of a machine that was
/// started by hand, `machine-NAME.scope`. libvirt's machines are not containers, but for LXC's.
fn machine(part: &str) -> Option<Container> {
    let escaped = part
        .strip_prefix("systemd-nspawn@")
        .and_then(|name| name.strip_suffix(".service"))
        .or_else(|| {
            part.strip_prefix("machine-")
                .and_then(|name| name.strip_suffix(".scope"))
                .filter(|name| !name.starts_with("qemu"))
        })?;
    named("systemd-nspawn", &unescape(escaped)?)
}

/// `lxc.payload.NAME`, and of old `lxc/NAME` and `lxc.payload/NAME`.
fn lxc(parent: Option<&str>, part: &str) -> Option<Container> {
    let name = match (part.strip_prefix("lxc.payload."), parent) {
        (Some(name), _) => name,
        (None, Some("lxc" | "lxc.payload")) => part,
        _ => return None,
    };
    named("lxc", name)
}

/// An id that is a control group of its own.
fn alone(above: &[&str], part: &str) -> Option<Container> {
    if !is_id(part) {
        return None;
    }
    let runtime = above.iter().rev().find_map(|parent| {
        let belongs = |known: &str| {
            *parent == known
                || parent
                    .strip_prefix(known)
                    .is_some_and(|rest| rest.starts_with(['.', '-']))
        };
        PARENTS.iter().find(|(known, _)| belongs(known))
    });
    Some(Container {
        runtime: runtime.map(|(_, runtime)| *runtime),
        id: part.to_owned(),
    })
}

fn named(runtime: &'static str, name: &str) -> Option<Container> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(plain)).then(|| {
        Container {
            runtime: Some(runtime),
            id: name.to_owned(),
        }
    })
}

fn is_id(text: &str) -> bool {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == ID_DIGITS && text.bytes().all(hex)
}

/// systemd writes what may not be in a unit's name as `\xHH`, `-` among it.
fn unescape(name: &str) -> Option<String> {
    let mut pieces = name.split("\\x");
    let mut out = pieces.next()?.to_owned();
    for piece in pieces {
        let byte = u8::from_str_radix(piece.get(..2)?, 16).ok()?;
        out.push(char::from(byte));
        out.push_str(&piece[2..]);
    }
    Some(out)
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;

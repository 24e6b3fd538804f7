//! Brings the tracers to compare with onto this machine: heaptrack as a package, memleak in a
//! Debian root of its own, because older releases do not have it.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail};

use crate::{debian_root, setup, workspace};

/// The release whose libbpf-tools are compared with.
const RELEASE: &str = "trixie";

/// What has to be there before a comparison.
#[derive(Clone, Debug)]
pub(super) struct Peers {
    root: PathBuf,
}

/// Installs what is missing.
pub(super) fn install() -> Result<Peers> {
    if workspace::on_path("heaptrack").is_none() {
        setup::install(&["heaptrack"])?;
    }
    let root = super::folder().join(RELEASE);
    let peers = Peers { root };
    if peers.memleak_program().exists() {
        return Ok(peers);
    }
    debian_root::make(&peers.root, RELEASE, &["libbpf-tools"])?;
    if !peers.memleak_program().exists() {
        bail!("{RELEASE} has no {}", peers.memleak_program().display());
    }
    Ok(peers)
}

impl Peers {
    /// memleak, run with its own C library but outside its root, so that it finds the target's.
    pub(super) fn memleak(&self) -> Command {
        let mut command = Command::new(self.root.join("lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(self.root.join("usr/lib/x86_64-linux-gnu"))
            .arg(self.memleak_program());
        command
    }

    fn memleak_program(&self) -> PathBuf {
        self.root.join("usr/sbin/memleak-libbpf")
    }
}

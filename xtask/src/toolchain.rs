//! Finds a compiler for the BPF target on this machine. Installs nothing.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{command::output, workspace};

/// The bpf-linker that works with the aya of this workspace.
pub(crate) const BPF_LINKER_VERSION: &str = "0.13.0";

/// A compiler that has the sources of `core`, which has to be built for the BPF target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// The folder that has `bin/rustc`, `bin/cargo` and `lib/rustlib`.
    pub(crate) sysroot: PathBuf,
    /// As rustc says it: `rustc 1.96.0 (…)`.
    pub(crate) version: String,
    /// Major version of its LLVM; the linker must have the same.
    pub(crate) llvm_major: u32,
}

impl Compiler {
    /// One of its programs: rustc, cargo, cargo-clippy.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.sysroot.join("bin").join(name)
    }

    /// The folder of LLVM's programs, headers and libraries.
    pub(crate) fn llvm(&self) -> PathBuf {
        PathBuf::from(format!("/usr/lib/llvm-{}", self.llvm_major))
    }

    /// The folder in which `bin/bpf-linker` for this compiler is, or will be.
    pub(crate) fn tools(&self) -> PathBuf {
        workspace::target().join(format!("tools/llvm-{}", self.llvm_major))
    }

    /// The linker.
    pub(crate) fn bpf_linker(&self) -> PathBuf {
        self.tools().join("bin/bpf-linker")
    }
}

/// The first usable compiler. The distribution's comes first: the committed object is built with
/// it, and only the same compiler builds the same bytes. A rustup nightly with `rust-src` is next.
///
/// # Errors
/// When a compiler that is there cannot be asked for its version.
pub(crate) fn find() -> Result<Option<Compiler>> {
    let mut sysroots = vec![PathBuf::from("/usr")];
    sysroots.extend(rustup_nightlies());
    for sysroot in sysroots {
        if !sysroot.join("lib/rustlib/src/rust/library/core").is_dir() {
            continue;
        }
        if !["rustc", "cargo"]
            .iter()
            .all(|p| sysroot.join("bin").join(p).exists())
        {
            continue;
        }
        let says = output(
            Command::new(sysroot.join("bin/rustc"))
                .arg("-vV")
                .env_remove("LD_LIBRARY_PATH"),
        )?;
        let compiler = read_version(&sysroot, &says)?;
        if release(&compiler.version) >= minimum()? {
            return Ok(Some(compiler));
        }
    }
    Ok(None)
}

fn rustup_nightlies() -> Vec<PathBuf> {
    let Ok(list) = output(Command::new("rustup").args(["toolchain", "list"])) else {
        return Vec::new();
    };
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"))
        .filter_map(|name| {
            let mut ask = Command::new("rustup");
            output(ask.args(["run", name, "rustc", "--print", "sysroot"])).ok()
        })
        .map(|sysroot| PathBuf::from(sysroot.trim()))
        .collect()
}

fn read_version(sysroot: &Path, says: &str) -> Result<Compiler> {
    let llvm = says
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))
        .and_then(|version| version.split('.').next())
        .and_then(|major| major.parse().ok())
        .with_context(|| format!("{}/bin/rustc names no LLVM version", sysroot.display()))?;
    Ok(Compiler {
        sysroot: sysroot.to_owned(),
        version: says.lines().next().unwrap_or_default().to_owned(),
        llvm_major: llvm,
    })
}

/// Major and minor of `rustc 1.96.0 (…)`; zeros when it reads otherwise.
fn release(version: &str) -> (u32, u32) {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The `rust-version` of the workspace, which this crate inherits.
fn minimum() -> Result<(u32, u32)> {
    let minimum = release(concat!("rustc ", env!("CARGO_PKG_RUST_VERSION")));
    if minimum == (0, 0) {
        bail!("the workspace manifest has no rust-version");
    }
    Ok(minimum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_major_follows_what_rustc_says() {
        let says = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
                    binary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        let compiler = read_version(Path::new("/usr"), says).ok();
        assert_eq!(compiler.as_ref().map(|c| c.llvm_major), Some(22));
        assert_eq!(compiler.map(|c| release(&c.version)), Some((1, 96)));
    }

    #[test]
    fn a_rustc_without_llvm_is_refused() {
        assert!(read_version(Path::new("/usr"), "rustc 1.96.0\n").is_err());
    }

    #[test]
    fn releases_compare_as_numbers() {
        assert!(release("rustc 1.100.0 (x)") > release("rustc 1.95.0-nightly (y)"));
        assert!(release("garbage") < release("rustc 1.63.0"));
    }
}

//! Turns the sources of the BPF object into one digest, and reads the digest that an object
//! carries. Never writes a file. Shared by `leaktrace/build.rs` and `xtask`, and kept beside the
//! object so that it travels in the package.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// What stands before the digest, inside the object's section `.leaktrace.sources`.
pub(crate) const MARKER: &str = "leaktrace-sources-sha256:";

/// Files and folders that go into the object, relative to the workspace.
pub(crate) const INPUTS: [&str; 4] = [
    "leaktrace-ebpf/Cargo.toml",
    "leaktrace-ebpf/src",
    "leaktrace-common/Cargo.toml",
    "leaktrace-common/src",
];

/// The workspace manifest, of which only the versions of these crates go into the object.
pub(crate) const WORKSPACE_MANIFEST: &str = "Cargo.toml";
const PINNED_CRATES: [&str; 2] = ["aya-ebpf", "aya-log-ebpf"];

/// SHA-256, in hex, over the paths and bytes of all inputs in the order of their paths, and over
/// the pinned versions.
///
/// # Errors
/// When an input cannot be read.
pub(crate) fn of_sources(workspace: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for input in INPUTS {
        collect(workspace, Path::new(input), &mut files)?;
    }
    files.sort();
    let mut sha = Sha256::new();
    for file in &files {
        add(
            &mut sha,
            &file.to_string_lossy(),
            &fs::read(workspace.join(file))?,
        );
    }
    let manifest = fs::read_to_string(workspace.join(WORKSPACE_MANIFEST))?;
    add(&mut sha, WORKSPACE_MANIFEST, pinned(&manifest).as_bytes());
    Ok(sha
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// The digest that an object carries; absent when there is none.
pub(crate) fn of_object(object: &[u8]) -> Option<&str> {
    let marker = MARKER.as_bytes();
    let start = object.windows(marker.len()).position(|w| w == marker)? + marker.len();
    std::str::from_utf8(object.get(start..start + 64)?).ok()
}

fn collect(workspace: &Path, path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !workspace.join(path).is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(workspace.join(path))? {
        collect(workspace, &path.join(entry?.file_name()), files)?;
    }
    Ok(())
}

/// Length before content: moving bytes from one file to the next must change the digest.
fn add(sha: &mut Sha256, name: &str, content: &[u8]) {
    for part in [name.as_bytes(), content] {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
}

fn pinned(manifest: &str) -> String {
    manifest
        .lines()
        .filter(|line| {
            let key = line.split('=').next().unwrap_or_default().trim();
            PINNED_CRATES.contains(&key)
        })
        .map(|line| format!("{line}\n"))
        .collect()
}

//! Where things are: the checkout, the target folder, the BPF object. Creates nothing.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The root of the checkout.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// The leaktrace that `cargo build --release` makes.
pub(crate) fn leaktrace() -> PathBuf {
    target().join("release/leaktrace")
}

/// The committed BPF object.
pub(crate) fn bpf_object() -> PathBuf {
    root().join("leaktrace/bpf/leaktrace.bpf.o")
}

/// The cargo that runs this task.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// The program of this name on PATH; absent when there is none.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

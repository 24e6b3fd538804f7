//! Where things are: the checkout, the target folder, the BPF object. Creates nothing.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
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

/// The cargo that runs this task, at the root of the checkout, as a user calls it: without what it says of
/// the package `xtask` to what it runs. The build scripts of some packages depend on that, and they and all
/// that is built on them would be built anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    let variables = env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in variables.filter(|name| is_of_package(name)) {
        command.env_remove(name);
    }
    command
}

/// Whether cargo says something of the package with this variable.
fn is_of_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_") || variable.starts_with("CARGO_MANIFEST_")
}

/// The program of this name on PATH; absent when there is none.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_gets_what_its_user_has_set_and_nothing_of_this_package() {
        assert!(is_of_package("CARGO_MANIFEST_DIR") && is_of_package("CARGO_PKG_NAME"));
        assert!(!is_of_package("CARGO_TARGET_DIR") && !is_of_package("CARGO_HOME"));
        // `cargo test` says it of this package, too.
        assert!(
            cargo()
                .get_envs()
                .any(|of| of == ("CARGO_MANIFEST_DIR".as_ref(), None))
        );
    }
}

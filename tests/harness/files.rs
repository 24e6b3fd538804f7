//! Files that a test reads, writes and leaves no trace of. Panics with the path when it cannot.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A directory that every user can enter and that is gone when it is dropped.
pub fn scratch() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("cannot create a temporary directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open)
        .expect("cannot open a temporary directory to others");
    directory
}

/// The text of a file.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

/// Copies a file with its permissions, and makes the directory for it.
pub fn copy(from: &Path, to: &Path) {
    if let Some(directory) = to.parent() {
        std::fs::create_dir_all(directory)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", directory.display()));
    }
    std::fs::copy(from, to).unwrap_or_else(|error| {
        panic!(
            "cannot copy {} to {}: {error}",
            from.display(),
            to.display()
        )
    });
}

/// Runs a tool to its end; panics when it fails.
pub fn run_tool(program: &str, arguments: &[&str]) {
    let status = std::process::Command::new(program).args(arguments).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "{program} {arguments:?}"
    );
}

/// A path as an argument of a tool.
pub fn path_text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

//! A directory that can be the root of a program: the program, its libraries and its loader.

use std::path::{Path, PathBuf};

use crate::{Program, Target, copy, read};

/// Files that a running program has mapped: itself, its libraries and its loader.
pub fn mapped_files(pid: u32) -> Vec<PathBuf> {
    let maps = read(Path::new(&format!("/proc/{pid}/maps")));
    let mut files: Vec<_> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .collect();
    files.sort();
    files.dedup();
    files
}

/// Copies a program of the protocol into `root`, under the paths that it has outside.
pub fn fill_root(root: &Path, program: &Program) {
    copy_mapped(root, Target::start(program, &[]).pid());
}

/// Copies what a running program has mapped into `root`, under the paths that it has outside.
pub fn copy_mapped(root: &Path, pid: u32) {
    for file in mapped_files(pid) {
        let inside = root.join(file.strip_prefix("/").unwrap_or(&file));
        copy(&file, &inside);
        copy(&file, &inside.with_file_name(short_name(&file)));
        // musl's is its loader as well.
        if file.ends_with("libc.so") {
            copy(&file, &root.join("lib/ld-musl-x86_64.so.1"));
        }
        // The loader is named by a path of its own in the executable.
        if let Some(name) = file
            .file_name()
            .filter(|name| name.to_string_lossy().starts_with("ld-"))
        {
            copy(&file, &root.join("lib64").join(name));
            copy(&file, &root.join("lib").join(name));
        }
    }
}

/// The name by which others ask for a library: only the first number of its version.
fn short_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match name.split_once(".so.") {
        Some((library, version)) => {
            let first = version.split('.').next().unwrap_or_default();
            format!("{library}.so.{first}")
        }
        None => name.into_owned(),
    }
}

/// The processes that this one has started and not waited for.
pub fn children(pid: u32) -> Vec<u32> {
    read(Path::new(&format!("/proc/{pid}/task/{pid}/children")))
        .split_whitespace()
        .map(|child| child.parse().expect("the pid of a child"))
        .collect()
}

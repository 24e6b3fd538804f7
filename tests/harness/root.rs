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
        copy(&file, &root.join(file.strip_prefix("/").unwrap_or(&file)));
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

/// The processes that this one has started and not waited for.
pub fn children(pid: u32) -> Vec<u32> {
    read(Path::new(&format!("/proc/{pid}/task/{pid}/children")))
        .split_whitespace()
        .map(|child| child.parse().expect("the pid of a child"))
        .collect()
}

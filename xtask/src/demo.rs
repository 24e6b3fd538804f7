//! Shows leaktrace at work: a service that leaks, traced for ten seconds, with its report and its
//! flame graph.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    child::Running,
    command::{as_root, run, say},
    setup, test, workspace,
};

/// Runs the demo.
pub(crate) fn demo() -> Result<()> {
    setup::tests()?;
    test::build_leaktrace()?;
    let folder = workspace::target().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let service = folder.join("service");
    compile(
        &workspace::root().join("tests/programs/demo_service.c"),
        &service,
    )?;
    let service = Running::start(Command::new(service).stdin(Stdio::null()))?;
    // Long enough for a past: a real target is never caught at its first allocation.
    thread::sleep(Duration::from_secs(1));
    let flame_graph = folder.join("leak.svg");
    let pid = service.pid().to_string();
    say(&format!(
        "tracing process {pid} for 10 s: leaktrace -p {pid} -d 10s -i 5s"
    ));
    run(as_root(workspace::leaktrace().as_os_str())?
        .args(["-p", &pid, "-d", "10s", "-i", "5s", "--flamegraph"])
        .arg(&flame_graph))?;
    say(&format!("flame graph: {}", flame_graph.display()));
    Ok(())
}

/// Compiles a C program with frame pointers.
///
/// # Errors
/// When there is no C compiler or the program does not compile.
pub(crate) fn compile(source: &Path, program: &Path) -> Result<()> {
    run(Command::new("cc")
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-std=gnu11"])
        .args(["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"])
        .args(["-fno-builtin", "-pthread", "-o"])
        .args([program, source]))
}

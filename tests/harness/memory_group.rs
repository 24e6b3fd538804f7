//! A control group with a memory limit, in the hierarchy that the machine has.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Program;

/// A control group with this much memory; removed again when it is dropped.
#[derive(Debug)]
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Makes one.
    pub fn new(limit_bytes: u64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, limit) = match v1.exists() {
            true => (v1, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("leaktrace-test-{}-{number}", std::process::id());
        let group = root.join(name);
        std::fs::create_dir(&group).expect("a control group");
        std::fs::write(group.join(limit), limit_bytes.to_string()).expect("a limit");
        Self(group)
    }

    /// A program that runs in the group from its start.
    pub fn command(&self, program: &Program, arguments: &[&str]) -> Command {
        let usual = program.command();
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "echo $$ >\"$0/cgroup.procs\" && program=\"$1\" && shift && exec \"$program\" \"$@\"",
            ])
            .arg(&self.0)
            .arg(usual.get_program())
            .args(usual.get_args())
            .args(arguments);
        command
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The kernel lets go of its dead a little later; what is left over is an empty folder.
        let _ = std::fs::remove_dir(&self.0);
    }
}

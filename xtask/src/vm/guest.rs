//! What a guest consists of: the test binaries, the programs that they trace and leaktrace itself at
//! the paths that they have here, with their libraries; busybox; a script that the kernel starts.

use std::{
    collections::BTreeSet,
    fs::File,
    io::BufWriter,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::image::Image;
use crate::{command::output, workspace};

/// What a guest prints last when its script went well, with this exit code; nothing else is a pass.
pub(crate) const EXIT: &str = "VMTEST-EXIT";

/// What it prints before a complaint of its kernel.
pub(crate) const COMPLAINT: &str = "VMTEST-KERNEL";

/// What it prints before how its kernel preempts: the modes that it has, with that in use in brackets.
pub(crate) const PREEMPTS: &str = "VMTEST-PREEMPT";

/// Preloaded into traced programs, or the loader of another C library: `ldd` names none of them.
const LOADED: [&str; 5] = [
    "/lib/ld-musl-x86_64.so.1",
    "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
    "/usr/lib/x86_64-linux-gnu/libtcmalloc.so.4",
    "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
    "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2",
];

/// Makes tests long whose findings depend on how often threads interrupt each other.
const LONG: &str = "LEAKTRACE_CHAINED_ALLOCATIONS=1000000";

/// File systems and the loopback device. /tmp stays a folder: this checkout may lie in it.
const SETUP: &str = "#!/bin/sh
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
ip link set lo up
";

/// Writes the initramfs of a guest that runs this script.
///
/// # Errors
/// When something of it cannot be read, or the file not be written.
pub(crate) fn write(
    busybox: &Path,
    executables: &[PathBuf],
    script: &str,
    to: &Path,
) -> Result<()> {
    let file = File::create(to).with_context(|| format!("cannot write {}", to.display()))?;
    let mut image = Image::new(BufWriter::new(file));
    for folder in ["/proc", "/sys", "/dev", "/root", "/run", "/var/tmp"] {
        image.folder(Path::new(folder), 0o755)?;
    }
    image.folder(Path::new("/tmp"), 0o1777)?;
    let init = format!("{SETUP}{script}");
    image.file(Path::new("/init"), 0o755, init.as_bytes())?;
    let users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n";
    image.file(Path::new("/etc/passwd"), 0o644, users.as_bytes())?;
    add_busybox(&mut image, busybox)?;
    // The harness names a traced program after its source, and so looks at it.
    let programs = workspace::root().join("tests/programs");
    add_all(&mut image, &programs)?;
    let traced = traced_programs();
    let mut needed = BTreeSet::new();
    for executable in executables.iter().chain([&workspace::leaktrace()]) {
        needed.extend(libraries(executable));
        add_stripped(&mut image, executable)?;
    }
    for program in files(&traced)? {
        needed.extend(libraries(&program));
        image.copy(&program, &program)?;
    }
    for library in LOADED.map(Path::new) {
        if library.exists() {
            needed.insert(library.to_owned());
            needed.extend(libraries(library));
        }
    }
    for library in needed {
        // As a link to a version it would point to nothing.
        image.copy(&library, &library)?;
    }
    image.finish().map(drop)
}

/// Runs a test binary, but not these of its tests.
pub(crate) fn script_of_suite(executable: &Path, without: &[&str]) -> String {
    let skipped: String = without
        .iter()
        .map(|test| format!(" --skip {test}"))
        .collect();
    script(&format!(
        "{} --test-threads=1 --exact{skipped}",
        executable.display()
    ))
}

/// Wants leaktrace to refuse with these words.
pub(crate) fn script_of_refusal(words: &str) -> String {
    script(&format!(
        "$LEAKTRACE_BIN --pid $$ >/said 2>&1; code=$?; cat /said; \
         test $code = 1 && test $(wc -l </said) = 1 && grep -q '{words}' /said"
    ))
}

fn script(command: &str) -> String {
    let leaktrace = workspace::leaktrace();
    format!(
        "export LEAKTRACE_BIN={} {LONG}\nuname -r\n\
         echo {PREEMPTS} $(cat /sys/kernel/debug/sched/preempt)\n{command}\ncode=$?\n\
         dmesg | grep -E 'BUG:|WARNING:|Oops|rcu.*stall' | sed 's/^/{COMPLAINT} /'\n\
         echo {EXIT} $code\nreboot -f\n",
        leaktrace.display()
    )
}

/// Where the harness keeps the programs that it compiled.
pub(crate) fn traced_programs() -> PathBuf {
    workspace::target().join("traced-programs")
}

fn add_busybox(image: &mut Image<BufWriter<File>>, busybox: &Path) -> Result<()> {
    image.copy(busybox, Path::new("/bin/busybox"))?;
    for applet in output(Command::new(busybox).arg("--list"))?.lines() {
        image.link(&Path::new("/bin").join(applet), "busybox")?;
    }
    Ok(())
}

fn add_all(image: &mut Image<BufWriter<File>>, folder: &Path) -> Result<()> {
    for file in files(folder)? {
        image.copy(&file, &file)?;
    }
    Ok(())
}

/// Without debug information, which is most of the file and of the guest's memory.
fn add_stripped(image: &mut Image<BufWriter<File>>, executable: &Path) -> Result<()> {
    let stripped = workspace::target().join(format!("vm/stripped-{}", std::process::id()));
    let mut strip = Command::new("strip");
    output(strip.args(["-g", "-o"]).arg(&stripped).arg(executable))?;
    image.copy(&stripped, executable)?;
    std::fs::remove_file(&stripped).with_context(|| format!("cannot remove {}", stripped.display()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// What the loader maps for it; nothing for a static one.
fn libraries(executable: &Path) -> Vec<PathBuf> {
    let told = output(Command::new("ldd").arg(executable)).unwrap_or_default();
    libraries_in(&told)
}

fn libraries_in(told: &str) -> Vec<PathBuf> {
    told.split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_taken_from_where_the_loader_finds_them() {
        let told = "\tlinux-vdso.so.1 (0x7ffe)\n\tlibm.so.6 => /lib/libm.so.6 (0x7f00)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7f01)\n";
        let expected = ["/lib/libm.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries_in(told), expected.map(PathBuf::from));
        assert!(libraries_in("\tstatically linked\n").is_empty());
    }

    #[test]
    fn a_suite_is_run_without_what_cannot_be_run() {
        let script = script_of_suite(Path::new("/t/exact-1"), &["one", "two"]);
        assert!(script.contains("\n/t/exact-1 --test-threads=1 --exact --skip one --skip two\n"));
        assert!(
            script.ends_with("echo VMTEST-EXIT $code\nreboot -f\n"),
            "{script}"
        );
    }
}

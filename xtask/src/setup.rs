//! Installs what is missing: test programs' compilers, and the BPF toolchain. Leaves alone what is
//! there, and touches nothing outside the target folder but the distribution's packages, and of one of
//! these a setting.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{as_root, output, run, say},
    toolchain::{self, BPF_LINKER_VERSION, Compiler},
    workspace,
};

/// What the end-to-end tests compile their traced programs with, and real programs that they
/// trace: program, Debian package.
const TEST_TOOLS: [(&str, &str); 15] = [
    ("gcc", "gcc"),
    ("g++", "g++"),
    ("musl-gcc", "musl-tools"),
    ("go", "golang-go"),
    ("node", "nodejs"),
    ("perl", "perl"),
    ("python3", "python3"),
    ("clang", "clang"),
    ("git", "git"),
    ("xz", "xz-utils"),
    ("javac", "default-jdk-headless"),
    ("sqlite3", "sqlite3"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("nginx", "nginx-light"),
];

/// Allocators and libraries that traced programs are linked with or preloaded with: a file of the
/// package, Debian package.
const TEST_LIBRARIES: [(&str, &str); 4] = [
    ("libjemalloc.a", "libjemalloc-dev"),
    ("libtcmalloc.a", "libgoogle-perftools-dev"),
    ("libmimalloc.so", "libmimalloc-dev"),
    ("libsqlite3.so", "libsqlite3-dev"),
];

/// Where Debian has libraries.
const LIBRARY_FOLDER: &str = "/usr/lib/x86_64-linux-gnu";

/// Debian's compiler with the sources of `core` and with clippy, from its security archive.
const BPF_COMPILER: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];

/// What the tests need.
///
/// # Errors
/// When it cannot be installed.
pub(crate) fn tests() -> Result<()> {
    for (program, package) in TEST_TOOLS {
        if workspace::on_path(program).is_some() {
            say(&format!("setup: {program} is there"));
        } else {
            install(&[package])?;
        }
    }
    database()?;
    for (library, package) in TEST_LIBRARIES {
        if Path::new(LIBRARY_FOLDER).join(library).exists() {
            say(&format!("setup: {library} is there"));
        } else {
            install(&[package])?;
        }
    }
    Ok(())
}

/// A database server of which the tests make clusters of their own: one for the machine is not made, and
/// so none is started.
fn database() -> Result<()> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions = versions.flatten();
    if versions.any(|version| version.path().join("bin/initdb").exists()) {
        say("setup: postgresql is there");
        return Ok(());
    }
    // The package that reads it comes first: with a file of that name there, it would ask what to do.
    install(&["postgresql-common"])?;
    let mut command = as_root(OsStr::new("sed"))?;
    command.args([
        "-i",
        r"s/^#\?\s*create_main_cluster.*/create_main_cluster = false/",
    ]);
    output(command.arg("/etc/postgresql-common/createcluster.conf"))?;
    install(&["postgresql"])
}

/// What the BPF build needs.
///
/// # Errors
/// When it cannot be installed.
pub(crate) fn bpf() -> Result<Compiler> {
    let compiler = bpf_compiler()?;
    bpf_llvm(&compiler)?;
    bpf_linker(&compiler)?;
    Ok(compiler)
}

fn bpf_compiler() -> Result<Compiler> {
    let there = |compiler: &Compiler| compiler.program("cargo-clippy").exists();
    if let Some(compiler) = toolchain::find()?.filter(there) {
        say(&format!(
            "setup: BPF compiler is there: {}",
            compiler.version
        ));
        return Ok(compiler);
    }
    if workspace::on_path("apt-get").is_none() {
        bail!(
            "no compiler for the BPF target, and no apt-get to install one with; \
             run: rustup toolchain install nightly --component rust-src,clippy"
        );
    }
    install(&BPF_COMPILER)?;
    if toolchain::find()?.is_none() {
        // The lists on this machine can be older than the security archive.
        apt_get(&["update"])?;
        install(&BPF_COMPILER)?;
    }
    toolchain::find()?.with_context(|| {
        format!(
            "the distribution's {} is too old for this workspace; \
             run: rustup toolchain install nightly --component rust-src,clippy",
            BPF_COMPILER[0]
        )
    })
}

fn bpf_llvm(compiler: &Compiler) -> Result<()> {
    let major = compiler.llvm_major;
    let llvm = compiler.llvm();
    let parts = ["bin/llvm-config", "bin/llvm-objcopy", "lib/libPolly.a"];
    if parts.iter().all(|part| llvm.join(part).exists()) {
        say(&format!("setup: LLVM {major} is there"));
        return Ok(());
    }
    install(&[
        &format!("llvm-{major}"),
        &format!("llvm-{major}-dev"),
        &format!("libpolly-{major}-dev"),
    ])
}

fn bpf_linker(compiler: &Compiler) -> Result<()> {
    let wanted = format!("bpf-linker {BPF_LINKER_VERSION}");
    let linker = compiler.bpf_linker();
    if linker.exists() && output(Command::new(&linker).arg("--version"))?.trim() == wanted {
        say(&format!("setup: {wanted} is there"));
        return Ok(());
    }
    say(&format!("setup: building {wanted} (a minute or two)"));
    let tools = compiler.tools();
    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    run(workspace::cargo()
        .args(["install", "bpf-linker", "--quiet", "--locked", "--force"])
        .args(["--version", BPF_LINKER_VERSION, "--no-default-features"])
        .arg(format!("--features=llvm-{}", compiler.llvm_major))
        .arg("--root")
        .arg(&tools)
        // Built in a folder that cargo removes afterwards.
        .env_remove("CARGO_TARGET_DIR")
        .env("LLVM_PREFIX", compiler.llvm()))
}

/// Installs packages; fetches the package lists only when those of this machine do not do.
///
/// # Errors
/// When a package cannot be had, or this process is not root and there is no sudo.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    say(&format!("setup: installing {}", packages.join(" ")));
    // --no-remove: a conflict with something that the machine's owner installed is theirs to solve.
    let arguments = ["install", "-y", "--no-install-recommends", "--no-remove"];
    let arguments = [&arguments, packages].concat();
    if apt_get(&arguments).is_err() {
        apt_get(&["update"])?;
        apt_get(&arguments)?;
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    if workspace::on_path("apt-get").is_none() {
        bail!(
            "cannot install packages without apt-get; install by hand: {}",
            arguments.join(" ")
        );
    }
    // env rather than Command::env: sudo clears the environment.
    let mut command = as_root(OsStr::new("env"))?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]);
    output(command.args(arguments).stdin(Stdio::null())).map(drop)
}

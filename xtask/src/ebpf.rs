//! Turns the sources of the kernel side into the object that is committed. The same sources and
//! the same compiler give the same bytes in any checkout on any machine.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{output, run, say},
    digest, setup,
    toolchain::{BPF_LINKER_VERSION, Compiler},
    workspace,
};

const BPF_TARGET: &str = "bpfel-unknown-none";
const SECTION: &str = ".leaktrace.sources";

/// Rebuilds the committed object.
pub(crate) fn rebuild() -> Result<()> {
    let compiler = setup::bpf()?;
    let object = build(&compiler)?;
    let place = workspace::bpf_object();
    let unchanged = fs::read(&place).is_ok_and(|old| old == object);
    fs::create_dir_all(place.parent().context("the object has no folder")?)?;
    fs::write(&place, &object).with_context(|| format!("cannot write {}", place.display()))?;
    let size_kib = object.len().div_ceil(1024);
    let change = if unchanged {
        "unchanged"
    } else {
        "changed: commit it"
    };
    say(&format!("{} ({size_kib} KiB, {change})", place.display()));
    Ok(())
}

/// Builds the object into the target folder and returns its bytes.
///
/// # Errors
/// When it does not build, or has no BTF, without which the kernel takes no callbacks.
pub(crate) fn build(compiler: &Compiler) -> Result<Vec<u8>> {
    run(cargo(compiler, &rust_flags(compiler))
        .args(["build"])
        .args(build_arguments()))?;
    let built = build_folder()
        .join(BPF_TARGET)
        .join("release/leaktrace-ebpf");
    let stamped = workspace::target().join("bpf/leaktrace.bpf.o");
    let stamp = workspace::target().join("bpf/sources.txt");
    fs::write(&stamp, stamp_text(compiler)?)?;
    // DWARF is nine tenths of the object, and neither the kernel nor aya reads it; BTF stays.
    output(
        Command::new(compiler.llvm().join("bin/llvm-objcopy"))
            .arg("--strip-debug")
            .arg(format!("--add-section={SECTION}={}", stamp.display()))
            .args([&built, &stamped]),
    )?;
    let object = fs::read(&stamped)?;
    for section in [".BTF\0", ".BTF.ext\0"] {
        if !contains(&object, section) {
            bail!(
                "the BPF object has no section {}",
                section.trim_end_matches('\0')
            );
        }
    }
    Ok(object)
}

/// Denies the warnings of rustc and clippy in the kernel side.
///
/// # Errors
/// When there are any.
pub(crate) fn clippy(compiler: &Compiler) -> Result<()> {
    run(cargo(compiler, &rust_flags(compiler))
        .arg("clippy")
        .args(build_arguments())
        .args(["--", "-D", "warnings"]))
}

/// The lines that an object carries about its origin.
///
/// # Errors
/// When the sources cannot be read.
pub(crate) fn stamp_text(compiler: &Compiler) -> Result<String> {
    let sources = digest::of_sources(&workspace::root())
        .context("cannot read the sources of the BPF object")?;
    Ok(format!(
        "{}{sources}\n{}\n",
        digest::MARKER,
        compiled_by(compiler)
    ))
}

/// What built an object; only the same builds the same bytes.
pub(crate) fn compiled_by(compiler: &Compiler) -> String {
    format!(
        "built-by: {}, bpf-linker {BPF_LINKER_VERSION}",
        compiler.version
    )
}

/// Whether the bytes have the text in them.
pub(crate) fn contains(object: &[u8], text: &str) -> bool {
    object
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn build_folder() -> PathBuf {
    workspace::target().join("bpf/build")
}

fn build_arguments() -> [&'static str; 6] {
    [
        "--quiet",
        "--release",
        "--package=leaktrace-ebpf",
        "-Zbuild-std=core",
        "--target",
        BPF_TARGET,
    ]
}

/// The compiler's own cargo, with nothing of the cargo that runs this task left in its
/// environment.
fn cargo(compiler: &Compiler, rust_flags: &[String]) -> Command {
    let mut command = Command::new(compiler.program("cargo"));
    for variable in [
        "LD_LIBRARY_PATH",
        "RUSTUP_TOOLCHAIN",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "CARGO",
    ] {
        command.env_remove(variable);
    }
    let old = env::var_os("PATH").unwrap_or_default();
    let first = [compiler.tools().join("bin"), compiler.sysroot.join("bin")];
    if let Ok(path) = env::join_paths(first.into_iter().chain(env::split_paths(&old))) {
        command.env("PATH", path);
    }
    command
        .current_dir(workspace::root())
        .env("RUSTC", compiler.program("rustc"))
        // -Z options on a compiler of the stable channel.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", build_folder())
        .env("CARGO_ENCODED_RUSTFLAGS", rust_flags.join("\x1f"))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
    command
}

/// The linker is named, not given by its path, and every path that could get into BTF is cut off:
/// both would change the bytes from one checkout to the next.
fn rust_flags(compiler: &Compiler) -> Vec<String> {
    let mut flags: Vec<String> = ["-Clinker=bpf-linker", "-Clink-arg=--btf", "-Ctarget-cpu=v3"]
        .map(String::from)
        .to_vec();
    let mut renamed = vec![
        (workspace::root(), "/leaktrace"),
        (compiler.sysroot.join("lib/rustlib/src/rust"), "/rust"),
    ];
    renamed.extend(registries().into_iter().map(|folder| (folder, "/crates")));
    for (folder, name) in renamed {
        flags.push(format!("--remap-path-prefix={}={name}", folder.display()));
    }
    flags
}

/// Where cargo unpacks crates; the folder's name depends on which registry or mirror is set.
fn registries() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| {
        let home = env::var_os("HOME")?;
        Some(Path::new(&home).join(".cargo"))
    });
    let Some(home) = home else {
        return Vec::new();
    };
    let Ok(folders) = fs::read_dir(home.join("registry/src")) else {
        return Vec::new();
    };
    let mut folders: Vec<_> = folders.flatten().map(|folder| folder.path()).collect();
    folders.sort();
    folders
}

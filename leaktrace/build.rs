//! Checks that the committed BPF object was built from the sources beside it. Builds nothing: the
//! object needs a BPF toolchain, `leaktrace` needs stable Rust alone.

use std::{env, fs, path::Path};

#[path = "bpf/digest.rs"]
mod digest;

const OBJECT: &str = "bpf/leaktrace.bpf.o";

fn main() {
    // Fails the build with this line alone; a failing exit code would bury it under all output.
    if let Err(problem) = check() {
        println!("cargo::error={problem}; run: cargo xtask ebpf");
    }
}

fn check() -> Result<(), String> {
    let package = env::var("CARGO_MANIFEST_DIR").map_err(|e| format!("CARGO_MANIFEST_DIR: {e}"))?;
    let package = Path::new(&package);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=bpf");
    let object = fs::read(package.join(OBJECT))
        .map_err(|e| format!("leaktrace/{OBJECT} cannot be read: {e}"))?;
    // A published package has the object but not its sources: there is nothing to compare.
    let workspace = package.join("..");
    if !workspace.join(digest::INPUTS[0]).exists() {
        return Ok(());
    }
    for input in digest::INPUTS.iter().chain([&digest::WORKSPACE_MANIFEST]) {
        println!("cargo::rerun-if-changed=../{input}");
    }
    let sources = digest::of_sources(&workspace)
        .map_err(|e| format!("the sources of leaktrace/{OBJECT} cannot be read: {e}"))?;
    if digest::of_object(&object) == Some(&sources) {
        return Ok(());
    }
    Err(format!("leaktrace/{OBJECT} is older than its sources"))
}

//! Everything that must hold before a change is submitted, but for the tests: one line a step, and
//! the first that fails ends the check. Changes no source file.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{
    command::{run, say},
    digest, ebpf, setup,
    toolchain::Compiler,
    workspace,
};

/// Runs all steps.
pub(crate) fn check() -> Result<()> {
    let compiler = setup::bpf()?;
    say("check: formatting");
    run(workspace::cargo().args(["fmt", "--all", "--check"]))
        .context("the formatting differs; run: cargo fmt --all")?;
    say("check: the BPF object carries the digest of its sources");
    digest_is_current()?;
    say("check: clippy, host crates");
    run(workspace::cargo()
        .args(["clippy", "--quiet", "--locked", "--all-targets"])
        .args(["--", "-D", "warnings"]))?;
    say("check: clippy, BPF crate");
    ebpf::clippy(&compiler)?;
    say("check: documentation");
    run(workspace::cargo()
        .args(["doc", "--quiet", "--locked", "--no-deps"])
        .env("RUSTDOCFLAGS", "-D warnings"))?;
    say("check: the BPF object is what its sources build to");
    object_is_reproduced(&compiler)?;
    say("check: all is well");
    Ok(())
}

fn committed() -> Result<Vec<u8>> {
    let place = workspace::bpf_object();
    fs::read(&place).with_context(|| format!("cannot read {}", place.display()))
}

fn digest_is_current() -> Result<()> {
    let sources = digest::of_sources(&workspace::root())
        .context("cannot read the sources of the BPF object")?;
    if digest::of_object(&committed()?) != Some(&sources) {
        bail!("leaktrace/bpf/leaktrace.bpf.o is older than its sources; run: cargo xtask ebpf");
    }
    Ok(())
}

/// Compares bytes. Another compiler gives other bytes for the same sources, so that there is
/// nothing to compare: then building at all is what is checked.
fn object_is_reproduced(compiler: &Compiler) -> Result<()> {
    let committed = committed()?;
    let built = ebpf::build(compiler)?;
    let here = ebpf::compiled_by(compiler);
    if !ebpf::contains(&committed, &here) {
        say(&format!(
            "check: bytes not compared: the committed object was not {here}"
        ));
        return Ok(());
    }
    if built != committed {
        bail!(
            "leaktrace/bpf/leaktrace.bpf.o is not what its sources build to; \
             run: cargo xtask ebpf"
        );
    }
    Ok(())
}

//! How soon a process with much code is reported on, and how much kernel memory its unwind tables
//! take: rustc, which has 160 MB of code in some 20 modules.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{Attach, say_row};
use crate::{
    child::Running,
    command::{output, say},
    workspace,
};

/// The dynamic linker is done when the compiler waits for its source.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reports after which every table is in place.
const LAST_REPORT: usize = 16;

/// What one attach has come to.
struct Attached {
    armed_ms: f64,
    first_report_ms: f64,
    table_bytes: u64,
}

/// Measures and prints both.
pub(super) fn measure(options: &Attach) -> Result<()> {
    let compiler = Running::start(
        Command::new(compiler()?)
            .args(["--crate-type=lib", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let (code_bytes, modules) = code(&compiler)?;
    let (mut armed, mut reported) = (Vec::new(), Vec::new());
    let mut table_bytes = 0;
    for _ in 0..options.rounds.max(1) {
        let attached = attach(&compiler)?;
        armed.push(attached.armed_ms);
        reported.push(attached.first_report_ms);
        table_bytes = attached.table_bytes;
    }
    say(&format!(
        "rustc, {} MB of code in {modules} modules:",
        code_bytes / 1_000_000
    ));
    say_row("start to armed", &armed, "ms", "");
    say_row(
        "to first report",
        &reported,
        "ms",
        "reports every 250 ms, of which the first is counted from armed on",
    );
    say(&format!(
        "  unwind tables: {:.1} MiB of kernel memory, {:.1}% of the code",
        table_bytes as f64 / f64::from(1 << 20),
        table_bytes as f64 * 100.0 / code_bytes as f64,
    ));
    Ok(())
}

/// The compiler itself, without rustup before it.
fn compiler() -> Result<PathBuf> {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(sysroot.trim()).join("bin/rustc"))
}

/// Bytes of mapped code, and files that they are of, once that does not grow any more.
fn code(process: &Running) -> Result<(u64, usize)> {
    let begun = Instant::now();
    let mut before = (0, 0);
    while begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
        let now = mapped_code(process.pid())?;
        if now == before && now.0 > 100_000_000 {
            return Ok(now);
        }
        before = now;
    }
    bail!(
        "rustc has {} bytes of code, which is not a large process",
        before.0
    )
}

fn mapped_code(pid: u32) -> Result<(u64, usize)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let (mut bytes, mut files) = (0, std::collections::HashSet::new());
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, rights, .., path] = words[..] else {
            continue;
        };
        if !rights.contains('x') || !path.starts_with('/') {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range")?;
        bytes += u64::from_str_radix(end, 16)? - u64::from_str_radix(start, 16)?;
        files.insert(path);
    }
    Ok((bytes, files.len()))
}

fn attach(compiler: &Running) -> Result<Attached> {
    let begun = Instant::now();
    let mut leaktrace = Running::start(
        Command::new(workspace::leaktrace())
            .args(["-p", &compiler.pid().to_string(), "-q", "-i", "250ms"])
            .args(["--format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped()),
    )?;
    let output = leaktrace.0.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(output);
    let ms = || begun.elapsed().as_secs_f64() * 1e3;
    next(&mut lines, "start")?;
    let armed_ms = ms();
    let mut report = next(&mut lines, "report")?;
    let first_report_ms = ms();
    for _ in 1..LAST_REPORT {
        report = next(&mut lines, "report")?;
    }
    let table_bytes = report["unwind_table_bytes"]
        .as_u64()
        .with_context(|| format!("no size of tables in {report}"))?;
    Ok(Attached {
        armed_ms,
        first_report_ms,
        table_bytes,
    })
}

fn next(lines: &mut BufReader<ChildStdout>, kind: &str) -> Result<serde_json::Value> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let value: serde_json::Value =
        serde_json::from_str(&line).with_context(|| format!("no JSON: {line:?}"))?;
    if value["kind"] != kind {
        bail!("instead of a {kind} line: {line}");
    }
    Ok(value)
}

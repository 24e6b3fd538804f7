//! The program that the tracers are measured on: started, held until a tracer is attached, read.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::child::Running;

/// The compiled `xtask/bench/malloc_bench.c`.
pub(super) fn program() -> PathBuf {
    super::folder().join("malloc_bench")
}

/// A function of the C library that the target has mapped.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// Address in the target.
    pub(super) address: u64,
    /// Offset in the file.
    pub(super) file_offset: u64,
    /// The file, as the target sees it.
    pub(super) object: PathBuf,
}

/// A target that waits for [`Target::go`].
#[derive(Debug)]
pub(super) struct Target {
    process: Running,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its malloc.
    pub(super) malloc: Function,
    /// Its free.
    pub(super) free: Function,
}

impl Target {
    /// Starts one and waits until it is ready.
    pub(super) fn start(depth: u32, milliseconds: u32) -> Result<Self> {
        let mut process = Running::start(
            Command::new(program())
                .args([depth.to_string(), milliseconds.to_string(), "wait".into()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        )?;
        let input = process
            .0
            .stdin
            .take()
            .context("the target has no standard input")?;
        let output = process
            .0
            .stdout
            .take()
            .context("the target has no standard output")?;
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let mut functions = line
            .split_whitespace()
            .skip(1)
            .map(|hex| u64::from_str_radix(hex, 16));
        let (Some(Ok(malloc)), Some(Ok(free))) = (functions.next(), functions.next()) else {
            bail!("the target did not say where malloc and free are: {line:?}");
        };
        let pid = process.pid();
        Ok(Self {
            malloc: locate(pid, malloc)?,
            free: locate(pid, free)?,
            process,
            input,
            output,
        })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Lets it run, and returns nanoseconds for a malloc and its free.
    pub(super) fn go(mut self) -> Result<f64> {
        self.input.write_all(b"go\n")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        read_result(&line).with_context(|| format!("the target measured nothing: {line:?}"))
    }

    /// The first bytes of malloc and of free as they are in its memory: a probe changes them.
    pub(super) fn code(&self) -> Result<(Code, Code)> {
        let memory = fs::File::open(format!("/proc/{}/mem", self.pid()))?;
        let read = |function: &Function| -> Result<Code> {
            let mut code = Code::default();
            memory.read_exact_at(&mut code, function.address)?;
            Ok(code)
        };
        Ok((read(&self.malloc)?, read(&self.free)?))
    }
}

/// The first bytes of a function.
pub(super) type Code = [u8; 16];

/// Nanoseconds, from the line that the program prints at its end.
pub(super) fn read_result(output: &str) -> Option<f64> {
    output
        .lines()
        .find_map(|line| line.strip_prefix("ns_per_pair "))
        .and_then(|number| number.trim().parse().ok())
}

fn locate(pid: u32, address: u64) -> Result<Function> {
    let mappings = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    mappings
        .lines()
        .find_map(|line| locate_in(line, address))
        .with_context(|| format!("{address:#x} is in no mapped file of process {pid}"))
}

fn locate_in(mapping: &str, address: u64) -> Option<Function> {
    let mut fields = mapping.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
    let object = PathBuf::from(fields.nth(2)?);
    (start..end).contains(&address).then(|| Function {
        address,
        file_offset: address - start + offset,
        object,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_in_its_file() {
        let line = "7f653ca9b000-7f653cbf0000 r-xp 00026000 fe:00 1234   /usr/lib/libc.so.6";
        let found = locate_in(line, 0x7f65_3cb0_e930);
        assert_eq!(
            found.map(|f| f.file_offset),
            Some(0x7f65_3cb0_e930 - 0x7f65_3ca9_b000 + 0x26000)
        );
        assert!(locate_in(line, 0x7f65_3cbf_0000).is_none());
    }

    #[test]
    fn the_result_is_found_among_other_output() {
        assert_eq!(
            read_result("starting\nns_per_pair 12.50\ndone\n"),
            Some(12.5)
        );
        assert_eq!(read_result("killed\n"), None);
    }
}

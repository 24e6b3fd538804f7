//! Turns `cargo xtask <task>` into the programs that build, check and measure leaktrace. Nothing
//! of leaktrace itself is in here.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod check;
mod child;
mod choice;
mod command;
mod debian_root;
mod demo;
#[path = "../../leaktrace/bpf/digest.rs"]
mod digest;
mod ebpf;
mod matrix;
mod setup;
mod suites;
mod test;
mod toolchain;
mod vm;
mod workspace;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and measures leaktrace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests and the BPF build need, and say what is there already
    Setup,
    /// Build the BPF object from source, in place of the committed one
    Ebpf,
    /// Check formatting, lints, documentation, and that the BPF object is up to date
    Check,
    /// Run the unit and end-to-end tests (as root)
    Test {
        /// Run only the end-to-end tests, with these arguments for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run the suites of exactness with the traced programs on other C libraries and allocators (as root)
    Matrix(matrix::Choice),
    /// Boot other kernels under emulation, and run end-to-end tests in each (as root, an hour)
    Vm(vm::Choice),
    /// Trace a leaking service for ten seconds, and show the report and the flame graph
    Demo,
    /// Measure what tracing costs (as root)
    #[command(subcommand)]
    Bench(bench::Benchmark),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup => setup::tests().and_then(|()| setup::bpf().map(drop)),
        Task::Ebpf => ebpf::rebuild(),
        Task::Check => check::check(),
        Task::Test { arguments } => test::test(&arguments),
        Task::Matrix(choice) => matrix::matrix(&choice),
        Task::Vm(choice) => vm::vm(&choice),
        Task::Demo => demo::demo(),
        Task::Bench(benchmark) => bench::bench(&benchmark),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

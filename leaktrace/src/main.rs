//! The command line program: arguments in, exit code out.

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use leaktrace::cli::{Cli, Command};
use leaktrace::export::sanitize::plain;
use leaktrace::preflight::Preflight;
use leaktrace::run::{self, Outcome};

/// A site was judged leaking, and the user asked to be told so.
const LEAK_FOUND: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    leaktrace::diagnostics::install(cli.trace.verbose);
    if let Some(Command::Doctor) = cli.command {
        return doctor();
    }
    if let Some(contradiction) = cli.trace.contradiction() {
        Cli::command()
            .error(ErrorKind::ArgumentConflict, contradiction)
            .exit();
    }
    match run::trace(&cli.trace) {
        Ok(outcome) => exit_code(outcome, cli.trace.fail_on_leak),
        // Whoever read the output has gone (`| head`): nobody is left to tell anything.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever the layers below have said.
            let line = without_error_numbers(&format!("{error:#}").replace('\n', " "));
            let _ = writeln!(std::io::stderr(), "leaktrace: {}", plain(&line));
            ExitCode::FAILURE
        }
    }
}

/// A leak that was asked for comes before the code of a command that went well, but not before that
/// of one that failed.
fn exit_code(outcome: Outcome, fail_on_leak: bool) -> ExitCode {
    match outcome.command.unwrap_or(0) {
        0 if fail_on_leak && outcome.leak_found => ExitCode::from(LEAK_FOUND),
        code => ExitCode::from(code),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Drops ` (os error 2)`: the words before it say the same.
fn without_error_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once(')').map_or("", |(_, rest)| rest));
    }
    out
}

fn doctor() -> ExitCode {
    let preflight = Preflight::check();
    match std::io::stdout().write_all(preflight.render_doctor().as_bytes()) {
        Ok(()) => ExitCode::from(preflight.exit_code()),
        Err(_) => ExitCode::FAILURE,
    }
}

//! Messages of the program about itself, and of the BPF programs (aya-log), to standard error.

use std::io::Write;

use crate::export::sanitize::plain;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Writes each message as one line.
struct StandardError;

static LOGGER: StandardError = StandardError;

/// Sends messages to standard error: warnings always, information from `-v` on, debug messages
/// (those of the kernel side too) from `-vv` on.
pub fn install(verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        _ => LevelFilter::Debug,
    };
    // An error means that a logger is installed already, which serves as well.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for StandardError {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates' debug messages are theirs; the BPF programs log under leaktrace_ebpf.
        metadata.level() <= Level::Warn || metadata.target().starts_with("leaktrace")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let side = if record.target().starts_with("leaktrace_ebpf") {
                "kernel: "
            } else {
                ""
            };
            let text = record.args().to_string();
            let _ = writeln!(std::io::stderr(), "leaktrace: {side}{}", plain(&text));
        }
    }

    fn flush(&self) {}
}

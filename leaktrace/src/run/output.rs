//! Where lines, messages and files go. Reports go to standard output, flushed line by line;
//! messages go to standard error.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Context;

use crate::cli::{Format, TraceArgs};
use crate::export::sanitize::plain;
use crate::export::{file, flamegraph, folded, json, messages, text};
use crate::report::{End, Line, NewTarget, Report, Start};

/// Standard output, standard error and the export files of a session.
pub(super) struct Output {
    format: Format,
    style: text::Style,
    quiet: bool,
    flamegraph: Option<PathBuf>,
    folded: Option<PathBuf>,
    file_failure: Option<String>,
}

impl Output {
    /// Makes sure that the export files can be written, before anything is attached.
    ///
    /// # Errors
    ///
    /// When one cannot.
    pub(super) fn open(args: &TraceArgs) -> anyhow::Result<Self> {
        for path in [&args.flamegraph, &args.folded].into_iter().flatten() {
            // Its text says all; its source would be said twice.
            file::check_writable(path).map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        let colour = io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            format: args.format,
            style: text::Style { colour },
            quiet: args.quiet,
            flamegraph: args.flamegraph.clone(),
            folded: args.folded.clone(),
            file_failure: None,
        })
    }

    /// Says that everything is attached and armed.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub(super) fn start(&mut self, start: &Start, args: &TraceArgs) -> anyhow::Result<()> {
        self.say(&messages::start(start));
        if args.verbose > 0 {
            self.say(&messages::probes(start));
        }
        self.line(&Line::Start(start.clone()))
    }

    /// Says that a process was forked, or runs another program.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub(super) fn new_target(&mut self, new: NewTarget) -> anyhow::Result<()> {
        self.say(&messages::new_target(&new));
        self.line(&Line::Target(new))
    }

    /// Writes a line: JSON as it is, of the text only reports.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub(super) fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let written = match (self.format, line) {
            (Format::Json, line) => json::write_line(&mut out, line),
            (Format::Text, Line::Report(report)) => out
                .write_all(text::report(report, self.style).as_bytes())
                .and_then(|()| out.flush()),
            (Format::Text, _) => Ok(()),
        };
        written.context("failed to write to standard output")
    }

    /// Says how it ended.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written, or an export file could not be at last.
    pub(super) fn end(&mut self, end: &End) -> anyhow::Result<()> {
        self.say(&messages::end(end));
        self.line(&Line::End(end.clone()))?;
        match self.file_failure.take() {
            Some(failure) => anyhow::bail!("{failure}"),
            None => Ok(()),
        }
    }

    /// Whether reports with every site are needed for files.
    pub(super) fn wants_stacks(&self) -> bool {
        self.flamegraph.is_some() || self.folded.is_some()
    }

    /// Writes the export files. A file that cannot be written (disk full) does not end the
    /// session: it is said at once, and again as the error of the session unless a later report
    /// could write it.
    ///
    /// # Errors
    ///
    /// When a flame graph cannot be drawn.
    pub(super) fn stacks(&mut self, reports: &[Report]) -> anyhow::Result<()> {
        if !self.wants_stacks() {
            return Ok(());
        }
        let reports: Vec<&Report> = reports.iter().collect();
        let mut failure = None;
        if let Some(path) = &self.folded {
            failure = file::replace(path, &folded::folded(&reports)).err();
        }
        if let Some(path) = &self.flamegraph {
            let svg = flamegraph::flamegraph(&reports).context("failed to draw the flame graph")?;
            failure = file::replace(path, &svg).err().or(failure);
        }
        self.file_failure = failure.map(|failure| failure.to_string());
        if let Some(failure) = self.file_failure.clone() {
            self.say(&format!("leaktrace: {failure}\n"));
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            // Paths and names in it are the target's: they must not steer the terminal.
            let lines = text.lines().map(|line| plain(line).into_owned() + "\n");
            // Nobody is left to tell when standard error is gone.
            let _ = io::stderr().write_all(lines.collect::<String>().as_bytes());
        }
    }
}

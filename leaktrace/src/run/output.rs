//! Where lines, messages and files go. Reports go to standard output or the file that was named for
//! them, flushed line by line, without waiting for whoever reads it; messages go to standard error.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::sleep;

use super::children_said::ChildrenSaid;
use super::signals::Signals;
use super::written::{Taken, Written};
use crate::cli::{Format, TraceArgs};
use crate::export::sanitize::plain;
use crate::export::{file, flamegraph, folded, json, messages, text};
use crate::report::{End, Line, NewTarget, Report, Start};

/// Who reads the reports is told to go on when the last lines have waited so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Reports, messages and the export files of a session.
pub(super) struct Output {
    format: Format,
    style: text::Style,
    quiet: bool,
    flamegraph: Option<PathBuf>,
    folded: Option<PathBuf>,
    file_failure: Option<FileFailure>,
    written: Written,
    /// Where reports go, as messages call it.
    destination: String,
    /// Reports that were left out because nobody read the ones before.
    left_out: u64,
    /// The session is also about its exit code: it goes on when nobody is left to read reports.
    outlives_reader: bool,
    /// Nobody is left to read reports.
    reader_gone: bool,
    children: ChildrenSaid,
}

/// An export file that could not be written at the latest report.
struct FileFailure {
    path: PathBuf,
    /// What to tell.
    text: String,
    /// Whether it was told.
    is_said: bool,
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
        let (written, destination, is_terminal) = reports(args.output.as_deref())?;
        let colour =
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self {
            format: args.format,
            style: text::Style {
                colour,
                detail: match args.top {
                    None => text::Detail::Brief,
                    Some(0) => text::Detail::Whole,
                    Some(_) => text::Detail::Chosen,
                },
            },
            quiet: args.quiet,
            flamegraph: args.flamegraph.clone(),
            folded: args.folded.clone(),
            file_failure: None,
            written,
            destination,
            left_out: 0,
            outlives_reader: args.fail_on_leak || !args.command.is_empty(),
            reader_gone: false,
            children: ChildrenSaid::default(),
        })
    }

    /// Says that everything is attached and armed.
    ///
    /// # Errors
    ///
    /// When the reports cannot be written.
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
    /// When the reports cannot be written.
    pub(super) fn new_target(&mut self, new: NewTarget) -> anyhow::Result<()> {
        let text = self.children.lines(&new, Instant::now());
        self.say(&text);
        self.line(&Line::Target(new))
    }

    /// Writes a line: JSON as it is, of the text only reports.
    ///
    /// # Errors
    ///
    /// When the reports cannot be written.
    pub(super) fn line(&mut self, line: &Line) -> anyhow::Result<()> {
        let children = self.children.due(Instant::now());
        self.say(&children);
        if self.reader_gone {
            return Ok(());
        }
        let mut text = Vec::new();
        match (self.format, line) {
            (Format::Json, line) => json::write_line(&mut text, line)?,
            (Format::Text, Line::Report(report)) => {
                text.extend(text::report(report, self.style).as_bytes());
            }
            (Format::Text, _) => return Ok(()),
        }
        let can_be_left_out = matches!(line, Line::Report(report) if !report.is_final);
        let taken = match self.written.send(text, can_be_left_out) {
            Err(error) if self.outlives_reader && error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_gone = true;
                self.say(&format!(
                    "leaktrace: nobody reads {} any more: going on for the exit code\n",
                    self.destination
                ));
                return Ok(());
            }
            sent => sent.with_context(|| format!("failed to write to {}", self.destination))?,
        };
        if taken == Taken::LeftOut {
            if self.left_out == 0 {
                self.say(&format!(
                    "leaktrace: {} is not read: reports are left out\n",
                    self.destination
                ));
            }
            self.left_out += 1;
        }
        Ok(())
    }

    /// Waits until all is written, or a signal comes: who reads standard output may have stopped.
    ///
    /// # Errors
    ///
    /// When not all could be written.
    pub(super) async fn written(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        if self.left_out > 0 {
            self.say(&format!(
                "leaktrace: {} reports were left out, because {} was not read\n",
                self.left_out, self.destination
            ));
        }
        let destination = self.destination.clone();
        let outlives_reader = self.outlives_reader;
        let told = |written: io::Result<()>| match written {
            Err(error) if outlives_reader && error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.with_context(|| format!("failed to write to {destination}")),
        };
        tokio::select! {
            written = self.written.all() => return told(written),
            () = sleep(PATIENCE) => {}
        }
        self.say(&format!(
            "leaktrace: the last lines wait for the reader of {destination}; \
             Ctrl-C gives them up\n",
        ));
        tokio::select! {
            written = self.written.all() => told(written),
            _ = signals.next() => anyhow::bail!(
                "{destination} was not read: the last lines of it are lost"
            ),
        }
    }

    /// Says how it ended.
    ///
    /// # Errors
    ///
    /// When the reports cannot be written, or an export file could not be at last.
    pub(super) fn end(&mut self, end: &End) -> anyhow::Result<()> {
        let children = self.children.rest();
        self.say(&children);
        self.say(&messages::end(end));
        self.line(&Line::End(end.clone()))?;
        match self.file_failure.take() {
            Some(failure) if failure.is_said => anyhow::bail!(
                "{} could not be written at the end either; why and what to do is said above",
                failure.path.display()
            ),
            Some(failure) => anyhow::bail!("{}", failure.text),
            None => Ok(()),
        }
    }

    /// Whether reports with every site are needed for files.
    pub(super) fn wants_stacks(&self) -> bool {
        self.flamegraph.is_some() || self.folded.is_some()
    }

    /// Writes the export files. A file that cannot be written (disk full) does not end the
    /// session: it is said once, and is the error of the session unless a later report could
    /// write it. Of the last report it is only that error.
    ///
    /// # Errors
    ///
    /// When a flame graph cannot be drawn.
    pub(super) fn stacks(&mut self, reports: &[Report], is_final: bool) -> anyhow::Result<()> {
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
        let before = self.file_failure.take();
        let Some(failure) = failure else {
            return Ok(());
        };
        let text = failure.to_string();
        let was_said = before.is_some_and(|before| before.is_said && before.text == text);
        let says = !was_said && !is_final && !self.quiet;
        if says {
            self.say(&format!("leaktrace: {text}\n"));
        }
        self.file_failure = Some(FileFailure {
            path: failure.path,
            text,
            is_said: was_said || says,
        });
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

/// Where reports go: its name, and whether it is a terminal.
fn reports(path: Option<&Path>) -> anyhow::Result<(Written, String, bool)> {
    let Some(path) = path else {
        let name = "standard output".to_owned();
        return Ok((
            Written::to_standard_output()?,
            name,
            io::stdout().is_terminal(),
        ));
    };
    // Its text says all; its source would be said twice.
    let file = file::begin(path).map_err(|error| anyhow::anyhow!("{error}"))?;
    let is_terminal = file.is_terminal();
    let written = Written::to(file).context("failed to set the output of reports up")?;
    Ok((written, path.display().to_string(), is_terminal))
}

//! The list of stages: look, plan, load, attach, arm, read until the end, report. Decides what
//! happens when; how each thing is done stands in the other rooms.

mod attaching;
mod objects;
mod output;
mod traced;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval_at};

use crate::analysis::Order;
use crate::cli::{Sort, Stacks, TraceArgs};
use crate::preflight::Preflight;
use crate::report::{End, EndReason, Line, Start};
use crate::session::{Config, ExitStatus, Session, Sizes};
use output::Output;
use traced::Traced;

/// Readings between two reports, for the series that growth is judged by.
const READINGS_A_REPORT: u32 = 10;

/// Readings are neither more nor less frequent than this.
const FASTEST_READING: Duration = Duration::from_millis(500);
const SLOWEST_READING: Duration = Duration::from_secs(1);

/// Stacks through code whose unwind table is not ready are cut, so the first tables are waited
/// for; the last ones of a very large program come later.
const LONGEST_WAIT_FOR_TABLES: Duration = Duration::from_millis(400);

/// What a session has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Traced as asked.
    Done,
    /// As asked, and at least one site was judged leaking at the end.
    LeakFound,
}

/// Traces as the arguments say, until the time is over, a signal comes or every target has ended.
///
/// # Errors
///
/// When it cannot trace: one line with what failed, why, and what to do.
pub fn trace(args: &TraceArgs) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    runtime.block_on(run(args))
}

async fn run(args: &TraceArgs) -> anyhow::Result<Outcome> {
    if let Some(reason) = Preflight::check().error_for_tracing() {
        anyhow::bail!("{reason}");
    }
    let mut output = Output::open(args)?;
    let mut targets = traced::open_all(&args.pids, &args.pairs)?;
    let mut session = Session::load(&session_config(args)).context("cannot trace")?;
    for target in &mut targets {
        target.attach(&mut session, !args.no_mmap)?;
    }
    session.wait_for_tables(LONGEST_WAIT_FOR_TABLES)?;
    // From here on a signal ends the session in order, with its final report. Before, it just
    // ends the program, and the kernel takes the probes out.
    let mut signals = Signals::new()?;
    session.arm();
    for target in &mut targets {
        target.armed();
        target.follow_mappings(&mut session, false);
    }
    let mut watch = Watch {
        args,
        targets,
        seq: 0,
        started: Instant::now(),
        last_reading: Duration::ZERO,
        last_to_end: None,
    };
    output.start(&watch.start_line(&session), args)?;
    let ended = watch
        .until_end(&mut session, &mut output, &mut signals)
        .await;
    let reason = watch.finish(&mut session, &mut output, ended)?;
    output.end(&watch.end_line(&session, reason))?;
    Ok(outcome(&watch.targets))
}

fn outcome(targets: &[Traced]) -> Outcome {
    match targets.iter().any(Traced::is_leaking) {
        true => Outcome::LeakFound,
        false => Outcome::Done,
    }
}

fn session_config(args: &TraceArgs) -> Config {
    Config {
        sizes: Sizes {
            live: args.max_live,
            stacks: args.max_stacks,
            pending: args.max_pending,
            event_bytes: args.event_buffer,
        },
        min_size_bytes: args.min_size,
        max_size_bytes: args.max_size.unwrap_or(u64::MAX),
        eh_frame: args.stacks != Stacks::FramePointer,
        debug: args.verbose >= 2,
    }
}

/// A session under way.
struct Watch<'a> {
    args: &'a TraceArgs,
    targets: Vec<Traced>,
    seq: u64,
    started: Instant,
    /// Time from the start to the last reading.
    last_reading: Duration,
    /// Index of the target whose end was the session's.
    last_to_end: Option<usize>,
}

impl Watch<'_> {
    fn start_line(&self, session: &Session) -> Start {
        Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            targets: self.targets.iter().map(Traced::line).collect(),
            probes: self.targets.iter().flat_map(Traced::probe_lines).collect(),
            stacks: match session.walks_by_eh_frame() {
                true => "eh-frame".to_owned(),
                false => "frame-pointer".to_owned(),
            },
            unwind_table_bytes: session.unwind_table_bytes(),
        }
    }

    /// Reads and reports until something ends the session, and says what.
    async fn until_end(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        signals: &mut Signals,
    ) -> anyhow::Result<EndReason> {
        let now = tokio::time::Instant::now();
        let reading =
            (self.args.interval / READINGS_A_REPORT).clamp(FASTEST_READING, SLOWEST_READING);
        let mut readings = interval_at(now + reading, reading);
        let mut reports = interval_at(now + self.args.interval, self.args.interval);
        readings.set_missed_tick_behavior(MissedTickBehavior::Skip);
        reports.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let end = async {
            match self.args.duration {
                Some(duration) => tokio::time::sleep_until(now + duration).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        let events = watch_fd(session.events_fd())?;
        let tables = session.tables_fd().map(watch_fd).transpose()?;
        let mut exits = self.exits()?;
        loop {
            tokio::select! {
                biased;
                () = signals.next() => return Ok(EndReason::Interrupted),
                () = exits.all() => {
                    self.last_to_end = exits.ended.last().copied();
                    return Ok(EndReason::TargetExited);
                }
                () = &mut end => return Ok(EndReason::Duration),
                ready = events.readable() => {
                    let mut ready = ready.context("failed to wait for mapping events")?;
                    ready.clear_ready();
                    session.take_events();
                    for target in &mut self.targets {
                        target.follow_mappings(session, false);
                    }
                }
                ready = readable(tables.as_ref()) => {
                    ready.context("failed to wait for unwind tables")?;
                    session.take_tables()?;
                }
                _ = reports.tick() => self.report(session, output)?,
                // A report takes a reading itself.
                _ = readings.tick() => if self.is_due(reading) { self.read(session)? },
            }
        }
    }

    fn exits(&self) -> anyhow::Result<Exits> {
        let fds: anyhow::Result<_> = self
            .targets
            .iter()
            .map(|target| watch_fd(target.pidfd()))
            .collect();
        Ok(Exits {
            fds: fds?,
            ended: Vec::new(),
        })
    }

    fn is_due(&self, reading: Duration) -> bool {
        self.started.elapsed() - self.last_reading >= reading / 2
    }

    fn read(&mut self, session: &mut Session) -> anyhow::Result<()> {
        self.last_reading = self.started.elapsed();
        session.flush_log();
        session.take_events();
        let lost = session.mapping_events_lost();
        for target in &mut self.targets {
            target.follow_mappings(session, lost);
            target.read(session, self.started.elapsed(), self.args.older)?;
        }
        Ok(())
    }

    fn report(&mut self, session: &mut Session, output: &mut Output) -> anyhow::Result<()> {
        self.read(session)?;
        self.write(output, false)?;
        if self.seq == 1 {
            for target in &self.targets {
                let silent = target.silent_functions(session);
                if !silent.is_empty() {
                    log::info!(
                        "process {} has not called: {}",
                        target.pid(),
                        silent.join(", ")
                    );
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, output: &mut Output, is_final: bool) -> anyhow::Result<()> {
        self.seq += 1;
        let mut whole = Vec::new();
        for target in &mut self.targets {
            let report = target.report(
                self.args,
                self.seq,
                is_final,
                order(self.args.sort),
                self.args.top,
            );
            for alert in &report.alerts {
                log::warn!("process {}: {alert}", report.pid);
            }
            output.line(&Line::Report(report))?;
            if output.wants_stacks() {
                whole.push(target.report(self.args, self.seq, is_final, order(self.args.sort), 0));
            }
        }
        output.stacks(&whole)
    }

    /// The last reading, then the probes go, then the final report: the target is left alone
    /// before names are looked up.
    fn finish(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        ended: anyhow::Result<EndReason>,
    ) -> anyhow::Result<EndReason> {
        let read = self.read(session);
        session.detach();
        let reason = ended?;
        read?;
        self.write(output, true)?;
        Ok(reason)
    }

    /// The last target that ended says how; `target-killed` when a signal did it.
    fn end_line(&self, session: &Session, reason: EndReason) -> End {
        let mut end = End {
            reason,
            pid: None,
            exit_code: None,
            signal: None,
        };
        if reason != EndReason::TargetExited {
            return end;
        }
        let last = self.last_to_end.and_then(|index| self.targets.get(index));
        let Some(target) = last else {
            return end;
        };
        end.pid = Some(target.pid());
        match target.exit_status(session) {
            Some(ExitStatus::Code(code)) => end.exit_code = Some(code),
            Some(ExitStatus::Signal(signal)) => {
                end.reason = EndReason::TargetKilled;
                end.signal = Some(signal);
            }
            None => {}
        }
        end
    }
}

const fn order(sort: Sort) -> Order {
    match sort {
        Sort::Growth => Order::Growth,
        Sort::Bytes => Order::Bytes,
        Sort::Count => Order::Count,
    }
}

/// Ctrl-C, SIGTERM, and the terminal's end.
struct Signals {
    list: Vec<Signal>,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let kinds = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        // What was ignored at the start stays ignored: nohup, and jobs in the background.
        let list: io::Result<Vec<Signal>> = kinds
            .into_iter()
            .filter(|kind| !is_ignored(*kind))
            .map(signal)
            .collect();
        Ok(Self {
            list: list.context("failed to catch signals")?,
        })
    }

    async fn next(&mut self) {
        std::future::poll_fn(|context| {
            match self
                .list
                .iter_mut()
                .any(|signal| signal.poll_recv(context).is_ready())
            {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }
}

fn is_ignored(kind: SignalKind) -> bool {
    // SAFETY: all zeros is a value of this C structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks for the present action and changes none.
    let asked = unsafe { libc::sigaction(kind.as_raw_value(), std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Waits on a copy of the descriptor, so that it cannot be closed while it is waited for.
fn watch_fd(fd: BorrowedFd<'_>) -> anyhow::Result<AsyncFd<OwnedFd>> {
    let copy = fd
        .try_clone_to_owned()
        .context("failed to copy a descriptor")?;
    // SAFETY: an OwnedFd refers to the same open file until it is dropped, which the AsyncFd that
    // owns it does after it has deregistered.
    unsafe { AsyncFd::register_with_interest(copy, tokio::io::Interest::READABLE) }
        .map_err(io::Error::from)
        .context("failed to wait for a descriptor")
}

/// Waits until the descriptor is readable; for ever when there is none.
async fn readable(fd: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    match fd {
        Some(fd) => {
            fd.readable().await?.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}

/// The ends of the targets, in the order in which they came.
struct Exits {
    fds: Vec<AsyncFd<OwnedFd>>,
    ended: Vec<usize>,
}

impl Exits {
    /// Returns when every target has ended. Readiness is not cleared: a pidfd stays readable.
    async fn all(&mut self) {
        std::future::poll_fn(|context| {
            for (index, fd) in self.fds.iter().enumerate() {
                if !self.ended.contains(&index) && fd.poll_read_ready(context).is_ready() {
                    self.ended.push(index);
                }
            }
            match self.ended.len() == self.fds.len() {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }
}

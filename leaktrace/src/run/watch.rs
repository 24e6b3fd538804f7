//! A session under way: readings, reports, and what becomes of the traced processes, until
//! something ends it.

mod ends;
mod newcomers;
mod uncounted;

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::{MissedTickBehavior, interval, interval_at};

use super::command::Launched;
use super::exits::{Exits, Life, readable, watch_fd};
use super::footprint::{Looks, Purpose};
use super::haste::Haste;
use super::late_code;
use super::lineage::LOOK_AGAIN;
use super::output::Output;
use super::shared_memory;
use super::signals::{Caught, Signals};
use super::traced::Traced;
use crate::analysis::Order;
use crate::cli::{Sort, TraceArgs};
use crate::report::{EndReason, Line, Report};
use crate::session::{Release, Session};
use crate::symbolize::ElfNaming;

/// Readings between two reports, for the series that growth is judged by.
const READINGS_A_REPORT: u32 = 20;

/// Readings are neither more nor less frequent than this.
const FASTEST_READING: Duration = Duration::from_millis(500);
const SLOWEST_READING: Duration = Duration::from_secs(1);

/// A signal that would end leaktrace is passed to its command; the same once more within this
/// time ends leaktrace, whatever the command does.
const INSISTS_WITHIN: Duration = Duration::from_secs(2);

/// A session under way.
pub(super) struct Watch<'a> {
    args: &'a TraceArgs,
    targets: Vec<Traced>,
    naming: ElfNaming,
    exits: Exits,
    command: Option<Launched>,
    last_signal: Option<(i32, Instant)>,
    seq: u64,
    started: Instant,
    /// Time from the start to the last reading.
    last_reading: Duration,
    looks: Looks,
    /// The process whose end was the session's.
    last_to_end: Option<Life>,
    /// Whether a program was judged leaking that is not among the targets any more.
    leak_found: bool,
    /// What the final report has to say of how the session ended.
    shortcoming: Option<String>,
}

impl<'a> Watch<'a> {
    /// Begins with targets that are attached and armed.
    ///
    /// # Errors
    ///
    /// When their ends cannot be waited for.
    pub(super) fn new(
        args: &'a TraceArgs,
        mut targets: Vec<Traced>,
        naming: ElfNaming,
        command: Option<Launched>,
        armed: Instant,
    ) -> anyhow::Result<Self> {
        let mut exits = Exits::default();
        for target in &mut targets {
            target.life = exits.add(target.pidfd())?;
        }
        Ok(Self {
            args,
            targets,
            naming,
            exits,
            command,
            last_signal: None,
            seq: 0,
            started: armed,
            last_reading: Duration::ZERO,
            looks: Looks::default(),
            last_to_end: None,
            leak_found: false,
            shortcoming: None,
        })
    }

    /// Reads and reports until something ends the session, and says what.
    ///
    /// # Errors
    ///
    /// When the kernel side cannot be read or standard output cannot be written.
    pub(super) async fn until_end(
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
        let mut looks = interval(LOOK_AGAIN);
        for timer in [&mut readings, &mut reports, &mut looks] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        }
        let ends_at = self.args.duration.map(|duration| now + duration);
        let end = async {
            match ends_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        let events = watch_fd(session.events_fd())?;
        let tables = session.tables_fd().map(watch_fd).transpose()?;
        loop {
            // In no order: where children come in a row there is always an event, and nobody is to
            // wait for ever behind it.
            tokio::select! {
                caught = signals.next() => if self.signalled(caught?) {
                    return Ok(EndReason::Interrupted);
                },
                ready = events.readable() => {
                    let mut ready = ready.context("failed to wait for events")?;
                    ready.clear_ready();
                    self.take_events(session, output)?;
                    for target in self.targets.iter_mut().filter(|target| target.is_newcomer()) {
                        target.describe_newcomer(session);
                    }
                    self.follow_mappings(session, output, false)?;
                    for target in &self.targets {
                        target.compare_mapped(session, false);
                    }
                    // New processes want the places of those that have ended.
                    if self.take_ends(session, output)? {
                        return Ok(EndReason::TargetExited);
                    }
                }
                ready = readable(tables.as_ref()) => {
                    ready.context("failed to wait for unwind tables")?;
                    let _haste = Haste::begin();
                    session.take_tables()?;
                }
                () = self.exits.any() => if self.take_ends(session, output)? {
                    return Ok(EndReason::TargetExited);
                },
                () = &mut end => return Ok(EndReason::Duration),
                _ = looks.tick(), if self.is_loading() => self.look_again(session, output)?,
                // The report of the end is the final one.
                at = reports.tick() => match ends_at {
                    Some(ends_at) if at >= ends_at => return Ok(EndReason::Duration),
                    _ => self.report(session, output)?,
                },
                // A report takes a reading itself.
                _ = readings.tick() => if self.is_due(reading)
                    && self.read(session, output, Purpose::Reading)?
                {
                    // With long intervals a limit would be reached before anybody is told.
                    self.write(output, false)?;
                },
            }
        }
    }

    /// Whether the signal ends the session; with a command it goes to the command first.
    fn signalled(&mut self, caught: Caught) -> bool {
        let Some(command) = &self.command else {
            return true;
        };
        let before = self.last_signal.replace((caught.number, Instant::now()));
        let again =
            before.is_some_and(|(last, at)| last == caught.number && at.elapsed() < INSISTS_WITHIN);
        let insists = caught.ends() && again;
        if !insists {
            command.pass(caught);
        }
        insists
    }

    fn take_events(&mut self, session: &mut Session, output: &mut Output) -> anyhow::Result<()> {
        session.take_events();
        self.follow_processes(session, output)
    }

    /// Whether a site of any process was judged leaking at its latest reading.
    pub(super) fn leak_found(&self) -> bool {
        // To judge every site takes a while, in which nobody is to wait for the end.
        self.leak_found || self.args.fail_on_leak && self.targets.iter().any(Traced::is_leaking)
    }

    /// Looks at processes that have told of new code, and tells what is probed in it.
    fn follow_mappings(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        events_lost: bool,
    ) -> anyhow::Result<()> {
        late_code::pass_on_news(&mut self.targets, session);
        for target in &mut self.targets {
            if target.reported {
                continue;
            }
            target.follow_mappings(session, &mut self.naming, events_lost);
            if target.waiting_since.is_none()
                && let Some(loaded) = target.loaded()
            {
                output.new_target(loaded)?;
            }
        }
        Ok(())
    }

    fn is_due(&self, reading: Duration) -> bool {
        self.started.elapsed() - self.last_reading >= reading / 2
    }

    /// Takes a reading of every target; whether a condition of the user begins to hold with it.
    fn read(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        purpose: Purpose,
    ) -> anyhow::Result<bool> {
        self.last_reading = self.started.elapsed();
        session.flush_log();
        session.take_events();
        // What runs another program now is read as that.
        self.follow_processes(session, output)?;
        let lost = session.mapping_events_lost();
        self.follow_mappings(session, output, lost)?;
        self.take_uncounted(session, output)?;
        let may_be_reported = purpose != Purpose::Reading || !self.args.alert.is_empty();
        let older = age(self.args).filter(|_| may_be_reported);
        let mut alert_begins = false;
        for target in &mut self.targets {
            if target.is_settled() {
                continue;
            }
            target.compare_mapped(session, true);
            target.read(session, self.started.elapsed(), older)?;
            alert_begins |= target.watch_memory(self.args);
        }
        self.looks
            .take(&mut self.targets, session, self.started.elapsed(), purpose);
        shared_memory::notice(&mut self.targets, session);
        self.follow_processes(session, output)?;
        self.end_unopened(session, output)?;
        self.release_ended(session, Release::All);
        Ok(alert_begins)
    }

    fn report(&mut self, session: &mut Session, output: &mut Output) -> anyhow::Result<()> {
        self.read(session, output, Purpose::Report)?;
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
        let mut written = Ok(());
        for target in &mut self.targets {
            if target.reported {
                continue;
            }
            // The numbers of one that has ended are those of its last report.
            let is_news = !target.last_told || is_final;
            target.last_told = target.ended;
            let mut report = |top| {
                let order = order(self.args.sort);
                target.report(self.args, &mut self.naming, self.seq, is_final, order, top)
            };
            if is_news {
                let mut listed = report(self.args.top());
                listed.notices.extend(self.shortcoming.clone());
                say_changes(&listed);
                written = written.and(output.line(&Line::Report(listed)));
            }
            if output.wants_stacks() {
                whole.push(report(0));
            }
        }
        // Those who read the files may still be there.
        output.stacks(&whole, is_final)?;
        written
    }

    /// The last reading, then the probes go, then the final report: the target is left alone
    /// before names are looked up.
    ///
    /// # Errors
    ///
    /// As the session ended, or when something cannot be read or written.
    pub(super) fn finish(
        &mut self,
        session: &mut Session,
        output: &mut Output,
        ended: anyhow::Result<EndReason>,
    ) -> anyhow::Result<EndReason> {
        let read = self.read(session, output, Purpose::End);
        session.detach();
        let followed = self.follow_processes(session, output);
        let settled = self
            .targets
            .iter_mut()
            .try_for_each(|target| target.ended_unsettled(session));
        // What was counted until something went wrong is to be read all the same.
        let failures = [ended.as_ref().err(), read.as_ref().err()];
        let failure = failures.into_iter().flatten().next();
        self.shortcoming = failure.map(|error| shortcoming(error, read.is_ok()));
        let written = self.write(output, true);
        let reason = ended?;
        read?;
        followed.and(settled).and(written)?;
        Ok(reason)
    }
}

/// The age from which on blocks are listed, if not all are.
fn age(args: &TraceArgs) -> Option<Duration> {
    (!args.older.is_zero()).then_some(args.older)
}

/// Those who read no report hear of it, too.
fn say_changes(report: &Report) {
    for change in &report.alert_changes {
        log::warn!("process {}: {change}", report.pid);
    }
}

/// What a report has to say that was made after something had failed.
fn shortcoming(error: &anyhow::Error, is_last_reading: bool) -> String {
    let whose = match is_last_reading {
        true => "",
        false => ", and these are the numbers of the reading before",
    };
    format!("the session was ended by a failure ({error:#}){whose}")
}

const fn order(sort: Sort) -> Order {
    match sort {
        Sort::Growth => Order::Growth,
        Sort::Bytes => Order::Bytes,
        Sort::Count => Order::Count,
    }
}

//! Readings of a traced program: what its sites and its process hold at one time, put into the series that it
//! is judged by. Takes note; says nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::Traced;
use crate::analysis::Verdict;
use crate::compose::Unseen;
use crate::session::Session;
use crate::snapshot::{SiteReading, Snapshot};
use crate::target::MemoryUse;

impl Traced {
    /// Takes a reading; for a report, with the age from which on blocks are listed, if there is one.
    ///
    /// # Errors
    ///
    /// When a kernel map cannot be read.
    pub(in crate::run) fn read(
        &mut self,
        session: &mut Session,
        elapsed: Duration,
        older: Option<Duration>,
    ) -> anyhow::Result<()> {
        let failed = || format!("failed to read what process {} holds", self.pid);
        let before = self.latest.rss_bytes;
        let mut sites = session.sites(self.index).with_context(failed)?;
        if session.keeps_its_code(self.index) {
            self.free_code.note(&sites);
        }
        sites.retain(|site| !self.free_code.has_mapped(site));
        let is_uncounted = self.is_uncounted();
        if is_uncounted {
            // They are of the program before.
            sites.clear();
            self.unseen = Some(Unseen::no_place(elapsed.saturating_sub(self.begun)));
        }
        self.main_thread_holds_probes = session.main_thread_holds_probes();
        self.read_at = SystemTime::now();
        self.latest = Snapshot {
            elapsed,
            unmatched_frees: match is_uncounted {
                true => 0,
                false => session.unmatched_frees(self.index),
            },
            reserved_bytes: session.reserved_bytes(self.index, &sites, u64::MAX),
            sites,
            losses: session.losses(self.index),
            unwind_table_bytes: session.unwind_table_bytes(),
            rss_bytes: None,
            mappings: Arc::clone(&self.mappings),
        };
        self.code_seen.read(session.keeps_its_code(self.index));
        let pairs = self.pairs.iter_mut().filter(|_| !is_uncounted);
        for (number, pair) in (0..).zip(pairs) {
            pair.unmatched_frees = session.unmatched_of_pair(self.index, number);
        }
        self.aged = match older {
            Some(age) => Some(
                session
                    .aged(self.index, &self.latest.sites, age)
                    .with_context(failed)?,
            ),
            None => None,
        };
        let memory = self.process.as_ref().and_then(MemoryUse::of);
        let rss_bytes = self.rss_bytes();
        // What a process holds that has executed another program by now is that one's.
        let is_own = is_uncounted || session.is_present(self.index);
        self.latest.rss_bytes = if is_own { rss_bytes } else { before };
        self.tracker.observe(&self.latest);
        if let Some(memory) = memory.filter(|_| is_own) {
            self.observe_memory(elapsed, memory);
        }
        Ok(())
    }

    /// Takes a reading of a program that is gone, while its process runs another one: what the
    /// process has of memory now is not the program's.
    ///
    /// # Errors
    ///
    /// When a kernel map cannot be read.
    pub(in crate::run) fn read_ended(
        &mut self,
        session: &mut Session,
        elapsed: Duration,
        older: Option<Duration>,
    ) -> anyhow::Result<()> {
        let rss_bytes = self.latest.rss_bytes;
        let process = self.process.take();
        let read = self.read(session, elapsed, older);
        self.process = process;
        self.latest.rss_bytes = rss_bytes;
        read
    }

    /// What the process held last stays known when it has ended.
    pub(super) fn observe_memory(&mut self, elapsed: Duration, memory: MemoryUse) {
        self.memory
            .observe(elapsed, memory, self.latest.tracked_bytes());
    }

    /// Whether any site, listed or not, was judged leaking at the latest reading, or several together
    /// were in the latest report.
    pub(in crate::run) fn is_leaking(&self) -> bool {
        self.groups_leak || self.leaking().next().is_some()
    }

    /// The sites that are, of those that hold something that is counted.
    pub(super) fn leaking(&self) -> impl Iterator<Item = &SiteReading> {
        let sites = match &self.aged {
            Some(aged) => &aged.sites,
            None => &self.latest.sites,
        };
        let held = sites.iter().filter(|site| site.totals.live_count > 0);
        held.filter(|site| self.tracker.growth(site.index).verdict == Verdict::Leaking)
    }
}

//! What each look at a process's mappings says of code that has gone → [`PastCode`]. Decides until when
//! the counts of a stack are those of the code that was there; names nothing.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::traced::Traced;
use crate::session::Session;
use crate::snapshot::SiteReading;
use crate::symbolize::PastCode;
use crate::target::Mappings;

/// The code that a process was seen to have.
#[derive(Debug, Default)]
pub(super) struct CodeSeen {
    /// At the latest look; absent before the second.
    latest: Option<Mappings>,
    /// Whether all of it was still there when the latest reading was taken.
    was_there_at_reading: bool,
    past: PastCode,
}

impl CodeSeen {
    /// Takes note of a reading, and of whether no code had gone by then.
    pub(super) fn read(&mut self, keeps_its_code: bool) {
        self.was_there_at_reading = keeps_its_code;
    }

    /// What was mapped at the latest look.
    pub(super) fn latest(&self) -> Option<&Mappings> {
        self.latest.as_ref()
    }

    /// Code that has gone.
    pub(super) fn past(&self) -> &PastCode {
        &self.past
    }
}

impl Traced {
    /// Compares what is mapped now with what was `before`. The session was given what is now.
    pub(super) fn see_code(
        &mut self,
        before: &Arc<Mappings>,
        now: &Mappings,
        session: &mut Session,
    ) {
        let latest = self.code_seen.latest.replace(now.clone());
        let gone = latest.as_ref().unwrap_or(before).code_gone_from(now);
        let replaced = before.code_replaced_by(now);
        if !gone.is_empty() {
            self.code_gone(&gone, before, now, session);
        }
        let absent = before.code_gone_from(now).into_iter();
        let absent = absent.filter(|gone| is_empty_at(now, std::slice::from_ref(gone)));
        self.code_seen.past.replace(replaced, absent.collect());
    }

    /// Has the sites noted that were in the code. Those that there are not yet are of what comes next.
    fn code_gone(
        &mut self,
        gone: &[Range<u64>],
        before: &Arc<Mappings>,
        now: &Mappings,
        session: &mut Session,
    ) {
        let sites = match session.sites(self.index) {
            Ok(sites) => sites,
            Err(error) => {
                log::warn!("failed to read what process {} holds: {error:#}", self.pid);
                return;
            }
        };
        let stayed_empty = is_empty_at(now, gone)
            && self
                .mappings_now()
                .is_some_and(|again| is_empty_at(&again, gone))
            && session.keeps_its_code(self.index);
        let counts = |sites: &[SiteReading]| -> HashMap<u64, u64> {
            let counts = sites.iter();
            let counts = counts.map(|site| (site.stack.id, site.totals.allocated_count));
            counts.collect()
        };
        let counted = match (stayed_empty, self.code_seen.was_there_at_reading) {
            (true, _) => counts(&sites),
            (false, true) => counts(&self.latest.sites),
            (false, false) => HashMap::new(),
        };
        let counted = |id| counted.get(&id).copied();
        self.code_seen.past.remove(gone, before, &sites, counted);
    }
}

/// Whether nothing can have run at these addresses.
fn is_empty_at(mappings: &Mappings, ranges: &[Range<u64>]) -> bool {
    !mappings.executable().any(|mapping| {
        let mut ranges = ranges.iter();
        ranges.any(|range| range.start < mapping.end && mapping.start < range.end)
    })
}

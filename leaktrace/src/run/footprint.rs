//! When the mappings of the traced processes are looked at, and what is read then. Decides nothing about
//! what is found.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use leaktrace_common::stack::Source;

use super::traced::Traced;
use crate::analysis::AreaReading;
use crate::session::{Session, Usable};
use crate::target::{Area, AreaKind};

/// What a look is for. The kernel walks the page tables for it, and keeps the process from mapping
/// meanwhile: of the time, no more than a part is spent on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To have one should the process end.
    Reading,
    /// To be printed.
    Report,
    /// The last one.
    End,
}

impl Purpose {
    /// Times as long as the last look took that has to pass before this one.
    const fn pause(self) -> u32 {
        match self {
            Self::Reading => 200,
            Self::Report => 20,
            Self::End => 0,
        }
    }
}

/// Mappings smaller than this are not searched for large blocks.
const WORTH_BYTES: u64 = 64 * 1024;

/// Mappings that are searched for large blocks at a look.
const MAX_SEARCHED: usize = 1024;

/// Sees to it that looks stay cheap.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// When the last one ended, and what it cost.
    last: Option<(Instant, Duration)>,
}

impl Looks {
    /// Looks at all processes unless that was done lately.
    pub(super) fn take(
        &mut self,
        targets: &mut [Traced],
        session: &mut Session,
        elapsed: Duration,
        purpose: Purpose,
    ) {
        let is_early = |(end, cost): (Instant, Duration)| end.elapsed() < cost * purpose.pause();
        if self.last.is_some_and(is_early) {
            return;
        }
        let before = processor_time();
        let mut sample = None;
        for target in targets.iter_mut().filter(|target| !target.is_settled()) {
            if let Err(error) = target.look(session, elapsed, &mut sample) {
                log::warn!("cannot tell whose memory is whose: {error:#}");
            }
        }
        let cost = processor_time().saturating_sub(before);
        log::debug!("a look at the memory took {cost:?}");
        self.last = Some((Instant::now(), cost));
    }
}

/// What this thread has used so far: on a busy machine, a look takes longer and costs the same.
fn processor_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// Addresses of some blocks of each process, read when they are needed first.
type Sample = Option<HashMap<u16, Vec<u64>>>;

impl Traced {
    /// What the process holds when counting begins.
    pub(super) fn begin_footprint(&mut self) {
        if let Some(areas) = self.process.as_ref().and_then(Area::of) {
            self.footprint.begin(areas);
        }
    }

    /// What was found last stays known when the process has ended.
    fn look(
        &mut self,
        session: &mut Session,
        elapsed: Duration,
        sample: &mut Sample,
    ) -> anyhow::Result<()> {
        if !self.footprint.has_begun() {
            return Ok(());
        }
        let Some(areas) = self.process.as_ref().and_then(Area::of) else {
            return Ok(());
        };
        // They are those of the next program, if it has executed one by now.
        if !session.is_present(self.index) {
            return Ok(());
        }
        self.note_usable(&areas, session);
        let traced = session.traced_ranges(self.index);
        let readings: Vec<AreaReading> = areas
            .into_iter()
            .map(|area| AreaReading {
                traced_bytes: self.traced_bytes(&area, &traced),
                area,
            })
            .collect();
        self.find_blocks(&readings, session, sample)?;
        let live_heap_bytes = self.latest.totals(Source::Heap).live_bytes;
        self.footprint.observe(elapsed, &readings, live_heap_bytes);
        Ok(())
    }

    /// What of addresses set aside has become memory: of the latest reading, too.
    fn note_usable(&mut self, areas: &[Area], session: &mut Session) {
        let accessible = areas.iter().filter(|area| area.mapping.accessible);
        let usable = accessible.map(|area| Usable {
            start: area.start(),
            end: area.end(),
            held_bytes: area.held_bytes(),
        });
        session.note_usable(self.index, &usable.collect::<Vec<_>>());
        let sites = &self.latest.sites;
        self.latest.reserved_bytes = session.reserved_bytes(self.index, sites, u64::MAX);
        self.memory.track(self.latest.tracked_bytes());
    }

    /// Looks for traced blocks where none are known to be.
    fn find_blocks(
        &mut self,
        readings: &[AreaReading],
        session: &Session,
        sample: &mut Sample,
    ) -> anyhow::Result<()> {
        let unknown: Vec<u64> = readings
            .iter()
            .filter(|reading| reading.area.kind == AreaKind::Anonymous)
            // What is traced was summed page by page, later than the kernel has summed the whole.
            .filter(|reading| {
                let held_bytes = reading.area.held_bytes();
                held_bytes.saturating_sub(reading.traced_bytes) >= WORTH_BYTES
            })
            .filter(|reading| !self.footprint.has_blocks(&reading.area))
            .map(|reading| reading.area.start())
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let sample = match sample {
            Some(sample) => sample,
            None => sample.insert(session.sample_of_blocks()?),
        };
        self.footprint
            .note_blocks(sample.remove(&self.index).unwrap_or_default());
        for start in unknown.into_iter().take(MAX_SEARCHED) {
            self.footprint
                .note_blocks(session.first_block(self.index, start)?);
        }
        Ok(())
    }

    /// What of an area is resident or in swap and lies in these ranges.
    fn traced_bytes(&self, area: &Area, ranges: &[(u64, u64)]) -> u64 {
        let first = ranges.partition_point(|(_, end)| *end <= area.start());
        let inside: Vec<(u64, u64)> = ranges[first..]
            .iter()
            .take_while(|(start, _)| *start < area.end())
            .map(|(start, end)| (*start.max(&area.start()), *end.min(&area.end())))
            .collect();
        let traced_length: u64 = inside.iter().map(|(start, end)| end - start).sum();
        let length = area.end() - area.start();
        if traced_length == 0 || area.held_bytes() == 0 {
            return 0;
        }
        if traced_length >= length {
            return area.held_bytes();
        }
        // The kernel has joined it with other memory: page by page, then.
        let held = inside.iter().try_fold(0, |sum, (start, end)| {
            Some(sum + Area::held_between(self.process.as_ref()?, *start, *end)?)
        });
        let share = || area.held_bytes() as f64 * traced_length as f64 / length as f64;
        held.unwrap_or_else(|| share() as u64)
    }
}

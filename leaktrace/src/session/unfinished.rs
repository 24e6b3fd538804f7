//! Stacks that the programs could not follow, because the tables of new code were not there yet:
//! taken from their ring buffer, followed as soon as the tables are there, and put in the place of
//! the stacks that were cut.

mod outcome;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use leaktrace_common::limits::MAX_FRAMES;
use leaktrace_common::mapping::TableRef;
use leaktrace_common::stack::StackEnd;
use leaktrace_common::unwind::{RareRule, Registers, Row, Unfinished};

use super::Session;
use super::reuse::forget_first;
use super::tables::Tables;
use crate::snapshot::Stack;
use crate::target::Mappings;
use crate::unwind::{Code, SavedStack, finish};
use outcome::{Finished, Outcome};

/// A table that takes longer never comes: its object could not be read.
const PATIENCE: Duration = Duration::from_secs(5);

/// All that wait are tried after this time, whatever has come: some are given up then.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// More are not kept in memory, each with up to 20 KiB of stack.
const MAX_WAITING: usize = 4096;

/// The stacks that wait, and those that are finished.
pub(super) struct UnfinishedStacks {
    ring: RingBuf<MapData>,
    waiting: Vec<Waiting>,
    /// Tables or mappings have come since all that wait were tried.
    has_news: bool,
    tried: Instant,
    /// Sites of stacks that found no room here.
    left_out: Vec<(u32, u32)>,
    /// By site, until the stack is read that they belong to.
    outcomes: HashMap<u32, Outcome>,
}

struct Waiting {
    since: Instant,
    site: u32,
    process: u32,
    /// How often code had been removed when the stack was taken.
    removals: u32,
    /// Frames of the site's stack, at least one.
    depth: usize,
    registers: Registers,
    stack: SavedStack,
}

impl UnfinishedStacks {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self {
            ring,
            waiting: Vec::new(),
            has_news: false,
            tried: Instant::now(),
            left_out: Vec::new(),
            outcomes: HashMap::new(),
        }
    }

    /// Those that wait may be followed by now.
    pub(super) fn note_news(&mut self) {
        self.has_news = true;
    }

    /// Those that are to be tried: all when there is news, else those that have just come.
    fn take_what_is_due(&mut self) -> Vec<Waiting> {
        let known = self.waiting.len();
        self.drain();
        if std::mem::take(&mut self.has_news) || self.tried.elapsed() >= TRY_AGAIN {
            self.tried = Instant::now();
            return std::mem::take(&mut self.waiting);
        }
        self.waiting.split_off(known)
    }

    fn drain(&mut self) {
        while let Some(item) = self.ring.next() {
            match decode(&item) {
                Some(waiting) if self.waiting.len() < MAX_WAITING => self.waiting.push(waiting),
                Some(waiting) => self.left_out.push((waiting.site, waiting.process)),
                None => {}
            }
        }
    }

    /// Gives up the stacks of a process that has ended, and what was finished of them.
    pub(super) fn forget(&mut self, process: u32) {
        self.waiting.retain(|waiting| waiting.process != process);
        self.outcomes
            .retain(|_, outcome| outcome.process != process);
    }

    /// The stack of a site in place of the one that the kernel side has stored; the same when it was
    /// whole, or waits.
    pub(super) fn complete(&mut self, site: usize, process: u16, stack: Stack) -> Stack {
        let outcome = u32::try_from(site)
            .ok()
            .and_then(|site| self.outcomes.remove(&site));
        match outcome {
            Some(outcome) => outcome.apply(process, stack),
            None => stack,
        }
    }
}

impl Session {
    /// Follows the stacks that wait for tables, as far as these are in place.
    pub fn finish_stacks(&mut self) {
        for mut waiting in self.unfinished.take_what_is_due() {
            let finished = match self.follow(&mut waiting) {
                Ok(finished) => Some(finished),
                Err(NotNow::Later) if waiting.since.elapsed() < PATIENCE => {
                    self.unfinished.waiting.push(waiting);
                    continue;
                }
                Err(_) => None,
            };
            let process = waiting.process;
            self.settle(waiting.site, Outcome { process, finished });
        }
        for (site, process) in std::mem::take(&mut self.unfinished.left_out) {
            let finished = None;
            self.settle(site, Outcome { process, finished });
        }
    }

    fn settle(&mut self, site: u32, outcome: Outcome) {
        let place = self.stacks.get_mut(site as usize);
        match place.and_then(Option::as_mut) {
            Some((process, stack)) => {
                forget_first(&mut self.first_sites, stack.id, site);
                *stack = Arc::new(outcome.apply(*process, (**stack).clone()));
            }
            None => {
                self.unfinished.outcomes.insert(site, outcome);
            }
        }
    }

    /// Follows a stack if the mappings that are known can be those of its time.
    fn follow(&self, waiting: &mut Waiting) -> Result<Finished, NotNow> {
        let state = self.processes.read(waiting.process as usize);
        // Both only go up, and wrap around at the same place.
        let newer = state.removals_known.wrapping_sub(waiting.removals);
        if newer != 0 {
            return Err(match newer.cast_signed() < 0 {
                true => NotNow::Later,
                false => NotNow::Never,
            });
        }
        let code_of = u16::try_from(state.code_of).unwrap_or(u16::MAX);
        if self.code_in_doubt.contains(&code_of) {
            return Err(NotNow::Never);
        }
        let code = KnownCode {
            mappings: self.code.get(&code_of),
            tables: &self.tables,
        };
        waiting.follow(&code).map_err(|_| NotNow::Later)
    }
}

/// Why a stack is not followed.
enum NotNow {
    /// Mappings or tables are missing.
    Later,
    /// The code that it leads through may have been replaced.
    Never,
}

impl Waiting {
    fn follow(&mut self, code: &KnownCode<'_>) -> Result<Finished, StackEnd> {
        // The frames before the last one are not known here, but that they are there counts.
        let mut frames = vec![0; self.depth];
        frames[self.depth - 1] = self.registers.pc;
        let end = finish(&mut frames, self.registers, &mut self.stack, code)?;
        let kept = (self.depth - 1).min(frames.len());
        Ok(Finished {
            kept,
            frames: frames.split_off(kept),
            end,
        })
    }
}

/// The code of one process, as the programs know it by now.
struct KnownCode<'a> {
    mappings: Option<&'a Mappings>,
    tables: &'a Tables,
}

impl Code for KnownCode<'_> {
    fn row(&self, address: u64) -> Result<Row, StackEnd> {
        let mapping = self
            .mappings
            .and_then(|mappings| mappings.containing(address))
            .filter(|mapping| mapping.executable)
            .ok_or(StackEnd::NoMapping)?;
        let (base, table) = self.tables.of(mapping);
        match table {
            TableRef::NONE => Ok(Row::NO_INFO),
            TableRef::PENDING => Err(StackEnd::TableMissing),
            table => Ok(self.tables.row(base, table, address)),
        }
    }

    fn rare_rule(&self, index: u32) -> Option<RareRule> {
        Some(self.tables.rare_rule(index))
    }
}

fn decode(bytes: &[u8]) -> Option<Waiting> {
    if bytes.len() < size_of::<Unfinished>() {
        return None;
    }
    // SAFETY: there are enough bytes, the ring buffer aligns them to 8, and any bytes are an
    // Unfinished.
    let sent = unsafe { &*bytes.as_ptr().cast::<Unfinished>() };
    let words = usize::try_from(sent.length_bytes / 8).ok()?;
    Some(Waiting {
        since: Instant::now(),
        site: sent.site,
        process: sent.process,
        removals: u32::try_from(sent.removals).ok()?,
        depth: usize::try_from(sent.depth)
            .ok()
            .filter(|depth| (1..=MAX_FRAMES).contains(depth))?,
        registers: sent.registers,
        stack: SavedStack {
            start: sent.registers.sp,
            words: sent.stack.get(..words)?.to_vec(),
        },
    })
}

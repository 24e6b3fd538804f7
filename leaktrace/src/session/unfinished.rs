//! Stacks that the programs could not follow, because the tables of new code were not there yet:
//! taken from their ring buffer, followed as soon as the tables are there, and put in the place of
//! the stacks that were cut.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use leaktrace_common::limits::MAX_FRAMES;
use leaktrace_common::mapping::TableRef;
use leaktrace_common::stack::{StackEnd, hash_end, hash_frame, hash_start};
use leaktrace_common::unwind::{RareRule, Registers, Row, Unfinished};

use super::Session;
use super::tables::Tables;
use crate::snapshot::Stack;
use crate::target::Mappings;
use crate::unwind::{Code, SavedStack, finish};

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
    finished: HashMap<u32, Finished>,
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

/// What comes in the place of the last frame that the kernel side has stored.
struct Finished {
    /// Frames before that one.
    kept: usize,
    frames: Vec<u64>,
    end: StackEnd,
}

impl UnfinishedStacks {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self {
            ring,
            waiting: Vec::new(),
            has_news: false,
            tried: Instant::now(),
            finished: HashMap::new(),
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
            if let Some(waiting) = decode(&item).filter(|_| self.waiting.len() < MAX_WAITING) {
                self.waiting.push(waiting);
            }
        }
    }

    /// Gives up the stacks of a process that has ended, and what was finished of them.
    pub(super) fn forget(&mut self, process: u32) {
        self.waiting.retain(|waiting| waiting.process != process);
    }

    /// The whole stack in place of one that the kernel side has stored; the same when it was whole.
    pub(super) fn complete(&mut self, site: usize, process: u16, stack: Stack) -> Stack {
        let finished = u32::try_from(site)
            .ok()
            .and_then(|site| self.finished.remove(&site));
        match finished {
            Some(finished) => finished.append_to(process, stack),
            None => stack,
        }
    }
}

impl Session {
    /// Follows the stacks that wait for tables, as far as these are in place.
    pub fn finish_stacks(&mut self) {
        for mut waiting in self.unfinished.take_what_is_due() {
            let finished = match self.follow(&mut waiting) {
                Ok(finished) => finished,
                Err(NotNow::Later) if waiting.since.elapsed() < PATIENCE => {
                    self.unfinished.waiting.push(waiting);
                    continue;
                }
                // It stays as it was stored.
                Err(_) => continue,
            };
            let place = self.stacks.get_mut(waiting.site as usize);
            match place.and_then(Option::as_mut) {
                Some((process, stack)) => {
                    *stack = Arc::new(finished.append_to(*process, (**stack).clone()));
                }
                None => {
                    self.unfinished.finished.insert(waiting.site, finished);
                }
            }
        }
    }

    /// Follows a stack if the mappings that are known can be those of its time.
    fn follow(&self, waiting: &mut Waiting) -> Result<Finished, NotNow> {
        let state = self.processes.read(waiting.process as usize);
        // Both only go up, and wrap around at the same place.
        let newer = state.removals_known.wrapping_sub(waiting.removals);
        if state.code_of == waiting.process && newer != 0 {
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

impl Finished {
    fn append_to(self, process: u16, mut stack: Stack) -> Stack {
        // There was no room for all frames before these.
        if stack.frames.len() < self.kept {
            return stack;
        }
        stack.frames.truncate(self.kept);
        stack.frames.extend(self.frames);
        stack.end = self.end;
        // As the programs would have computed it.
        let start = hash_start(u32::from(process), stack.source);
        let hash = stack.frames.iter().fold(start, |h, f| hash_frame(h, *f));
        stack.id = hash_end(hash_frame(hash, stack.end as u64));
        stack
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

#[cfg(test)]
mod tests {
    use leaktrace_common::stack::Source;

    use super::*;

    fn stored(frames: &[u64], end: StackEnd) -> Stack {
        Stack {
            id: 1,
            source: Source::Heap,
            end,
            frames: frames.to_vec(),
        }
    }

    fn finished() -> Finished {
        Finished {
            kept: 2,
            frames: vec![30, 40],
            end: StackEnd::Complete,
        }
    }

    #[test]
    fn what_was_finished_comes_in_the_place_of_the_last_frame() {
        let whole = finished().append_to(0, stored(&[10, 20, 30], StackEnd::NoMapping));
        assert_eq!(whole.frames, [10, 20, 30, 40]);
        assert_eq!(whole.end, StackEnd::Complete);
    }

    #[test]
    fn a_stack_whose_frames_found_no_room_stays_cut() {
        let cut = stored(&[10], StackEnd::TooDeep);
        assert_eq!(finished().append_to(0, cut.clone()), cut);
    }
}

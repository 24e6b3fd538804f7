//! One immutable reading of what the kernel side has counted for one process, with the mappings
//! that give its addresses a meaning, and with what was lost. Opens nothing and names nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leaktrace_common::loss::{Loss, LossTotals};
use leaktrace_common::stack::{Source, StackEnd};

use crate::target::Mappings;

/// A stack that allocates: its frames and why they end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// 64-bit hash of process, source and frames; the same stack has the same id in every report.
    pub id: u64,
    /// What is allocated here.
    pub source: Source,
    /// Why there are no more frames.
    pub end: StackEnd,
    /// Return addresses (avma), the caller of the allocation function first. Empty for the site
    /// that collects allocations whose stack could not be stored.
    pub frames: Vec<u64>,
}

/// What one site has allocated and freed since the start of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes not freed yet, as the program asked for them.
    pub live_bytes: u64,
    /// Blocks not freed yet.
    pub live_count: u64,
    /// Bytes allocated since the start.
    pub allocated_bytes: u64,
    /// Blocks allocated since the start.
    pub allocated_count: u64,
    /// Bytes freed of those allocated since the start.
    pub freed_bytes: u64,
    /// Blocks freed of those allocated since the start.
    pub freed_count: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.live_bytes += other.live_bytes;
        self.live_count += other.live_count;
        self.allocated_bytes += other.allocated_bytes;
        self.allocated_count += other.allocated_count;
        self.freed_bytes += other.freed_bytes;
        self.freed_count += other.freed_count;
    }
}

/// One site in a snapshot.
#[derive(Clone, Debug)]
pub struct SiteReading {
    /// Index of the site in the kernel's table; stable during a session.
    pub index: u32,
    /// Its stack.
    pub stack: Arc<Stack>,
    /// What it has allocated and freed.
    pub totals: Totals,
    /// Live bytes by time of birth, see [`leaktrace_common::birth`]; slots behind the last one here
    /// are empty. Absent where births are not counted.
    pub live_by_birth: Option<Box<[u64]>>,
}

impl SiteReading {
    /// A reading of a site of the heap of which only the numbers matter: its stack is whole and has no frames,
    /// and its id is the index.
    pub fn of_numbers(index: u32, totals: Totals, live_by_birth: Option<Box<[u64]>>) -> Self {
        let stack = Stack {
            id: u64::from(index),
            source: Source::Heap,
            end: StackEnd::Complete,
            frames: Vec::new(),
        };
        Self {
            index,
            stack: Arc::new(stack),
            totals,
            live_by_birth,
        }
    }
}

/// The sites of a reading with what of them has been live for longer than an age.
#[derive(Clone, Debug)]
pub struct Aged {
    /// All of them, in their order. With `by_slots`, their numbers of live blocks are the most that it can
    /// be, and zero where nothing is left.
    pub sites: Vec<SiteReading>,
    /// Of what is mapped among that, bytes that only set addresses aside.
    pub reserved_bytes: u64,
    /// Absent where each block was looked at; else the age from which on blocks were counted, which is that
    /// asked for or the next above it that the counters know.
    pub by_slots: Option<Duration>,
}

/// Losses by reason, every reason included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    by_reason: BTreeMap<Loss, LossTotals>,
}

impl Losses {
    /// Losses with these totals, in the order of [`Loss::ALL`].
    pub fn new(totals: &[LossTotals]) -> Self {
        Self {
            by_reason: Loss::ALL
                .iter()
                .copied()
                .zip(totals.iter().copied())
                .collect(),
        }
    }

    /// What was lost for this reason.
    pub fn get(&self, reason: Loss) -> LossTotals {
        self.by_reason.get(&reason).copied().unwrap_or_default()
    }

    /// Every reason with what was lost for it.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, LossTotals)> + '_ {
        Loss::ALL.iter().map(|reason| (*reason, self.get(*reason)))
    }
}

/// One reading of one process.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Time since the probes were armed.
    pub elapsed: Duration,
    /// Every site that has allocated.
    pub sites: Vec<SiteReading>,
    /// Frees of blocks that the session did not see allocated.
    pub unmatched_frees: u64,
    /// Of what is mapped, bytes that only set addresses aside and hold no memory.
    pub reserved_bytes: u64,
    /// What was not seen.
    pub losses: Losses,
    /// Kernel memory that the unwind tables of the session take.
    pub unwind_table_bytes: u64,
    /// Resident set of the process; absent when it could not be read (the process has died).
    pub rss_bytes: Option<u64>,
    /// Mappings as they were last seen, executable ones of the whole session included.
    pub mappings: Arc<Mappings>,
}

impl Snapshot {
    /// A reading that knows of these sites and nothing else.
    pub fn of_sites(elapsed: Duration, sites: Vec<SiteReading>) -> Self {
        Self {
            elapsed,
            sites,
            unmatched_frees: 0,
            reserved_bytes: 0,
            losses: Losses::default(),
            unwind_table_bytes: 0,
            rss_bytes: None,
            mappings: Arc::new(Mappings::default()),
        }
    }

    /// Sum over the sites of one source.
    pub fn totals(&self, source: Source) -> Totals {
        let mut sum = Totals::default();
        for site in self.sites.iter().filter(|site| site.stack.source == source) {
            sum += site.totals;
        }
        sum
    }

    /// Bytes of the heap and of mappings that are live and not only reserved.
    pub fn tracked_bytes(&self) -> u64 {
        let mapped_bytes = self.totals(Source::Mmap).live_bytes;
        self.totals(Source::Heap).live_bytes + mapped_bytes.saturating_sub(self.reserved_bytes)
    }

    /// The same reading with the sites of one pair of functions alone, or with those of none.
    #[must_use]
    pub fn of_pair(&self, pair: Option<u8>) -> Self {
        let mut part = self.clone();
        part.sites.retain(|site| site.stack.source.pair() == pair);
        part
    }

    /// Allocations whose stack does not reach the start of the thread, by the reason; every reason
    /// is there.
    pub fn truncated_stacks(&self) -> BTreeMap<StackEnd, u64> {
        let mut by_reason: BTreeMap<_, _> = StackEnd::TRUNCATED.map(|end| (end, 0)).into();
        for site in &self.sites {
            if let Some(count) = by_reason.get_mut(&site.stack.end) {
                *count += site.totals.allocated_count;
            }
        }
        by_reason
    }
}

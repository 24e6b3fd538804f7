//! Ten thousand sites for a day → memory that their series take, and time. Reads its own size from the
//! kernel, so that nothing is left out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use leaktrace::analysis::Tracker;
use leaktrace::snapshot::{SiteReading, Snapshot, Stack, Totals};
use leaktrace_common::birth::birth_slot;
use leaktrace_common::stack::{Source, StackEnd};

const SITES: u32 = 10_000;
const READINGS: u64 = 2_880;
const EVERY_S: u64 = 86_400 / READINGS;

/// What may be taken.
const MOST_BYTES: u64 = 128 << 20;

/// Reads ten thousand sites that never rest for a day, and says what that takes.
pub(crate) fn measure() -> String {
    let stack = Arc::new(Stack {
        id: 1,
        source: Source::Heap,
        end: StackEnd::Complete,
        frames: Vec::new(),
    });
    let before = resident_bytes();
    let mut tracker = Tracker::new();
    let mut observing = Duration::ZERO;
    for reading in 1..=READINGS {
        let at_s = reading * EVERY_S;
        let snapshot = Snapshot::of_sites(
            Duration::from_secs(at_s),
            (0..SITES)
                .map(|site| restless(site, at_s, &stack))
                .collect(),
        );
        let begun = Instant::now();
        tracker.observe(&snapshot);
        observing += begun.elapsed();
    }
    let taken = resident_bytes().saturating_sub(before);
    let begun = Instant::now();
    let judged = (0..SITES).filter(|site| tracker.growth(*site).bytes_per_s.is_some());
    let judged = judged.count();
    let text = format!(
        "{SITES} sites, {READINGS} readings in a day: {:.1} MiB, {} bytes a site; a reading takes \
         {:.1} ms, verdicts on all {judged} sites {:.0} ms",
        taken as f64 / f64::from(1 << 20),
        taken / u64::from(SITES),
        observing.as_secs_f64() * 1e3 / READINGS as f64,
        begun.elapsed().as_secs_f64() * 1e3
    );
    assert!(taken < MOST_BYTES, "{text}");
    text
}

/// A site of which something is new and something gone at every reading.
fn restless(site: u32, at_s: u64, stack: &Arc<Stack>) -> SiteReading {
    let allocated_bytes = at_s * u64::from(100 + site);
    let freed_bytes = allocated_bytes / 2 + at_s % 7;
    let slots = birth_slot(at_s * 1_000_000_000) + 1;
    let live_bytes = allocated_bytes - freed_bytes;
    SiteReading {
        index: site,
        stack: Arc::clone(stack),
        totals: Totals {
            live_bytes,
            live_count: live_bytes / 100,
            allocated_bytes,
            allocated_count: allocated_bytes / 100,
            freed_bytes,
            freed_count: freed_bytes / 100,
        },
        live_by_birth: Some(vec![live_bytes / slots as u64; slots].into_boxed_slice()),
    }
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

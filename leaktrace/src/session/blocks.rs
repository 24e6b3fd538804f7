//! Where traced live blocks lie: some of their addresses, so that the memory of allocators can be told
//! from other memory. Cheap however many are live.

use std::collections::HashMap;

use leaktrace_common::lane::Lane;
use leaktrace_common::ledger::LiveKey;

use super::Session;
use super::mapped::Usable;

/// Blocks that are looked at for a sample; the ledger is ordered by a hash, so that any part of it is
/// one.
const SAMPLE: usize = 64 * 1024;

/// Distances from the start of a mapping at which an allocator puts a block that has the mapping for
/// itself: glibc behind its header, others at the start or behind a header of up to a page.
const FIRST_BLOCKS: [u64; 7] = [16, 0, 32, 48, 64, 128, 4096];

impl Session {
    /// Addresses of some live heap blocks of each process; of all, while there are few.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read.
    pub fn sample_of_blocks(&self) -> anyhow::Result<HashMap<u16, Vec<u64>>> {
        let mut sample: HashMap<u16, Vec<u64>> = HashMap::new();
        let mut seen = 0;
        self.walk_live_while(|key, _| {
            if key.ledger == Lane::MAIN.ledger()
                && let Ok(process) = u16::try_from(key.process)
            {
                sample.entry(process).or_default().push(key.address);
            }
            seen += 1;
            seen < SAMPLE
        })?;
        Ok(sample)
    }

    /// The block that begins a mapping, if there is one: large blocks have mappings of their own, and
    /// a sample by number misses them.
    ///
    /// # Errors
    ///
    /// When the ledger is missing.
    pub fn first_block(&self, process: u16, start: u64) -> anyhow::Result<Option<u64>> {
        let key = |address| LiveKey::new(u32::from(process), Lane::MAIN.ledger(), address);
        for address in FIRST_BLOCKS.iter().map(|distance| start + distance) {
            if self.is_live(&key(address))? {
                return Ok(Some(address));
            }
        }
        Ok(None)
    }

    /// Ranges of addresses that a process has mapped itself under trace, ascending.
    pub fn traced_ranges(&self, process: u16) -> Vec<(u64, u64)> {
        self.mapped
            .get(usize::from(process))
            .map_or_else(Vec::new, |ledger| ledger.ranges().collect())
    }

    /// Takes note of what a process can access, where it has mapped what only sets addresses aside; from
    /// the `usable` ranges, ascending.
    pub fn note_usable(&mut self, process: u16, usable: &[Usable]) {
        let ledger = self.mapped.get_mut(usize::from(process));
        if let Some(ledger) = ledger.filter(|ledger| ledger.has_reserved()) {
            ledger.note_usable(usable);
        }
    }
}

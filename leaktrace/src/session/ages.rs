//! How old live blocks are: by the time of their birth, which the kernel side counts in slots, or by a walk
//! over the ledger, which costs more the more is live. Reads; judges nothing.

use std::time::Duration;

use foldhash::{HashMap, HashMapExt};
use leaktrace_common::birth::{BIRTH_SLOTS, birth_slot, birth_slot_start_ns};
use leaktrace_common::stack::Source;

use super::Session;
use crate::snapshot::{Aged, SiteReading};

/// Live blocks of a session up to which each of them is asked for its age. To walk more takes longer than
/// all else of a report.
const MOST_WALKED: u64 = 1 << 20;

/// Bytes, and blocks or mappings.
pub(super) type Live = (u64, u64);

impl Session {
    /// What of these sites of a process has been live for longer than `age`. While few blocks are live, each
    /// of them is looked at. Of more, the slots of their births are added up that were over by then; the
    /// slot in which the age falls is left out, the age goes up to its beginning, and how many blocks there
    /// are is not known. Mappings are always looked at one by one.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read.
    pub fn aged(&self, process: u16, sites: &[SiteReading], age: Duration) -> anyhow::Result<Aged> {
        let now_ns = super::monotonic_ns();
        let latest_ns = now_ns.saturating_sub(u64::try_from(age.as_nanos())?);
        let by_slots = self.live_blocks() > MOST_WALKED && are_counted_by_birth(sites);
        let walked = match by_slots {
            true => Vec::new(),
            false => self.born_by(process, latest_ns)?,
        };
        let walked = self.by_first_site((0..).zip(walked));
        let mapped = self.mapped.get(usize::from(process));
        let mappings = mapped.map(|ledger| self.by_first_site(ledger.left_by_site(latest_ns)));
        let armed_at_ns = self.control.read(0).armed_at_ns;
        let slot = birth_slot(latest_ns.saturating_sub(armed_at_ns));
        let old = |site: &SiteReading| -> Live {
            match (site.stack.source, &site.live_by_birth) {
                (Source::Mmap, _) => {
                    let left = mappings.as_ref().and_then(|left| left.get(&site.index));
                    left.copied().unwrap_or_default()
                }
                (_, Some(births)) if by_slots => {
                    let bytes = births.iter().take(slot).sum();
                    // How many these are, nobody knows: at most all.
                    (bytes, if bytes > 0 { site.totals.live_count } else { 0 })
                }
                _ => walked.get(&site.index).copied().unwrap_or_default(),
            }
        };
        let sites: Vec<SiteReading> = sites
            .iter()
            .map(|site| {
                let mut aged = site.clone();
                (aged.totals.live_bytes, aged.totals.live_count) = old(site);
                aged.live_by_birth = None;
                aged
            })
            .collect();
        Ok(Aged {
            reserved_bytes: self.reserved_bytes(process, &sites, latest_ns),
            sites,
            by_slots: by_slots.then(|| {
                let since_ns = armed_at_ns + birth_slot_start_ns(slot);
                Duration::from_nanos(now_ns.saturating_sub(since_ns)).max(age)
            }),
        })
    }

    /// Blocks of all processes.
    fn live_blocks(&self) -> u64 {
        let sites = (0..).zip(&self.stacks).filter(|(_, known)| known.is_some());
        sites
            .map(|(site, _)| self.heap_totals(site).live_count)
            .sum()
    }

    /// By site, what was born by this time and is live.
    fn born_by(&self, process: u16, latest_ns: u64) -> anyhow::Result<Vec<Live>> {
        let mut sums: Vec<Live> = vec![(0, 0); self.stacks.len()];
        self.walk_live_while(|key, block| {
            if key.process == u32::from(process)
                && block.at_ns <= latest_ns
                && let Some(sum) = sums.get_mut(block.site as usize)
            {
                sum.0 += block.size_bytes;
                sum.1 += 1;
            }
            true
        })?;
        Ok(sums)
    }

    /// What sites have that have the same stack, under the index of the first of them.
    pub(super) fn by_first_site(
        &self,
        sums: impl IntoIterator<Item = (u32, Live)>,
    ) -> HashMap<u32, Live> {
        merged(sums, |site| {
            let (_, stack) = self.stacks.get(site as usize)?.as_ref()?;
            self.first_sites.get(&stack.id).copied()
        })
    }

    /// Birth slots up to the present one.
    pub(super) fn birth_slots(&self) -> usize {
        let armed_at_ns = self.control.read(0).armed_at_ns;
        birth_slot(super::monotonic_ns().saturating_sub(armed_at_ns)) + 1
    }

    /// Live bytes of a site in its first `slots` birth slots; absent for sites whose births are not
    /// counted.
    pub(super) fn live_by_birth(&self, site: u32, slots: usize) -> Option<Box<[u64]>> {
        let site = site as usize;
        if site >= self.births.len() {
            return None;
        }
        // SAFETY: the place is inside the mapping, of which no part is ever written from here.
        let counters = unsafe { (&raw const (*self.births.place(site)).live_bytes).cast::<u64>() };
        let live_bytes = (0..slots.min(BIRTH_SLOTS)).map(|slot| {
            // SAFETY: slots are below BIRTH_SLOTS, the length of the array.
            unsafe { counters.add(slot).read_volatile() }
        });
        Some(live_bytes.collect())
    }
}

/// Adds up what is under one index; what `first_of` knows no index of is left out.
fn merged(
    sums: impl IntoIterator<Item = (u32, Live)>,
    first_of: impl Fn(u32) -> Option<u32>,
) -> HashMap<u32, Live> {
    let mut by_first: HashMap<u32, Live> = HashMap::new();
    for (site, sum) in sums.into_iter().filter(|(_, sum)| *sum != (0, 0)) {
        if let Some(first) = first_of(site) {
            let whole = by_first.entry(first).or_default();
            whole.0 += sum.0;
            whole.1 += sum.1;
        }
    }
    by_first
}

/// Whether the births of all blocks are counted, and no pair of functions is followed, of which objects
/// are counted, not bytes.
fn are_counted_by_birth(sites: &[SiteReading]) -> bool {
    sites.iter().all(|site| match site.stack.source {
        Source::Mmap => true,
        Source::Heap => site.live_by_birth.is_some() || site.totals.live_count == 0,
        _ => false,
    })
}

/// Births of two sites that have the same stack; unknown if those of one are.
pub(super) fn sum_of_births(
    one: Option<Box<[u64]>>,
    other: Option<Box<[u64]>>,
) -> Option<Box<[u64]>> {
    let (mut long, mut short) = (one?, other?);
    if long.len() < short.len() {
        std::mem::swap(&mut long, &mut short);
    }
    for (sum, bytes) in long.iter_mut().zip(&short) {
        *sum += bytes;
    }
    Some(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_of_one_stack_are_counted_in_full_under_the_first_of_them() {
        const MAPPING: u64 = 16 << 20;
        let sums = (3..23).map(|site| (site, (MAPPING, 1)));
        let others = [(1, (5, 1)), (2, (0, 0)), (40, (7, 1))];
        let first_of = |site| match site {
            3..23 => Some(3),
            40 => None,
            own => Some(own),
        };
        let whole = merged(sums.chain(others), first_of);
        let expected = [(3, (20 * MAPPING, 20)), (1, (5, 1))];
        assert_eq!(whole, expected.into_iter().collect::<HashMap<_, _>>());
    }
}

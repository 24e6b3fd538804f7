//! What the pairs of functions hold that the user has named → lines of a report.

use leaktrace_common::stack::Source;

use super::{Material, site};
use crate::allocators::Pair;
use crate::analysis::Order;
use crate::report::{PairLine, PairSite, Site};
use crate::symbolize::Naming;

/// A pair of functions, and what is read of it besides its sites.
#[derive(Clone, Debug)]
pub struct PairReading {
    /// The pair as the user wrote it.
    pub text: String,
    /// Whether its functions are told sizes. Else each object weighs 1 in every reading.
    pub has_sizes: bool,
    /// Frees of what the session did not see allocated.
    pub unmatched_frees: u64,
}

impl PairReading {
    /// A pair of which nothing was read yet.
    pub fn of(pair: &Pair) -> Self {
        Self {
            text: pair.text.clone(),
            has_sizes: pair.has_sizes(),
            unmatched_frees: 0,
        }
    }
}

/// A line for each pair, with `top` sites (0: all).
pub(super) fn lines(
    material: &Material<'_>,
    order: Order,
    top: usize,
    naming: &mut dyn Naming,
) -> Vec<PairLine> {
    (0u8..)
        .zip(material.pairs)
        .map(|(number, pair)| {
            let snapshot = material.snapshot.of_pair(Some(number));
            let totals = snapshot.totals(Source::of_pair(number));
            let sites = material.tracker.top(&snapshot, order, top);
            let bytes = |bytes: u64| pair.has_sizes.then_some(bytes);
            PairLine {
                pair: pair.text.clone(),
                unit: if pair.has_sizes { "bytes" } else { "objects" },
                live_bytes: bytes(totals.live_bytes),
                live_count: totals.live_count,
                allocated_bytes: bytes(totals.allocated_bytes),
                allocated_count: totals.allocated_count,
                freed_bytes: bytes(totals.freed_bytes),
                freed_count: totals.freed_count,
                unmatched_frees: pair.unmatched_frees,
                sites: sites
                    .into_iter()
                    .map(|reading| {
                        let count = reading.totals.live_count;
                        of_site(site(material, reading, naming), count, pair.has_sizes)
                    })
                    .collect(),
            }
        })
        .collect()
}

fn of_site(site: Site, live_count: u64, has_sizes: bool) -> PairSite {
    let growth = site.growth_bytes_per_s;
    PairSite {
        id: site.id,
        live_bytes: has_sizes.then_some(site.live_bytes),
        live_count,
        allocated_count: site.allocated_count,
        growth_bytes_per_s: growth.filter(|_| has_sizes),
        growth_objects_per_s: growth.filter(|_| !has_sizes),
        verdict: site.verdict,
        complete: site.complete,
        truncated: site.truncated,
        frames: site.frames,
    }
}

//! What the pairs of functions hold that the user has named → text for people.

use std::fmt::Write;

use crate::report::{PairLine, PairSite, Report};

use super::columns::wrap;
use super::sanitize::plain;
use super::stack_text::push_stack;
use crate::units;

/// A line for each pair.
pub(super) fn push_totals(out: &mut String, report: &Report) {
    for pair in &report.pairs {
        let mut text = format!(
            "{}: {} ({} allocated, {} freed)",
            plain(&pair.pair),
            live(pair.live_bytes, pair.live_count),
            units::count(pair.allocated_count),
            units::count(pair.freed_count),
        );
        if pair.unmatched_frees > 0 {
            let unmatched = units::counted(pair.unmatched_frees, "unmatched free");
            // Writing to a String cannot fail.
            let _ = write!(text, ", {unmatched}");
        }
        out.push_str(&wrap("  pair  ", &text));
    }
}

/// The sites of each pair with their stacks.
pub(super) fn push_sites(out: &mut String, report: &Report) {
    for pair in &report.pairs {
        for (rank, site) in (1..).zip(&pair.sites) {
            out.push('\n');
            out.push_str(&wrap("", &heading(rank, pair, site)));
            push_stack(out, &site.frames, None, site.truncated, None);
        }
    }
}

fn heading(rank: usize, pair: &PairLine, site: &PairSite) -> String {
    let rate = match (site.growth_bytes_per_s, site.growth_objects_per_s) {
        (Some(bytes), _) => units::rate(bytes),
        (None, Some(objects)) => units::object_rate(objects),
        (None, None) => "?/s".to_owned(),
    };
    format!(
        "{} #{rank}  {rate}  {}  {}  id {}",
        plain(&pair.pair),
        site.verdict.word(),
        live(site.live_bytes, site.live_count),
        plain(&site.id),
    )
}

fn live(bytes: Option<u64>, count: u64) -> String {
    match bytes {
        Some(bytes) => format!(
            "{} live in {}",
            units::bytes(bytes),
            units::counted(count, "block")
        ),
        None => format!("{} live", units::counted(count, "object")),
    }
}

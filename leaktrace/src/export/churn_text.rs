//! The busiest sites of a report → text. Computes nothing.

use std::fmt::Write;

use crate::report::{ChurnSite, Report};
use crate::units;

use super::stack_text::push_stack;

/// Appends the sites that allocate most often, if they were asked for.
pub(super) fn push_churn(out: &mut String, report: &Report) {
    for (rank, site) in (1..).zip(&report.churn) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\nchurn {rank}  {}", heading(site));
        push_stack(out, &site.frames, site.suspect_frame, None, None);
    }
}

fn heading(site: &ChurnSite) -> String {
    let mut text = format!(
        "{} allocations/s, {}, {:.0}% freed",
        units::count(site.allocations_per_s.round() as u64),
        units::unsigned_rate(site.bytes_per_s),
        100.0 * site.freed_share
    );
    if let Some((share, within_s)) = site.freed_young_share.zip(site.freed_young_within_s) {
        let within = units::elapsed(within_s);
        let _ = write!(text, " ({:.0}% within {within} of birth)", 100.0 * share);
    }
    if let Some(seconds) = site.mean_lifetime_s {
        let lifetime = match seconds {
            0.0..0.001 => "under 1 ms".to_owned(),
            0.001..1.0 => format!("{:.0} ms", 1000.0 * seconds),
            longer => units::elapsed(longer),
        };
        let _ = write!(text, ", a block lives {lifetime}");
    }
    text
}

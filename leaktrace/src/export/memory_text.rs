//! What a report says of the whole process → the lines of its header. Computes nothing but shares.

use std::fmt::Write;

use crate::report::{LimitLine, Report};
use crate::units;

/// Below this, a kind of memory is not worth a word.
const WORTH_BYTES: i64 = 64 * 1024;

/// Resident set, its growth and how it moves.
pub(super) fn resident(report: &Report) -> Option<String> {
    let process = &report.process;
    let mut text = units::bytes(process.rss_bytes?);
    if let Some(growth) = process.rss_growth_bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, ", {} since the start", units::signed_bytes(growth));
    }
    if let Some(pattern) = process.rss_pattern {
        let _ = write!(text, " ({pattern})");
    }
    if let Some(ratio) = process.explained_ratio {
        let _ = write!(
            text,
            ", {:.0}% of it explained by what is live",
            ratio * 100.0
        );
    }
    Some(text)
}

/// What of the growth is not explained, by kind; absent when that is next to nothing.
pub(super) fn elsewhere(report: &Report) -> Option<String> {
    let kinds = report.process.growth_by_kind.as_ref()?;
    let mut parts = Vec::new();
    let mut part = |bytes: i64, what: &str| {
        if bytes.abs() >= WORTH_BYTES {
            parts.push(format!("{} {what}", units::signed_bytes(bytes)));
        }
    };
    if kinds.untracked_anonymous_bytes > 0 {
        let what = "held by the allocator, allocated before or not traced";
        part(kinds.untracked_anonymous_bytes, what);
    }
    part(kinds.file_bytes, "of mapped files");
    part(kinds.shared_bytes, "of shared memory");
    part(kinds.swapped_bytes, "in swap");
    if kinds.major_faults > 0 {
        let faults = units::counted(kinds.major_faults.cast_unsigned(), "page fault");
        parts.push(format!("{faults} that waited for a disk"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The limits that the process has of its own, and the time until the first is reached.
pub(super) fn limits(report: &Report) -> Option<String> {
    let until = report.time_left.time_left_until;
    let mut parts: Vec<String> = report
        .limits
        .iter()
        // That every machine's memory ends is news only when the end is near.
        .filter(|limit| limit.kind != "machine" || until == Some("machine"))
        .map(used)
        .collect();
    if let (Some([from, to]), Some(kind)) = (report.time_left.time_left_s, until) {
        parts.push(format!(
            "the {kind} limit is reached in {} to {} if it goes on like this",
            units::elapsed(from),
            units::elapsed(to)
        ));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn used(limit: &LimitLine) -> String {
    format!(
        "{} {} of {} used ({})",
        limit.kind,
        units::bytes(limit.used_bytes),
        units::bytes(limit.limit_bytes),
        units::share(limit.used_bytes, limit.limit_bytes)
    )
}

//! What a report says of the whole process → the lines of its header. Computes nothing but shares.

use std::fmt::Write;

use super::sanitize::plain;
use crate::report::{GrownFile, LimitLine, OwnersLine, Report};
use crate::units;

/// Below this, a kind of memory is not worth a word.
const WORTH_BYTES: i64 = 64 * 1024;

/// Parts that are older than this do not add up to what is said beside them.
const STALE_S: f64 = 0.2;

/// Resident set, what of it is from before, its growth and how it moves.
pub(super) fn resident(report: &Report) -> Option<String> {
    let process = &report.process;
    let mut text = match (process.rss_bytes, &process.growth_by_owner) {
        (Some(rss_bytes), _) => units::bytes(rss_bytes),
        (None, Some(owners)) => {
            let at = units::elapsed(owners.at_s);
            format!(
                "{} since the start when it was read last, after {at}",
                held(owners)
            )
        }
        (None, None) => return None,
    };
    if let (Some(growth), Some(start)) = (process.rss_growth_bytes, process.rss_at_start_bytes) {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            ": {} from before the start, {} since",
            units::bytes(start),
            units::signed_bytes(growth)
        );
    }
    if let Some(pattern) = process.rss_pattern {
        let _ = write!(text, " ({pattern})");
    }
    if let Some(ratio) = process.explained_ratio {
        let _ = write!(text, ", {:.0}% of it explained", ratio * 100.0);
    }
    Some(text)
}

/// Growth, swap included.
fn held(owners: &OwnersLine) -> String {
    let parts = [
        owners.heap_bytes,
        owners.allocator_bytes,
        owners.mapped_bytes,
        owners.data_bytes,
        owners.file_bytes,
        owners.shared_bytes,
        owners.untracked_bytes,
    ];
    units::signed_bytes(parts.iter().sum())
}

/// Who holds what the process has grown by; absent when that is next to nothing.
pub(super) fn owners(report: &Report) -> Option<String> {
    let owners = report.process.growth_by_owner.as_ref()?;
    let mut parts = Vec::new();
    let mut part = |bytes: i64, what: &str| {
        if bytes.abs() >= WORTH_BYTES {
            parts.push(format!("{} {what}", units::bytes(bytes.unsigned_abs())));
        }
    };
    part(owners.heap_bytes + owners.mapped_bytes, "tracked");
    if owners.allocator_bytes < 0 {
        part(
            owners.allocator_bytes,
            "of that untouched or in memory that was resident before",
        );
    } else if report.process.explained_ratio.is_none() {
        part(
            owners.allocator_bytes,
            "held by the allocator or not counted",
        );
    } else {
        part(owners.allocator_bytes, "held by the allocator");
    }
    part(owners.data_bytes, "of stack and static data");
    part(
        owners.file_bytes,
        &named("of mapped files", owners.largest_file.as_ref()),
    );
    part(
        owners.shared_bytes,
        &named("of shared memory", owners.largest_shared.as_ref()),
    );
    match owners.untracked_bytes {
        ..0 => part(owners.untracked_bytes, "from before given back"),
        _ => part(owners.untracked_bytes, "not explained"),
    }
    part(owners.swapped_bytes, "of all that in swap");
    let kinds = report.process.growth_by_kind.as_ref();
    if let Some(kinds) = kinds.filter(|kinds| kinds.major_faults > 0) {
        let faults = units::counted(kinds.major_faults.cast_unsigned(), "page fault");
        parts.push(format!("after {faults} that waited for a disk"));
    }
    if report.process.rss_bytes.is_some() && report.elapsed_s - owners.at_s >= STALE_S {
        let at = units::elapsed(owners.at_s);
        parts.push(format!("read after {at}"));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn named(what: &str, largest: Option<&GrownFile>) -> String {
    match largest.filter(|file| !file.path.is_empty() && file.bytes >= WORTH_BYTES) {
        Some(file) => format!("{what} (most of {})", plain(&file.path)),
        None => what.to_owned(),
    }
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
        let (from, to) = (units::elapsed(from), units::elapsed(to));
        parts.push(match kind {
            "machine" => format!("what is left lasts {from} to {to} of this process's growth"),
            _ => format!("the {kind} limit is reached in {from} to {to} if it goes on like this"),
        });
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

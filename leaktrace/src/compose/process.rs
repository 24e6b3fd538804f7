//! The memory of a whole process → the lines of a report about it. Reads nothing.

use super::Material;
use crate::report::{KindsLine, LimitLine, ProcessLine, TimeLeftLine};

/// The process as a whole; `tracked_bytes` are live and not only reserved.
pub(super) fn line(material: &Material<'_>, tracked_bytes: u64) -> ProcessLine {
    let rss_bytes = material.snapshot.rss_bytes;
    let growth = rss_bytes
        .zip(material.rss_at_start_bytes)
        .map(|(now, start)| now.cast_signed() - start.cast_signed());
    ProcessLine {
        rss_bytes,
        rss_growth_bytes: growth,
        explained_ratio: growth
            .filter(|growth| *growth > 0)
            .map(|growth| tracked_bytes as f64 / growth as f64),
        rss_pattern: material.memory.pattern(),
        growth_by_kind: kinds(material, tracked_bytes),
    }
}

fn kinds(material: &Material<'_>, tracked_bytes: u64) -> Option<KindsLine> {
    let growth = material.memory.growth()?;
    Some(KindsLine {
        anonymous_bytes: growth.anonymous_bytes,
        file_bytes: growth.file_bytes,
        shared_bytes: growth.shared_bytes,
        swapped_bytes: growth.swapped_bytes,
        major_faults: growth.major_faults,
        untracked_anonymous_bytes: growth.anonymous_bytes + growth.swapped_bytes
            - tracked_bytes.cast_signed(),
    })
}

/// What bounds the process.
pub(super) fn limits(material: &Material<'_>) -> Vec<LimitLine> {
    let bounds = material.memory.latest().map(|memory| &memory.bounds);
    let bounds = bounds.into_iter().flatten();
    bounds
        .map(|bound| LimitLine {
            kind: bound.kind.word(),
            limit_bytes: bound.limit_bytes,
            used_bytes: bound.used_bytes,
        })
        .collect()
}

/// When the first bound is reached.
pub(super) fn time_left(material: &Material<'_>) -> TimeLeftLine {
    let left = material.memory.time_left();
    TimeLeftLine {
        time_left_s: left.map(|left| left.seconds),
        time_left_until: left.map(|left| left.kind.word()),
    }
}

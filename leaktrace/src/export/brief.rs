//! A report → what of it a person has to see first: sites that grow or hold much, and of a child in which
//! nothing does either, one line. Writes nothing; JSON lines always have all.

use crate::report::{Report, Site, Verdict};

/// How much of a report the user wants to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// What matters: nothing was said about it.
    #[default]
    Brief,
    /// As many sites as were asked for, whatever they do.
    Chosen,
    /// All there is.
    Whole,
}

/// A site that holds a smaller share of the live bytes matters only if it grows.
const SMALL_SHARE: f64 = 0.01;

/// So many sites are listed where none matters.
const FEWEST_LISTED: usize = 3;

/// A child that holds less is said in a line, if nothing in it grows and it has not grown by as much.
const LITTLE_BYTES: u64 = 1 << 20;

/// Frames of a stack that says where memory is, not where it is lost.
const FRAMES_OF_A_SITE_AT_REST: usize = 8;

/// The sites to list, in their order.
pub(super) fn listed(report: &Report, detail: Detail) -> Vec<&Site> {
    let all = || report.sites.iter();
    if detail != Detail::Brief {
        return all().collect();
    }
    let small_bytes = SMALL_SHARE * live_bytes(report) as f64;
    let matters = |site: &&Site| !is_at_rest(site) || site.live_bytes as f64 >= small_bytes;
    let listed: Vec<&Site> = all().filter(matters).collect();
    match listed.is_empty() {
        true => all().take(FEWEST_LISTED).collect(),
        false => listed,
    }
}

/// Whether this is a child that need not be read about: nothing grows, and it holds little.
pub(super) fn is_quiet_child(report: &Report, detail: Detail) -> bool {
    let grows = |site: &Site| matches!(site.verdict, Verdict::Leaking | Verdict::Growing);
    detail != Detail::Whole
        && report.parent_pid.is_some()
        && live_bytes(report) < LITTLE_BYTES
        && grown_bytes(report) < LITTLE_BYTES.cast_signed()
        && report.process.next_tool.is_none()
        && report.time_left.time_left_s.is_none()
        && report.alerts.is_empty()
        && !report.sites.iter().any(grows)
        && report.pairs.is_empty()
        && report.churn.is_empty()
}

/// Frames of the site to show at most; absent for all that are ever shown.
pub(super) fn most_frames(site: &Site, detail: Detail) -> Option<usize> {
    let shown = FRAMES_OF_A_SITE_AT_REST.max(site.suspect_frame.map_or(0, |suspect| suspect + 2));
    (detail == Detail::Brief && is_at_rest(site)).then_some(shown)
}

/// Bytes that are live and take memory.
fn live_bytes(report: &Report) -> u64 {
    let mapped = report.mapped.as_ref();
    let mapped_bytes = mapped.map_or(0, |mapped| {
        mapped.live_bytes.saturating_sub(mapped.reserved_bytes)
    });
    report.totals.live_bytes + mapped_bytes
}

/// What the process has grown by, whoever asked for it; pages of its files are not counted where they are
/// known apart.
fn grown_bytes(report: &Report) -> i64 {
    let process = &report.process;
    match &process.growth_by_kind {
        Some(kinds) => kinds.anonymous_bytes + kinds.shared_bytes + kinds.swapped_bytes,
        None => process.rss_growth_bytes.unwrap_or(0),
    }
}

/// Whether it is known not to grow.
fn is_at_rest(site: &Site) -> bool {
    match site.verdict {
        Verdict::Leaking | Verdict::Growing => false,
        Verdict::Steady | Verdict::Shrinking => true,
        Verdict::Unknown => site.growth_bytes_per_s.is_some_and(|rate| rate <= 0.0),
    }
}

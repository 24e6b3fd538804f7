//! Alerts and churn → the lines of a report about them. Reads nothing.

use super::{Material, site};
use crate::analysis::{Alert, Turn};
use crate::report::ChurnSite;
use crate::snapshot::Snapshot;
use crate::symbolize::{Frame, Naming};
use crate::units;

/// Each condition that holds as a sentence.
pub(super) fn alerts(material: &Material<'_>, naming: &mut dyn Naming) -> Vec<String> {
    let alerts = material.alerts.alerts.iter();
    alerts
        .map(|alert| match alert {
            Alert::Leaks(ids) => format!("judged leaking: {}", leaks(ids, material, naming)),
            _ => begun(alert, material, naming),
        })
        .collect()
}

/// What has begun or ceased to hold, each as a sentence.
pub(super) fn alert_changes(material: &Material<'_>, naming: &mut dyn Naming) -> Vec<String> {
    let changes = material.alerts.changes.iter();
    changes
        .map(|change| match change.turn {
            Turn::Begun => begun(&change.alert, material, naming),
            Turn::Over => over(&change.alert, material, naming),
            Turn::Passed => passed(&change.alert),
        })
        .collect()
}

fn begun(alert: &Alert, material: &Material<'_>, naming: &mut dyn Naming) -> String {
    match alert {
        Alert::Resident {
            rss_bytes,
            bound_bytes,
        } => format!(
            "resident memory is {}, above {}",
            units::bytes(*rss_bytes),
            units::bytes(*bound_bytes)
        ),
        Alert::Growth {
            bytes_per_s,
            lasting,
        } => format!(
            "resident memory has grown by {} for {}",
            units::rate(*bytes_per_s),
            units::elapsed(lasting.as_secs_f64())
        ),
        Alert::Leaks(ids) => format!("newly judged leaking: {}", leaks(ids, material, naming)),
    }
}

/// What is over before it was told.
fn passed(alert: &Alert) -> String {
    match alert {
        Alert::Resident {
            rss_bytes,
            bound_bytes,
        } => format!(
            "resident memory was {} since the last report, above {}, and is not any more",
            units::bytes(*rss_bytes),
            units::bytes(*bound_bytes)
        ),
        Alert::Growth {
            bytes_per_s,
            lasting,
        } => format!(
            "resident memory had grown by {} for {} since the last report, and does not any more",
            units::rate(*bytes_per_s),
            units::elapsed(lasting.as_secs_f64())
        ),
        Alert::Leaks(ids) => format!(
            "{} were judged leaking",
            units::counted(ids.len() as u64, "site")
        ),
    }
}

fn over(alert: &Alert, material: &Material<'_>, naming: &mut dyn Naming) -> String {
    match alert {
        Alert::Resident { bound_bytes, .. } => {
            let bound = units::bytes(*bound_bytes);
            format!("over: resident memory is not above {bound} any more")
        }
        Alert::Growth { .. } => "over: resident memory does not grow so fast any more".to_owned(),
        Alert::Leaks(ids) => format!(
            "over: not judged leaking any more: {}",
            leaks(ids, material, naming)
        ),
    }
}

fn leaks(ids: &[u64], material: &Material<'_>, naming: &mut dyn Naming) -> String {
    let leaks: Vec<String> = ids.iter().map(|id| leak(*id, material, naming)).collect();
    leaks.join("; ")
}

/// A leak by the function to look at, what it holds and how fast it grows.
fn leak(id: u64, material: &Material<'_>, naming: &mut dyn Naming) -> String {
    let readings = &material.snapshot.sites;
    let Some(reading) = readings.iter().find(|reading| reading.stack.id == id) else {
        return format!("id {id:016x}");
    };
    let site = site(material, reading, naming);
    let frame = site.suspect_frame.and_then(|index| site.frames.get(index));
    let function = frame.or_else(|| site.frames.first());
    let called = function.map(Frame::label);
    let of_pair = reading.stack.source.pair();
    let pair = of_pair.and_then(|pair| material.pairs.get(usize::from(pair)));
    let (live, rate) = match pair {
        Some(pair) if !pair.has_sizes => (
            units::counted(reading.totals.live_count, "object"),
            site.growth_bytes_per_s.map(units::object_rate),
        ),
        _ => (
            units::bytes(site.live_bytes),
            site.growth_bytes_per_s.map(units::rate),
        ),
    };
    format!(
        "{} with {live} live, {}, id {id:016x}",
        called.as_deref().unwrap_or("code without a stack"),
        rate.as_deref().unwrap_or("at an unknown rate"),
    )
}

/// The busiest sites of a reading without pairs, with their names, if they are asked for.
pub(super) fn churn(
    material: &Material<'_>,
    snapshot: &Snapshot,
    count: usize,
    naming: &mut dyn Naming,
) -> Vec<ChurnSite> {
    let Some((order, temporaries)) = material.churn else {
        return Vec::new();
    };
    let tracker = material.tracker;
    let busiest = tracker.busiest(snapshot, temporaries, order, count);
    busiest
        .into_iter()
        .map(|(reading, churn)| {
            let site = site(material, reading, naming);
            ChurnSite {
                id: site.id,
                source: site.source,
                allocations_per_s: churn.allocations_per_s,
                bytes_per_s: churn.bytes_per_s,
                freed_share: churn.freed_share,
                freed_young_share: churn.freed_young.map(|young| young.share),
                freed_young_within_s: churn.freed_young.map(|young| young.within_s),
                mean_lifetime_s: churn.mean_lifetime_s,
                suspect_frame: site.suspect_frame,
                frames: site.frames,
            }
        })
        .collect()
}

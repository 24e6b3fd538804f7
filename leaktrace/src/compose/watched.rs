//! Alerts and churn → the lines of a report about them. Reads nothing.

use super::{Material, site};
use crate::analysis::Alert;
use crate::report::ChurnSite;
use crate::symbolize::Naming;
use crate::units;

/// Each alert as a sentence.
pub(super) fn alerts(alerts: &[Alert]) -> Vec<String> {
    alerts.iter().map(words).collect()
}

fn words(alert: &Alert) -> String {
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
        Alert::Leaks(ids) => {
            let ids: Vec<String> = ids.iter().map(|id| format!("{id:016x}")).collect();
            format!("newly judged leaking: {}", ids.join(", "))
        }
    }
}

/// The busiest sites, with their names.
pub(super) fn churn(
    material: &Material<'_>,
    count: usize,
    naming: &mut dyn Naming,
) -> Vec<ChurnSite> {
    let busiest = material.tracker.busiest(material.snapshot, count);
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
                mean_lifetime_s: churn.mean_lifetime_s,
                suspect_frame: site.suspect_frame,
                frames: site.frames,
            }
        })
        .collect()
}

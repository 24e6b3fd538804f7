//! Obeys a probe plan as far as the kernel lets it: what is refused is taken out of the plan, with
//! the reason, and never in halves. Knows no process and no kernel: both stand behind a function.

use std::collections::BTreeMap;

use leaktrace_common::call::Call;

use crate::probes::{Group, Point, ProbePlan, Unprobed};
use crate::session::AttachError;

/// Attaches a plan, as far as the kernel lets it, and adds to what is known what has become of it: also
/// when everything was refused, so that reports tell of it. Adds nothing when the process has exited.
///
/// # Errors
///
/// When the process has exited, or everything was refused.
pub(super) fn attach_more(
    known: &mut ProbePlan,
    mut plan: ProbePlan,
    attach: impl FnMut(&Group, &[Point]) -> Result<(), AttachError>,
) -> Result<(), AttachError> {
    let attached = attach_plan(&mut plan, attach);
    if !matches!(attached, Err(AttachError::ProcessExited)) {
        known.probes.extend(plan.probes);
        known.unprobed.extend(plan.unprobed);
    }
    attached
}

/// Attaches the groups of a plan in their order. A function of which one probe is refused gets no
/// more of them, and moves to those that are not probed; the others of its link are tried one by
/// one.
fn attach_plan(
    plan: &mut ProbePlan,
    mut attach: impl FnMut(&Group, &[Point]) -> Result<(), AttachError>,
) -> Result<(), AttachError> {
    let mut refused: BTreeMap<u16, String> = BTreeMap::new();
    let mut attached = false;
    for group in plan.groups() {
        let points: Vec<Point> = group
            .points
            .iter()
            .filter(|point| !refused.contains_key(&function(point)))
            .copied()
            .collect();
        attached |= attach_points(&points, &mut refused, &mut |points| attach(&group, points))?;
    }
    let unprobed: Vec<Unprobed> = plan
        .functions()
        .filter_map(|probe| {
            let reason = refused.get(&probe.call.function)?;
            Some(Unprobed {
                object: probe.object,
                function: probe.function,
                reason: format!("the kernel refused its probe: {reason}"),
                refused_by_kernel: true,
            })
        })
        .collect();
    plan.unprobed.extend(unprobed);
    plan.probes
        .retain(|probe| !refused.contains_key(&probe.call.function));
    match refused.into_values().next() {
        Some(reason) if !attached => Err(AttachError::Refused(reason)),
        _ => Ok(()),
    }
}

/// Attaches as many of these points as the kernel takes; whether it took any.
fn attach_points(
    points: &[Point],
    refused: &mut BTreeMap<u16, String>,
    attach: &mut dyn FnMut(&[Point]) -> Result<(), AttachError>,
) -> Result<bool, AttachError> {
    if points.is_empty() {
        return Ok(false);
    }
    match (attach(points), points) {
        (Ok(()), _) => Ok(true),
        (Err(AttachError::ProcessExited), _) => Err(AttachError::ProcessExited),
        (Err(AttachError::Refused(reason)), [point]) => {
            refused.insert(function(point), reason);
            Ok(false)
        }
        (Err(AttachError::Refused(_)), _) => {
            let (first, rest) = points.split_at(points.len() / 2);
            let first = attach_points(first, refused, attach)?;
            Ok(attach_points(rest, refused, attach)? || first)
        }
    }
}

fn function(point: &Point) -> u16 {
    Call::from_cookie(point.cookie).function
}

#[cfg(test)]
#[path = "attaching_tests.rs"]
mod tests;

//! What becomes of a plan that the kernel takes in part.

use super::*;
use crate::allocators::detect::{ObjectSymbols, detect};
use crate::probes::{PlanOptions, plan};
use crate::target::Function;

fn a_plan() -> ProbePlan {
    let function = |(place, name): (u64, &str)| Function {
        name: name.to_owned(),
        svma: place,
        size_bytes: 16,
        file_offset: place,
    };
    let names = ["malloc", "calloc", "valloc", "free"];
    let libc = ObjectSymbols {
        path: "/lib/libc.so.6".into(),
        functions: Ok((1..).map(|n| 16 * n).zip(names).map(function).collect()),
    };
    let Ok(detection) = detect(&[libc]) else {
        panic!("malloc and free make an allocator");
    };
    let options = PlanOptions {
        mmap: true,
        first_function: 0,
    };
    plan(0, &detection, options, |_, _, _| None)
}

fn refuse(offset: u64) -> impl FnMut(&Group, &[Point]) -> Result<(), AttachError> {
    move |_, points| match points.iter().any(|point| point.file_offset == offset) {
        true => Err(AttachError::Refused("not that one".to_owned())),
        false => Ok(()),
    }
}

#[test]
fn one_refused_place_costs_its_function_alone() {
    let mut plan = a_plan();
    let valloc = 48;
    assert!(attach_plan(&mut plan, refuse(valloc)).is_ok());
    let functions: Vec<_> = plan.functions().map(|probe| probe.function).collect();
    assert_eq!(functions, ["malloc", "calloc", "free"]);
    assert!(plan.probes.iter().all(|probe| probe.function != "valloc"));
    assert_eq!(plan.unprobed[0].function, "valloc");
    assert!(plan.unprobed[0].reason.contains("not that one"));
    assert!(plan.unprobed[0].refused_by_kernel);
}

#[test]
fn a_function_whose_return_is_refused_gets_no_probe_at_its_entry() {
    let mut plan = a_plan();
    let mut entered = Vec::new();
    let attached = attach_plan(&mut plan, |group, points| {
        if group.program.role() == crate::probes::Role::Return && points.len() > 1 {
            return Err(AttachError::Refused("one by one".to_owned()));
        }
        if group.program.role() == crate::probes::Role::Return && points[0].file_offset == 32 {
            return Err(AttachError::Refused("not that one".to_owned()));
        }
        entered.extend(points.iter().map(|point| point.file_offset));
        Ok(())
    });
    assert!(attached.is_ok());
    assert!(!entered.contains(&32), "{entered:?}");
}

#[test]
fn a_kernel_that_refuses_everything_is_an_error() {
    let all = attach_plan(&mut a_plan(), |_, _| {
        Err(AttachError::Refused("no".to_owned()))
    });
    assert!(matches!(all, Err(AttachError::Refused(_))));
    let gone = attach_plan(&mut a_plan(), |_, _| Err(AttachError::ProcessExited));
    assert!(matches!(gone, Err(AttachError::ProcessExited)));
}

#[test]
fn what_is_refused_of_a_late_object_is_known_though_it_be_everything() {
    let mut known = a_plan();
    let before = known.clone();
    let late = attach_more(&mut known, a_plan(), |_, _| {
        Err(AttachError::Refused("too many open files".to_owned()))
    });
    assert!(matches!(late, Err(AttachError::Refused(_))));
    assert_eq!(known.probes, before.probes);
    let refused: Vec<_> = known.unprobed.iter().map(|lost| lost.function).collect();
    assert_eq!(refused, ["malloc", "calloc", "valloc", "free"]);
    for lost in &known.unprobed {
        assert!(lost.refused_by_kernel);
        assert!(lost.reason.contains("too many open files"));
    }
}

#[test]
fn what_is_attached_of_a_late_object_joins_what_is_known() {
    let mut known = a_plan();
    let valloc = 48;
    assert!(attach_more(&mut known, a_plan(), refuse(valloc)).is_ok());
    assert_eq!(known.functions().count(), 4 + 3);
    assert_eq!(known.unprobed.len(), 1);
}

#[test]
fn of_a_process_that_has_exited_nothing_is_added() {
    let mut known = a_plan();
    let before = known.clone();
    let gone = attach_more(&mut known, a_plan(), |_, _| Err(AttachError::ProcessExited));
    assert!(matches!(gone, Err(AttachError::ProcessExited)));
    assert_eq!(known, before);
}

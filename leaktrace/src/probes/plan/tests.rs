//! The plan's promises: places, cookies, and the order of attachment.

use super::*;
use crate::allocators::detect::{ObjectSymbols, detect};
use crate::target::Function;

const ALL: PlanOptions = PlanOptions {
    mmap: true,
    first_function: 0,
};

/// Two objects with allocators at different offsets; every function is 16 bytes long.
fn detection() -> Detection {
    let object = |path: &str, base: u64, names: &[&str]| ObjectSymbols {
        path: path.into(),
        functions: Ok(names
            .iter()
            .zip(0u64..)
            .map(|(name, i)| Function {
                name: (*name).to_owned(),
                svma: base + 16 * i + 0x1000,
                size_bytes: 16,
                file_offset: base + 16 * i,
            })
            .collect()),
    };
    let libc = [
        "malloc",
        "realloc",
        "reallocarray",
        "posix_memalign",
        "free",
        "mmap",
        "munmap",
        "mremap",
    ];
    detect(&[
        object("/lib/libc.so.6", 0x100, &libc),
        object("/lib/libjemalloc.so", 0x100, &["malloc", "free"]),
    ])
    .unwrap()
}

/// test rdi, rdi; je +0; ret; padding.
fn code(_object: usize, _file_offset: u64, length: usize) -> Option<Vec<u8>> {
    let mut code = vec![0x48, 0x85, 0xff, 0x74, 0x00, 0xc3];
    code.resize(length, 0x90);
    Some(code)
}

fn position(groups: &[Group], program: Program) -> usize {
    groups.iter().position(|g| g.program == program).unwrap()
}

#[test]
fn enter_and_return_of_a_function_stand_at_the_same_place_with_the_same_cookie() {
    let plan = plan(5, &detection(), ALL, code);
    for enter in plan.functions() {
        assert_eq!((enter.offset, enter.step), (3, Step::Emulated));
        assert_eq!(enter.place_file_offset, enter.entry_file_offset + 3);
        assert_eq!(enter.call.process, 5);
        let returns: Vec<_> = plan
            .probes
            .iter()
            .filter(|p| p.role == Role::Return && p.call == enter.call)
            .collect();
        let expected = usize::from(enter.function != "free");
        assert_eq!(returns.len(), expected, "{}", enter.function);
        for probe in returns {
            assert_eq!(probe.place_file_offset, enter.place_file_offset);
        }
    }
}

#[test]
fn every_function_has_its_own_number() {
    let plan = plan(0, &detection(), ALL, code);
    let numbers: Vec<u16> = plan.functions().map(|probe| probe.call.function).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<u16>>());
}

#[test]
fn reallocarray_and_the_realloc_that_it_jumps_to_are_both_planned() {
    let plan = plan(0, &detection(), ALL, code);
    for name in ["realloc", "reallocarray"] {
        let probes = plan.probes.iter().filter(|probe| probe.function == name);
        assert_eq!(probes.count(), 2);
    }
}

#[test]
fn attached_in_this_order_nothing_is_half_seen() {
    let groups = plan(0, &detection(), ALL, code).groups();
    let at = |program| position(&groups, program);
    assert!(at(Program::FreeEnter) < at(Program::AllocateReturn));
    assert!(at(Program::AllocateReturn) < at(Program::AllocateEnter));
    assert!(at(Program::AllocateEnter) < at(Program::MappingReturn));
    assert!(at(Program::MappingReturn) < at(Program::MappingEnter));
    let programs: Vec<_> = groups.iter().map(|group| group.program).collect();
    assert!(
        programs.is_sorted(),
        "all objects of a program, then the next"
    );
}

#[test]
fn detached_in_reverse_order_no_call_stays_pending() {
    let mut groups = plan(0, &detection(), ALL, code).groups();
    groups.reverse();
    let at = |program| position(&groups, program);
    assert!(at(Program::MappingEnter) < at(Program::MappingReturn));
    assert!(at(Program::MappingReturn) < at(Program::AllocateEnter));
    assert!(at(Program::AllocateEnter) < at(Program::AllocateReturn));
    assert!(at(Program::AllocateReturn) < at(Program::FreeEnter));
}

#[test]
fn groups_hold_every_probe_once_by_object() {
    let plan = plan(0, &detection(), ALL, code);
    let groups = plan.groups();
    let points: usize = groups.iter().map(|group| group.points.len()).sum();
    assert_eq!(points, plan.probes.len());
    let frees: Vec<_> = groups
        .iter()
        .filter(|group| group.program == Program::FreeEnter)
        .map(|group| {
            (
                group.object,
                group.points.len(),
                group.points[0].file_offset,
            )
        })
        .collect();
    assert_eq!(frees, [(0, 1, 0x143), (1, 1, 0x113)]);
    for group in &groups {
        for point in &group.points {
            let probe = plan.probes.iter().find(|probe| {
                probe.program() == group.program && probe.call.to_cookie() == point.cookie
            });
            assert_eq!(probe.unwrap().object, group.object);
        }
    }
}

#[test]
fn without_mmap_no_mapping_function_is_probed() {
    let plan = plan(0, &detection(), PlanOptions { mmap: false, ..ALL }, code);
    assert!(
        plan.groups()
            .iter()
            .all(|group| group.program < Program::MappingReturn)
    );
    assert_eq!(plan.functions().count(), 7);
}

#[test]
fn a_function_whose_code_is_not_all_there_is_probed_at_its_entry() {
    let entry = |probe: &Probe| (probe.offset, probe.step);
    let slow = (0, Step::SingleStepped);
    let none = plan(0, &detection(), ALL, |_, _, _| None);
    assert!(none.functions().all(|probe| entry(probe) == slow));
    let short = plan(0, &detection(), ALL, |o, at, _| code(o, at, 8));
    assert!(short.functions().all(|probe| entry(probe) == slow));
    for size_bytes in [0, MAX_CODE_BYTES + 1, u64::MAX] {
        let mut detection = detection();
        for found in &mut detection.functions {
            found.size_bytes = size_bytes;
        }
        let entry_only = plan(0, &detection, ALL, |_, _, length| {
            assert_eq!(length, 15);
            Some([[0x55].as_slice(), &[0x90; 14]].concat())
        });
        let fast = (0, Step::Emulated);
        assert!(entry_only.functions().all(|probe| entry(probe) == fast));
    }
}

#[test]
fn two_symbols_of_one_place_get_one_probe() {
    let mut detection = detection();
    let mut inner = detection.functions[0].clone();
    inner.name = "valloc";
    inner.file_offset += 3;
    inner.size_bytes = 2;
    detection.functions.insert(1, inner);
    let plan = plan(0, &detection, ALL, |o, at, length| {
        if length == 2 {
            Some(vec![0x74, 0])
        } else {
            code(o, at, length)
        }
    });
    assert!(plan.functions().all(|probe| probe.function != "valloc"));
}

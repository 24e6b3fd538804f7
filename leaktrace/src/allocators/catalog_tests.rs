//! The tables say what the C declarations say.

use leaktrace_common::call::{Call, NO_ARGUMENT};

use super::*;

fn call(name: &str) -> Call {
    let entry = entries().iter().find(|entry| entry.name == name);
    match entry.map(|entry| entry.signature) {
        Some(Ok(signature)) => signature.to_call(3, 7),
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn arguments_stand_where_the_c_declarations_have_them() {
    let place = |name| {
        let call = call(name);
        (
            call.pointer_argument,
            call.count_argument,
            call.size_argument,
        )
    };
    let none = NO_ARGUMENT;
    assert_eq!(place("malloc"), (none, none, 0));
    assert_eq!(place("_rjem_calloc"), (none, 0, 1));
    assert_eq!(place("realloc"), (0, none, 1));
    assert_eq!(place("reallocarray"), (0, 1, 2));
    assert_eq!(place("je_posix_memalign"), (0, none, 2));
    assert_eq!(place("aligned_alloc"), (none, none, 1));
    assert_eq!(place("mi_malloc_aligned"), (none, none, 0));
    assert_eq!(place("mi_heap_recalloc"), (1, 2, 3));
    assert_eq!(place("free_aligned_sized"), (0, none, none));
    assert_eq!(place("sdallocx"), (0, none, none));
    assert_eq!(place("tc_newarray_nothrow"), (none, none, 0));
    assert_eq!(place("_ZdlPvmSt11align_val_t"), (0, none, none));
    assert_eq!(place("mmap"), (0, none, 1));
    assert_eq!(place("mremap"), (0, none, 2));
}

#[test]
fn every_argument_that_a_cookie_names_is_kept() {
    for entry in entries() {
        let Ok(signature) = entry.signature else {
            continue;
        };
        let call = signature.to_call(0, 0);
        for argument in [
            call.size_argument,
            call.count_argument,
            call.pointer_argument,
        ] {
            assert!(argument == NO_ARGUMENT || usize::from(argument) < signature.arguments());
        }
    }
}

#[test]
fn a_call_carries_function_and_process() {
    assert_eq!((call("free").function, call("free").process), (3, 7));
}

#[test]
fn no_name_stands_for_two_functions() {
    let mut seen = HashSet::new();
    for entry in entries() {
        assert!(seen.insert(entry.name), "{} twice", entry.name);
    }
}

#[test]
fn a_jemalloc_with_a_prefix_of_its_own_has_all_functions_under_it() {
    let entries = of_jemalloc("corp_");
    assert!(entries.iter().any(|entry| entry.name == "corp_sdallocx"));
    assert!(entries.iter().all(|entry| entry.interface == "corp_"));
    assert!(of_jemalloc("je_").is_empty(), "it is in the table");
}

//! What is detected, skipped and refused.

use super::*;

fn object(path: &str, functions: &[(&str, u64)]) -> ObjectSymbols {
    ObjectSymbols {
        path: path.into(),
        functions: Ok(functions
            .iter()
            .map(|(name, file_offset)| Function {
                name: (*name).to_owned(),
                svma: file_offset + 0x1000,
                size_bytes: 32,
                file_offset: *file_offset,
            })
            .collect()),
    }
}

fn names(detection: &Detection) -> Vec<(usize, &'static str)> {
    let functions = detection.functions.iter();
    functions.map(|found| (found.object, found.name)).collect()
}

#[test]
fn an_address_is_probed_once_under_the_first_name_of_the_catalogue() {
    let libc = object(
        "/lib/libc.so.6",
        &[
            ("mmap64", 0x90),
            ("mmap", 0x90),
            ("munmap", 0xa0),
            ("memalign", 0x30),
            ("aligned_alloc", 0x30),
            ("cfree", 0x20),
            ("free", 0x20),
            ("malloc", 0x10),
        ],
    );
    let detection = detect(&[libc]).unwrap();
    assert_eq!(
        names(&detection),
        [
            (0, "malloc"),
            (0, "aligned_alloc"),
            (0, "free"),
            (0, "mmap"),
            (0, "munmap")
        ]
    );
    assert_eq!(detection.functions[1].aliases, ["memalign"]);
    assert_eq!(detection.functions[2].aliases, ["cfree"]);
    assert_eq!(detection.functions[3].aliases, ["mmap64"]);
    assert_eq!(detection.functions[0].svma, 0x1010);
}

#[test]
fn versions_of_a_symbol_at_different_addresses_are_all_probed() {
    let libc = object(
        "/lib/libc.so.6",
        &[("malloc", 1), ("malloc", 2), ("free", 3)],
    );
    let detection = detect(&[libc]).unwrap();
    assert_eq!(
        names(&detection),
        [(0, "malloc"), (0, "malloc"), (0, "free")]
    );
}

#[test]
fn program_libc_and_preloaded_library_can_all_be_allocators() {
    let pair = [("malloc", 1), ("free", 2)];
    let detection = detect(&[
        object("/usr/bin/redis", &pair),
        object("/lib/libm.so.6", &[]),
        object("/usr/lib/libjemalloc.so.2", &pair),
    ])
    .unwrap();
    assert_eq!(
        names(&detection),
        [(0, "malloc"), (0, "free"), (2, "malloc"), (2, "free")]
    );
    assert!(detection.skipped.is_empty());
}

#[test]
fn the_dynamic_loader_is_skipped_unless_it_is_musl() {
    let pair = [("malloc", 1), ("free", 2)];
    let libc = object("/lib/libc-2.28.so", &pair);
    for loader in ["/lib64/ld-linux-x86-64.so.2", "/lib/x86_64/ld-2.28.so"] {
        let detection = detect(&[object(loader, &pair), libc.clone()]).unwrap();
        assert_eq!(names(&detection), [(1, "malloc"), (1, "free")]);
        assert_eq!(detection.skipped[0].reason, SkipReason::DynamicLoader);
    }
    let musl = detect(&[object("/lib/ld-musl-x86_64.so.1", &pair)]).unwrap();
    assert_eq!(names(&musl), [(0, "malloc"), (0, "free")]);
}

#[test]
fn half_an_allocator_is_skipped_with_the_reason() {
    let libc = object("/lib/libc.so.6", &[("malloc", 1), ("free", 2)]);
    let detection = detect(&[object("/opt/hook.so", &[("malloc", 1)]), libc]).unwrap();
    assert_eq!(names(&detection), [(1, "malloc"), (1, "free")]);
    assert_eq!(
        detection.skipped[0].reason.to_string(),
        "defines malloc but not both malloc and free"
    );
}

#[test]
fn an_unreadable_object_does_not_hide_the_others() {
    let broken = ObjectSymbols {
        path: "/opt/broken.so".into(),
        functions: Err("bad section header".to_owned()),
    };
    let libc = object("/lib/libc.so.6", &[("malloc", 1), ("free", 2)]);
    let detection = detect(&[broken.clone(), libc]).unwrap();
    assert_eq!(detection.functions.len(), 2);
    assert_eq!(detection.skipped[0].path, broken.path);
    let error = detect(&[broken]).unwrap_err();
    assert!(error.message(9).contains("/opt/broken.so"));
}

#[test]
fn no_allocator_is_one_clear_line() {
    let error = detect(&[object("/usr/bin/static-go", &[])]).unwrap_err();
    let line = error.message(812);
    assert!(line.starts_with("no allocation functions found in process 812: it maps no libc"));
    assert!(!line.contains('\n') && line.contains("; trace a program"));
    let error = detect(&[object("/lib/libc.so.6", &[("mmap", 1), ("munmap", 2)])]).unwrap_err();
    assert!(
        error.has_libc
            && error
                .to_string()
                .contains("its C library exports no malloc")
    );
}

#[test]
fn a_program_that_cannot_free_needs_no_free() {
    let program = object("/srv/static", &[("malloc", 1), ("calloc", 2)]);
    let detection = detect(std::slice::from_ref(&program)).unwrap();
    assert_eq!(names(&detection), [(0, "malloc"), (0, "calloc")]);
    let error = detect(&[object("/srv/static", &[("free", 1)])]).unwrap_err();
    assert!(
        error
            .message(9)
            .contains("/srv/static defines free but not")
    );
}

#[test]
fn allocators_with_names_of_their_own_are_found_beside_the_c_library() {
    let rust = object(
        "/srv/api",
        &[("_rjem_malloc", 1), ("_rjem_sdallocx", 2), ("mi_free", 3)],
    );
    let libc = object("/lib/libc.so.6", &[("malloc", 1), ("free", 2)]);
    let detection = detect(&[rust, libc]).unwrap();
    assert_eq!(
        names(&detection),
        [
            (0, "_rjem_malloc"),
            (0, "_rjem_sdallocx"),
            (1, "malloc"),
            (1, "free")
        ]
    );
    assert_eq!(detection.skipped.len(), 1, "mi_free alone is no allocator");
}

#[test]
fn a_jemalloc_is_found_by_its_mallctl_whatever_its_prefix() {
    let functions = [("corp_malloc", 1), ("corp_free", 2), ("corp_mallctl", 3)];
    let detection = detect(&[object("/srv/api", &functions)]).unwrap();
    assert_eq!(names(&detection), [(0, "corp_malloc"), (0, "corp_free")]);
}

#[test]
fn operators_count_only_where_the_object_has_a_heap_of_its_own() {
    let libstdcxx = object("/lib/libstdc++.so.6", &[("_Znwm", 1), ("_ZdlPv", 2)]);
    let tcmalloc = object(
        "/lib/libtcmalloc.so.4",
        &[
            ("malloc", 1),
            ("free", 2),
            ("tc_malloc", 1),
            ("tc_free", 2),
            ("_Znwm", 3),
        ],
    );
    let detection = detect(&[libstdcxx, tcmalloc]).unwrap();
    assert_eq!(
        names(&detection),
        [(1, "malloc"), (1, "free"), (1, "_Znwm")]
    );
    assert_eq!(detection.functions[1].aliases, ["tc_free"]);
    assert!(detection.skipped.is_empty());
}

#[test]
fn functions_that_cannot_be_followed_are_listed_with_the_reason() {
    let mimalloc = [("mi_malloc", 1), ("mi_free", 2), ("mi_strdup", 3)];
    let detection = detect(&[object("/lib/libmimalloc.so", &mimalloc)]).unwrap();
    assert_eq!(names(&detection), [(0, "mi_malloc"), (0, "mi_free")]);
    assert_eq!(detection.unfollowed[0].name, "mi_strdup");
}

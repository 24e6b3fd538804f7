//! Functions of real objects, and of damaged ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use std::io::Write;
use std::os::unix::fs::FileExt;

fn own_executable() -> Vec<u8> {
    std::fs::read("/proc/self/exe").unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[test]
fn main_is_found_with_its_place_in_the_file() {
    let file = File::open("/proc/self/exe").unwrap();
    let found = functions(&file, None, &["main"]).unwrap();
    assert_eq!(found.len(), 1);
    let segments = segments(&file).unwrap();
    assert_eq!(segments.svma(found[0].file_offset), Some(found[0].svma));
}

fn libc_bytes() -> Vec<u8> {
    let maps = std::fs::read("/proc/self/maps").unwrap();
    let mappings = crate::target::Mappings::parse(&maps);
    let malloc = mappings.containing(libc::malloc as *const () as u64);
    std::fs::read(&malloc.unwrap().path).unwrap()
}

#[test]
fn a_function_chosen_at_load_time_is_none_of_the_functions() {
    let file = file_of(&libc_bytes());
    // glibc chooses memchr by what the processor can do.
    let found = functions(&file, None, &["malloc", "memchr"]).unwrap();
    let names: Vec<&str> = found.iter().map(|found| &*found.name).collect();
    assert_eq!(names, ["malloc"]);
}

#[test]
fn a_symbol_table_of_gigabytes_in_a_sparse_file_is_refused() {
    let bytes = libc_bytes();
    let file = file_of(&bytes);
    file.set_len(3 << 30).unwrap();
    // e_shoff, and in each section header of 64 bytes sh_type at 4 and sh_size at 32.
    let headers = u64::from_le_bytes(bytes[40..48].try_into().unwrap()) as usize;
    for header in (headers..bytes.len() - 63).step_by(64) {
        if bytes[header + 4] == 11 {
            let size: u64 = 24 << 26;
            file.write_at(&size.to_le_bytes(), header as u64 + 32)
                .unwrap();
        }
    }
    let reason = functions(&file, None, &["malloc"]).unwrap_err();
    assert!(reason.contains("more than leaktrace reads"), "{reason}");
}

/// An object without segments but one of code, whose .dynsym has this many functions of one name.
fn object_of_one_name(count: usize) -> Vec<u8> {
    let (text, strings) = (0x1000u64, b"\0malloc\0");
    let symbols_at = 64 + 56;
    let symbols_bytes = (count as u64 + 1) * 24;
    let strings_at = symbols_at + symbols_bytes;
    let headers_at = strings_at + strings.len() as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    let mut words = |list: &[(u64, usize)]| {
        for (word, length) in list {
            bytes.extend_from_slice(&word.to_le_bytes()[..*length]);
        }
    };
    words(&[(3, 2), (62, 2), (1, 4), (0, 8), (64, 8), (headers_at, 8)]);
    words(&[(0, 4), (64, 2), (56, 2), (1, 2), (64, 2), (3, 2), (2, 2)]);
    words(&[(1, 4), (5, 4), (0, 8), (text, 8), (text, 8)]);
    words(&[(1 << 20, 8), (1 << 20, 8), (4096, 8)]);
    words(&[(0, 8), (0, 8), (0, 8)]);
    for number in 0..count as u64 {
        words(&[
            (1, 4),
            (0x12, 1),
            (0, 1),
            (1, 2),
            (text + number, 8),
            (1, 8),
        ]);
    }
    words(&[(u64::from_le_bytes(*b"\0malloc\0"), 8)]);
    words(&[
        (0, 64 - 56),
        (0, 8),
        (0, 8),
        (0, 8),
        (0, 8),
        (0, 8),
        (0, 8),
        (0, 8),
    ]);
    words(&[(0, 4), (11, 4), (0, 8), (0, 8), (symbols_at, 8)]);
    words(&[(symbols_bytes, 8), (2, 4), (1, 4), (8, 8), (24, 8)]);
    words(&[(0, 4), (3, 4), (0, 8), (0, 8), (strings_at, 8), (8, 8)]);
    words(&[(0, 8), (1, 8), (0, 8)]);
    bytes
}

#[test]
fn of_hundreds_of_thousands_of_one_name_the_first_ones_are_taken() {
    let few = functions(&file_of(&object_of_one_name(3)), None, &["malloc"]).unwrap();
    assert_eq!(few.len(), 3);
    let file = file_of(&object_of_one_name(300_000));
    let many = functions(&file, None, &["malloc"]).unwrap();
    assert_eq!(many.len(), MAX_FUNCTIONS);
    assert_eq!(many[..3], few);
    let last = many.last().map(|function| function.svma);
    assert_eq!(last, Some(few[0].svma + MAX_FUNCTIONS as u64 - 1));
}

#[test]
fn what_a_debug_file_adds_ends_at_the_same_number() {
    let (file, debug) = (
        object_of_one_name(MAX_FUNCTIONS - 1),
        object_of_one_name(5000),
    );
    let found = functions(&file_of(&file), Some(&file_of(&debug)), &["malloc"]).unwrap();
    assert_eq!(found.len(), MAX_FUNCTIONS);
}

#[test]
fn damaged_sections_are_errors_and_never_panics() {
    let whole = libc_bytes();
    let headers = u64::from_le_bytes(whole[40..48].try_into().unwrap()) as usize;
    let file = file_of(&whole);
    let mut seed = 7u64;
    for _ in 0..300 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let at = headers as u64 + (seed >> 33) % (whole.len() - headers) as u64;
        file.write_at(&[(seed >> 25) as u8], at).unwrap();
        let _ = functions(&file, None, &["malloc"]);
        let _ = sections(&file);
        let _ = section(&file, ".eh_frame");
    }
}

#[test]
fn broken_objects_are_errors_and_never_panics() {
    let whole = own_executable();
    for length in [
        0,
        1,
        4,
        16,
        63,
        64,
        65,
        1000,
        4096,
        whole.len() / 2,
        whole.len() - 1,
    ] {
        let _ = functions(&file_of(&whole[..length]), None, &["main"]);
    }
    let mut seed = 1u64;
    for _ in 0..300 {
        let mut damaged = whole[..whole.len().min(1 << 20)].to_vec();
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % 256;
            damaged[at] = (seed >> 25) as u8;
        }
        let _ = functions(&file_of(&damaged), None, &["main"]);
    }
}

#[test]
fn other_files_are_refused_with_a_reason() {
    assert!(functions(&file_of(b"#!/bin/sh\n"), None, &["main"]).is_err());
}

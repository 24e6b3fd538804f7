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

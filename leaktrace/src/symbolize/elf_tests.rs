//! Names of addresses in this very program and its libc, and of objects made to do harm.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use object::{Object as _, ObjectSection, ObjectSymbol, SymbolKind};

use super::*;

fn own_mappings() -> Mappings {
    Mappings::parse(&std::fs::read("/proc/self/maps").unwrap())
}

/// A namer that holds the objects of this process.
fn own_naming(mappings: &Mappings) -> ElfNaming {
    let mut naming = ElfNaming::new();
    for mapping in mappings.executable() {
        if let Some(id) = mapping.file {
            let file = File::open(&mapping.path).unwrap();
            naming.hold(Object::of_file(file, &mapping.path, id));
        }
    }
    naming
}

/// The address that this call returns to.
#[unsafe(naked)]
extern "C" fn return_address() -> u64 {
    core::arch::naked_asm!("mov rax, [rsp]", "ret")
}

/// The return address and its line.
#[inline(always)]
fn inlined_caller() -> (u64, u32) {
    let address = return_address();
    (address, line!() - 1)
}

#[inline(never)]
fn outer_caller() -> (u64, u32, u32) {
    let (address, line) = inlined_caller();
    (address, line, line!() - 1)
}

#[test]
fn an_inlined_function_is_a_frame_of_its_own_with_the_lines_of_the_calls() {
    let (address, inner_line, outer_line) = std::hint::black_box(outer_caller as fn() -> _)();
    let mappings = own_mappings();
    let mut naming = own_naming(&mappings);
    let frames = naming.name(&mappings, &[address]).remove(0);
    let [inner, outer] = &frames[..] else {
        panic!("{frames:#?}")
    };
    assert!(inner.inlined && !outer.inlined);
    assert!(inner.function.as_ref().unwrap().ends_with("inlined_caller"));
    assert_eq!(
        (inner.line, outer.line),
        (Some(inner_line), Some(outer_line))
    );
    // Demangled, without the hash.
    let function = outer.function.as_ref().unwrap();
    assert!(function.ends_with("tests::outer_caller"), "{function}");
    for frame in [inner, outer] {
        assert!(frame.file.as_ref().unwrap().ends_with("elf_tests.rs"));
        assert_eq!(frame.address, address);
        assert!(frame.module.as_ref().unwrap().contains("leaktrace"));
    }
    assert_eq!(
        outer.offset,
        Some(address - outer_caller as *const () as u64)
    );
    assert_eq!(inner.offset, None);
    assert_eq!(naming.failures(), 0);
}

#[test]
fn stripped_libc_has_its_exported_names_and_no_others() {
    let mappings = own_mappings();
    let malloc = libc::malloc as *const () as u64;
    let libc = mappings.containing(malloc).unwrap();
    let bytes = std::fs::read(&libc.path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let mut naming = own_naming(&mappings);

    let frames = naming.name(&mappings, &[malloc + 5]).remove(0);
    assert!(frames[0].function.as_ref().unwrap().contains("malloc"));
    assert_eq!(frames[0].offset, Some(5));

    if elf.symbols().next().is_some() {
        eprintln!("skipped: this libc is not stripped");
        return;
    }
    let mut exported: Vec<(u64, u64)> = elf
        .dynamic_symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && !symbol.is_undefined())
        .map(|symbol| (symbol.address(), symbol.address() + symbol.size()))
        .collect();
    exported.sort_unstable();
    let text = elf.section_by_name(".text").unwrap();
    let bias = libc.start - libc.file_offset;
    let (mut covered, mut holes) = (text.address(), 0);
    for (start, end) in exported {
        if start > covered + 64 && start < text.address() + text.size() {
            holes += 1;
            let svma = covered + 32;
            let frames = naming.name(&mappings, &[bias + svma]).remove(0);
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].function, None, "{svma:#x}");
            assert_eq!(frames[0].offset, Some(svma));
            assert!(frames[0].module.is_some());
        }
        covered = covered.max(end);
    }
    assert!(holes > 100, "static functions were looked at: {holes}");
    assert_eq!(naming.failures(), 0, "no name is not a failure");
}

#[test]
fn an_address_outside_all_mappings_keeps_only_its_number() {
    let frames = ElfNaming::new().name(&own_mappings(), &[0x10, 0, u64::MAX]);
    let only = |address| {
        vec![Frame {
            address,
            ..Frame::default()
        }]
    };
    assert_eq!(frames, [only(0x10), only(0), only(u64::MAX)]);
}

#[test]
fn code_gets_its_name_as_soon_as_its_object_is_held() {
    let mappings = own_mappings();
    let address = outer_caller as *const () as u64 + 1;
    let mut naming = ElfNaming::new();
    let before = naming.name(&mappings, &[address]).remove(0);
    assert!(before[0].module.is_some());
    assert_eq!((&before[0].function, before[0].offset), (&None, None));
    naming.objects = own_naming(&mappings).objects;
    let after = naming.name(&mappings, &[address]).remove(0);
    assert!(after.last().unwrap().function.is_some());
}

/// Where [`crafted`] objects are mapped, and the function `victim` in them.
const BASE: u64 = 0x7000_0000_0000;
const VICTIM: u64 = 0x80;
const ID: FileId = FileId {
    device: 1,
    inode: 1,
};

fn u16s(values: &[u16]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn u64s(values: &[u64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// An ELF object with one segment, the symbol `victim`, and one more section.
fn crafted(name: &str, flags: u64, content: &[u8]) -> Vec<u8> {
    let names = [".symtab", ".strtab", ".shstrtab", name];
    let mut section_names = vec![0u8];
    let mut name_at = Vec::new();
    for name in names {
        name_at.push(section_names.len() as u64);
        section_names.extend(name.as_bytes());
        section_names.push(0);
    }
    // st_name 1, STT_FUNC and STB_GLOBAL, in section 1.
    let symbol = [1 | 0x12 << 32 | 1 << 48, VICTIM, 0x40];
    let symbols = [vec![0; 24], u64s(&symbol)].concat();
    // Type, flags, content, and sh_info << 32 | sh_link.
    let sections: [(u64, u64, &[u8], u64); 4] = [
        (2, 0, &symbols, 1 << 32 | 2),
        (3, 0, b"\0victim\0", 0),
        (3, 0, &section_names, 0),
        (1, flags, content, 0),
    ];
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let aligned = |content: &[u8]| content.len().next_multiple_of(8);
    let end: usize = 0x100
        + sections
            .iter()
            .map(|section| aligned(section.2))
            .sum::<usize>();
    bytes.extend(u16s(&[3, 62, 1, 0]));
    bytes.extend(u64s(&[0, 64, end as u64]));
    bytes.extend(u16s(&[0, 0, 64, 56, 1, 64, 5, 3]));
    bytes.extend(u64s(&[1 | 5 << 32, 0, 0, 0, 0x100, 0x100, 0x1000]));
    bytes.resize(0x100, 0x90);
    let mut headers = vec![0u8; 64];
    for (index, (kind, flags, content, link)) in sections.into_iter().enumerate() {
        let (at, length) = (bytes.len() as u64, content.len() as u64);
        let entry = if kind == 2 { 24 } else { 0 };
        headers.extend(u64s(&[
            name_at[index] | kind << 32,
            flags,
            0,
            at,
            length,
            link,
            1,
            entry,
        ]));
        bytes.extend(content);
        bytes.resize(at as usize + aligned(content), 0);
    }
    [bytes, headers].concat()
}

/// Names an address in `victim`. In a thread, so that a namer that hangs fails the test.
fn name_in(bytes: &[u8]) -> (Option<String>, u64) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mappings = Mappings::parse(
        format!(
            "{BASE:x}-{:x} r-xp 00000000 00:01 1 /crafted\n",
            BASE + 0x1000
        )
        .as_bytes(),
    );
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut naming = ElfNaming::new();
        naming.hold(Object::of_file(file, Path::new("/crafted"), ID));
        let mut frames = naming.name(&mappings, &[BASE + VICTIM + 7]).remove(0);
        let _ = sender.send((frames.remove(0).function, naming.failures()));
    });
    let patience = std::time::Duration::from_secs(60);
    receiver.recv_timeout(patience).unwrap()
}

fn victim() -> (Option<String>, u64) {
    (Some("victim".to_owned()), 0)
}

#[test]
fn a_plain_object_is_named() {
    assert_eq!(name_in(&crafted(".comment", 0, b"x")), victim());
}

#[test]
fn a_debug_link_to_a_fifo_does_not_hang() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    let path = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: the path is a string with an end.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let mut link = path.into_bytes_with_nul();
    link.resize(link.len().next_multiple_of(4) + 4, 0);
    assert_eq!(name_in(&crafted(".gnu_debuglink", 0, &link)), victim());
}

#[test]
fn a_section_that_claims_to_inflate_to_a_terabyte_is_left_alone() {
    // ch_type ELFCOMPRESS_ZLIB, ch_size, ch_addralign; SHF_COMPRESSED.
    let header = u64s(&[1, 1 << 40, 1]);
    let object = crafted(".debug_info", 1 << 11, &header);
    assert_eq!(name_in(&object), victim());
}

#[test]
fn broken_debug_information_leaves_the_symbols() {
    let object = crafted(".debug_info", 0, &[0xff; 64]);
    assert_eq!(name_in(&object), victim());
}

#[test]
fn an_object_that_cannot_be_read_is_counted() {
    assert_eq!(name_in(b"#!/bin/sh\n").0, None);
    let object = crafted(".strtab2", 1 << 11, &u64s(&[1, 10, 1]));
    assert_eq!(name_in(&object), (None, 1));
}

#[test]
fn damaged_objects_never_end_the_tracer() {
    let whole = crafted(".debug_info", 0, &[0x11; 64]);
    for length in 0..whole.len() {
        name_in(&whole[..length]);
    }
    let mut seed = 1u64;
    for _ in 0..500 {
        let mut damaged = whole.clone();
        for _ in 0..3 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % damaged.len();
            damaged[at] = (seed >> 25) as u8;
        }
        name_in(&damaged);
    }
}

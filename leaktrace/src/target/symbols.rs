//! Symbols, segments and sections of an ELF file, as far as tracing needs them. Trusts no size
//! that the file states; names no address.

use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;

use leaktrace_common::limits::PAGE_BYTES;
use object::elf;
use object::pod::slice_from_all_bytes;
use object::read::SectionIndex;
use object::read::elf::Sym;

use super::Mapping;
use super::elf::{Elf, Section as Header, pieces};
use super::wanted::Wanted;

/// As many functions of the names that are looked for as no object has: each gets a probe. Of more, the first
/// ones are taken.
pub(super) const MAX_FUNCTIONS: usize = 4096;

type Symbol = elf::Sym64<object::Endianness>;

/// A function that an object defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Name without version.
    pub name: String,
    /// Address stated in the object.
    pub svma: u64,
    /// Length as the symbol table has it; 0 when it does not say.
    pub size_bytes: u64,
    /// Where its first instruction is in the file.
    pub file_offset: u64,
}

/// What an object says about one of its sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// Bytes in the file.
    pub size_bytes: u64,
    /// Bytes when inflated, by its own word; absent when it is not compressed.
    pub inflated_bytes: Option<u64>,
}

/// The loadable segments of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    list: Vec<Segment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    svma: u64,
    file_offset: u64,
    file_bytes: u64,
    executable: bool,
}

impl Segments {
    /// Where in the file the code at this address is.
    pub fn file_offset(&self, svma: u64) -> Option<u64> {
        let segment = self
            .executable()
            .find(|segment| svma >= segment.svma && svma - segment.svma < segment.file_bytes)?;
        segment.file_offset.checked_add(svma - segment.svma)
    }

    /// Whether a function can begin at this address: in code, and not where the header of the file is,
    /// which old linkers map with the code.
    pub fn may_begin_at(&self, svma: u64) -> bool {
        const HEADER_BYTES: u64 = 64;
        let file_offset = self.file_offset(svma);
        file_offset.is_some_and(|file_offset| file_offset >= HEADER_BYTES)
    }

    /// The address of the code at this file offset. Only executable segments count: linkers let
    /// segments share file pages.
    pub fn svma(&self, file_offset: u64) -> Option<u64> {
        let segment = self.executable().find(|segment| {
            file_offset >= segment.file_offset
                && file_offset - segment.file_offset < segment.file_bytes
        })?;
        segment.svma.checked_add(file_offset - segment.file_offset)
    }

    /// Where code is, by the addresses stated in the object.
    pub fn code(&self) -> impl Iterator<Item = Range<u64>> {
        self.executable().map(|segment| {
            let end = segment.svma.saturating_add(segment.file_bytes);
            segment.svma..end
        })
    }

    /// What has to be added to an address stated in the object to get its address in a process
    /// that maps code of the object like this (the load bias); wraps around for objects that are
    /// mapped below their stated addresses.
    pub fn bias(&self, mapping: &Mapping) -> Option<u64> {
        // Mappings begin at whole pages, segments need not.
        let segment = self.executable().find(|segment| {
            let end = segment.file_offset.saturating_add(segment.file_bytes);
            mapping.file_offset >= segment.file_offset & !(PAGE_BYTES - 1)
                && mapping.file_offset < end
        })?;
        let start = mapping.start.wrapping_sub(mapping.file_offset);
        Some(start.wrapping_add(segment.file_offset.wrapping_sub(segment.svma)))
    }

    fn executable(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter().filter(|segment| segment.executable)
    }
}

/// The segments of an ELF file.
pub(super) fn segments(file: &File) -> Result<Segments, String> {
    let pieces = pieces(file);
    segments_of(&Elf::parse(&pieces)?)
}

/// Every section of an ELF file; none when it was stripped of their headers.
pub(super) fn sections(file: &File) -> Result<Vec<Section>, String> {
    let pieces = pieces(file);
    let elf = Elf::parse(&pieces)?;
    let table = elf.sections()?;
    table
        .iter()
        .map(|header| {
            let name = table
                .section_name(elf.endian, header)
                .map_err(|error| error.to_string())?;
            Ok(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                size_bytes: header.sh_size.get(elf.endian),
                inflated_bytes: elf.inflated_bytes(header),
            })
        })
        .collect()
}

/// Address and bytes of a section, if the file has it.
pub(super) fn section(file: &File, name: &str) -> Result<Option<(u64, Vec<u8>)>, String> {
    let pieces = pieces(file);
    let elf = Elf::parse(&pieces)?;
    let table = elf.sections()?;
    let Some((_, header)) = table.section_by_name(elf.endian, name.as_bytes()) else {
        return Ok(None);
    };
    let bytes = elf.copy(file, header)?;
    Ok(Some((header.sh_addr.get(elf.endian), bytes)))
}

/// Defined functions with these names, from .dynsym and then .symtab. A name that is defined at
/// several addresses (symbol versions) is taken at each. A name that begins with `*` stands for all
/// that end with the rest. An IFUNC is none of them: its address is
/// that of the code that chooses a function. What the debug file has is left out when that file
/// is broken. There are no more than [`MAX_FUNCTIONS`].
pub(super) fn functions(
    file: &File,
    debug: Option<&File>,
    names: &[&str],
) -> Result<Vec<Function>, String> {
    let pieces = pieces(file);
    let elf = Elf::parse(&pieces)?;
    let segments = segments_of(&elf)?;
    let wanted = Wanted::new(names);
    let mut found = Vec::new();
    add_functions((file, &elf), &wanted, &segments, &mut found)?;
    if let Some(debug) = debug {
        let pieces = self::pieces(debug);
        // Its own segments say nothing of the mapped file.
        let added = Elf::parse(&pieces)
            .and_then(|elf| add_functions((debug, &elf), &wanted, &segments, &mut found));
        if let Err(reason) = added {
            log::info!("a debug file is left out: {reason}");
        }
    }
    Ok(found)
}

/// Those of the functions that have one of these names.
pub(super) fn with_names(functions: &[Function], names: &[&str]) -> Vec<Function> {
    let wanted = Wanted::new(names);
    let is_wanted = |function: &&Function| wanted.contains(function.name.as_bytes());
    functions.iter().filter(is_wanted).cloned().collect()
}

fn add_functions(
    (file, elf): (&File, &Elf<'_, '_>),
    wanted: &Wanted<'_>,
    segments: &Segments,
    found: &mut Vec<Function>,
) -> Result<(), String> {
    let sections = elf.sections()?;
    let mut known: HashSet<(u64, String)> = found
        .iter()
        .map(|function| (function.svma, function.name.clone()))
        .collect();
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let of_kind = |header: &&Header| header.sh_type.get(elf.endian) == kind;
        let Some(table) = sections.iter().find(of_kind) else {
            continue;
        };
        let link = SectionIndex(table.sh_link.get(elf.endian) as usize);
        let strings = sections.section(link).map_err(|error| error.to_string())?;
        for function in functions_of((file, elf), (table, strings), wanted, segments)? {
            if found.len() == MAX_FUNCTIONS {
                return Ok(());
            }
            if known.insert((function.svma, function.name.clone())) {
                found.push(function);
            }
        }
    }
    Ok(())
}

/// Address of the data that .dynsym has by this name, if it has.
pub(super) fn data(file: &File, wanted: &str) -> Result<Option<u64>, String> {
    let pieces = pieces(file);
    let elf = Elf::parse(&pieces)?;
    let sections = elf.sections()?;
    let of_kind = |header: &&Header| header.sh_type.get(elf.endian) == elf::SHT_DYNSYM;
    let Some(table) = sections.iter().find(of_kind) else {
        return Ok(None);
    };
    let link = SectionIndex(table.sh_link.get(elf.endian) as usize);
    let strings = elf.bytes(sections.section(link).map_err(|error| error.to_string())?)?;
    let symbols: &[Symbol] = slice_from_all_bytes(elf.bytes(table)?)
        .map_err(|()| "the size of its symbol table is not a multiple of a symbol".to_owned())?;
    let wanted = Wanted::new(&[wanted]);
    Ok(symbols
        .iter()
        .filter(|symbol| symbol.st_type() == elf::STT_OBJECT && !symbol.is_undefined(elf.endian))
        .find(|symbol| wanted.at(strings, symbol.st_name.get(elf.endian)).is_some())
        .map(|symbol| symbol.st_value.get(elf.endian)))
}

/// The functions of one symbol table.
fn functions_of(
    (file, elf): (&File, &Elf<'_, '_>),
    (table, strings): (&Header, &Header),
    wanted: &Wanted<'_>,
    segments: &Segments,
) -> Result<Vec<Function>, String> {
    let endian = elf.endian;
    // The names go by once: looking each one up costs a cache miss, and programs have 500,000.
    let places = elf.places_of(file, strings, wanted)?;
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let symbols: &[Symbol] = slice_from_all_bytes(elf.bytes(table)?)
        .map_err(|()| "the size of its symbol table is not a multiple of a symbol".to_owned())?;
    Ok(symbols
        .iter()
        .filter(|symbol| symbol.st_type() == elf::STT_FUNC && !symbol.is_undefined(endian))
        .filter_map(|symbol| {
            let name = places.get(&symbol.st_name.get(endian))?;
            let svma = symbol.st_value.get(endian);
            Some(Function {
                name: name.clone(),
                svma,
                size_bytes: symbol.st_size.get(endian),
                file_offset: segments.file_offset(svma)?,
            })
        })
        .collect())
}

pub(super) fn segments_of(elf: &Elf<'_, '_>) -> Result<Segments, String> {
    let endian = elf.endian;
    let list = elf
        .segments()?
        .iter()
        .filter(|header| header.p_type.get(endian) == elf::PT_LOAD)
        .map(|header| Segment {
            svma: header.p_vaddr.get(endian),
            file_offset: header.p_offset.get(endian),
            file_bytes: header.p_filesz.get(endian),
            executable: header.p_flags.get(endian).contains(elf::PF_X),
        })
        .collect();
    Ok(Segments { list })
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;

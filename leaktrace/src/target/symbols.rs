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

/// No function that is looked for has a name as long as this.
const MAX_NAME_BYTES: usize = 256;

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
    let bytes = elf.bytes(header)?;
    Ok(Some((header.sh_addr.get(elf.endian), bytes.to_vec())))
}

/// Defined functions with these names, from .dynsym and then .symtab. A name that is defined at
/// several addresses (symbol versions) is taken at each. A name that begins with `*` stands for all
/// that end with the rest. An IFUNC is none of them: its address is
/// that of the code that chooses a function. What the debug file has is left out when that file
/// is broken.
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
    add_functions(&elf, &wanted, &segments, &mut found)?;
    if let Some(debug) = debug {
        let pieces = self::pieces(debug);
        // Its own segments say nothing of the mapped file.
        let added =
            Elf::parse(&pieces).and_then(|elf| add_functions(&elf, &wanted, &segments, &mut found));
        if let Err(reason) = added {
            log::info!("a debug file is left out: {reason}");
        }
    }
    Ok(found)
}

fn add_functions(
    elf: &Elf<'_, '_>,
    wanted: &Wanted<'_>,
    segments: &Segments,
    found: &mut Vec<Function>,
) -> Result<(), String> {
    let sections = elf.sections()?;
    for kind in [elf::SHT_DYNSYM, elf::SHT_SYMTAB] {
        let of_kind = |header: &&Header| header.sh_type.get(elf.endian) == kind;
        let Some(table) = sections.iter().find(of_kind) else {
            continue;
        };
        let link = SectionIndex(table.sh_link.get(elf.endian) as usize);
        let strings = sections.section(link).map_err(|error| error.to_string())?;
        for function in functions_of(elf, table, strings, wanted, segments)? {
            let known =
                |known: &Function| known.svma == function.svma && known.name == function.name;
            if !found.iter().any(known) {
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
        .find(|symbol| name(strings, symbol.st_name.get(elf.endian), &wanted).is_some())
        .map(|symbol| symbol.st_value.get(elf.endian)))
}

/// Names that are looked for.
struct Wanted<'a> {
    names: HashSet<&'a [u8]>,
    endings: Vec<&'a [u8]>,
}

impl<'a> Wanted<'a> {
    fn new(names: &[&'a str]) -> Self {
        let endings = names.iter().filter_map(|name| name.strip_prefix('*'));
        Self {
            endings: endings.map(str::as_bytes).collect(),
            names: names.iter().map(|name| name.as_bytes()).collect(),
        }
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.names.contains(name) || self.endings.iter().any(|ending| name.ends_with(ending))
    }
}

/// The functions of one symbol table.
fn functions_of(
    elf: &Elf<'_, '_>,
    table: &Header,
    strings: &Header,
    wanted: &Wanted<'_>,
    segments: &Segments,
) -> Result<Vec<Function>, String> {
    let endian = elf.endian;
    // Both whole: a read for each name takes most of a second in programs with 100,000 symbols.
    let strings = elf.bytes(strings)?;
    let symbols: &[Symbol] = slice_from_all_bytes(elf.bytes(table)?)
        .map_err(|()| "the size of its symbol table is not a multiple of a symbol".to_owned())?;
    Ok(symbols
        .iter()
        .filter(|symbol| symbol.st_type() == elf::STT_FUNC && !symbol.is_undefined(endian))
        .filter_map(|symbol| {
            let name = name(strings, symbol.st_name.get(endian), wanted)?;
            let svma = symbol.st_value.get(endian);
            Some(Function {
                name: String::from_utf8_lossy(name).into_owned(),
                svma,
                size_bytes: symbol.st_size.get(endian),
                file_offset: segments.file_offset(svma)?,
            })
        })
        .collect())
}

/// The name at this place in a string table, without the version that .symtab writes into it, if
/// it is a wanted one.
fn name<'data>(strings: &'data [u8], at: u32, wanted: &Wanted<'_>) -> Option<&'data [u8]> {
    let rest = strings.get(at as usize..)?;
    // A table of strings without an end would make the search quadratic.
    let rest = &rest[..rest.len().min(MAX_NAME_BYTES)];
    let end = rest.iter().position(|byte| matches!(byte, 0 | b'@'))?;
    Some(&rest[..end]).filter(|name| wanted.contains(name))
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

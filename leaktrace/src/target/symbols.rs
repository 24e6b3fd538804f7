//! Symbols and segments of an ELF file, read piece by piece: never mapped, because its owner could
//! truncate it under us. Trusts no size that the file states.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use object::elf;
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object as _, ObjectSection, ObjectSymbol, ReadCache, SymbolKind};

/// Symbol tables larger than this are not searched; the largest in the field have 2 million.
const MAX_SYMBOLS: usize = 8_000_000;

/// Sections larger than this are not read; .eh_frame of the largest programs has 60 MB.
const MAX_SECTION_BYTES: u64 = 512 << 20;

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

    fn executable(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter().filter(|segment| segment.executable)
    }
}

/// The segments of an ELF file.
pub(super) fn segments(file: &File) -> Result<Segments, String> {
    let cache = ReadCache::new(At { file, position: 0 });
    let elf = parse(&cache)?;
    Ok(segments_of(&elf))
}

/// Address and bytes of a section, if the file has it.
pub(super) fn section(file: &File, name: &str) -> Result<Option<(u64, Vec<u8>)>, String> {
    let cache = ReadCache::new(At { file, position: 0 });
    let elf = parse(&cache)?;
    let Some(section) = elf.section_by_name(name) else {
        return Ok(None);
    };
    if section.size() > MAX_SECTION_BYTES {
        return Err(format!(
            "its section {name} has {} bytes, more than leaktrace reads",
            section.size()
        ));
    }
    let bytes = section.data().map_err(|error| error.to_string())?;
    Ok(Some((section.address(), bytes.to_vec())))
}

/// Defined functions with these names. A name that is defined at several addresses (symbol
/// versions) is taken at each.
pub(super) fn functions(file: &File, names: &[&str]) -> Result<Vec<Function>, String> {
    let cache = ReadCache::new(At { file, position: 0 });
    let elf = parse(&cache)?;
    let segments = segments_of(&elf);
    let mut found: Vec<Function> = Vec::new();
    let symbols = elf.dynamic_symbols().take(MAX_SYMBOLS);
    for symbol in symbols.chain(elf.symbols().take(MAX_SYMBOLS)) {
        if !symbol.is_definition() || symbol.kind() != SymbolKind::Text {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        // .symtab writes versions into the name.
        let name = name.split('@').next().unwrap_or(name);
        if !names.contains(&name) {
            continue;
        }
        let Some(file_offset) = segments.file_offset(symbol.address()) else {
            continue;
        };
        let function = Function {
            name: name.to_owned(),
            svma: symbol.address(),
            size_bytes: symbol.size(),
            file_offset,
        };
        if !found
            .iter()
            .any(|known| known.name == name && known.svma == function.svma)
        {
            found.push(function);
        }
    }
    Ok(found)
}

type Elf<'data, 'file> = ElfFile64<'data, Endianness, &'data ReadCache<At<'file>>>;

fn parse<'data, 'file>(cache: &'data ReadCache<At<'file>>) -> Result<Elf<'data, 'file>, String> {
    let elf: Elf<'data, 'file> = ElfFile64::parse(cache).map_err(|error| error.to_string())?;
    if elf.architecture() != object::Architecture::X86_64 {
        return Err("it is not for x86-64".to_owned());
    }
    Ok(elf)
}

fn segments_of(elf: &Elf<'_, '_>) -> Segments {
    let endian = elf.endian();
    let list = elf
        .elf_program_headers()
        .iter()
        .filter(|header| header.p_type(endian) == elf::PT_LOAD)
        .map(|header| Segment {
            svma: header.p_vaddr(endian),
            file_offset: header.p_offset(endian),
            file_bytes: header.p_filesz(endian),
            executable: header.p_flags(endian).contains(elf::PF_X),
        })
        .collect();
    Segments { list }
}

/// A position in a shared file: the file's own position stays untouched.
#[derive(Debug)]
struct At<'file> {
    file: &'file File,
    position: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let end = self.file.metadata()?.len();
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => end.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::io::Write;

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
        let found = functions(&file, &["main"]).unwrap();
        assert_eq!(found.len(), 1);
        let segments = segments(&file).unwrap();
        assert_eq!(segments.svma(found[0].file_offset), Some(found[0].svma));
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
            let _ = functions(&file_of(&whole[..length]), &["main"]);
        }
        let mut seed = 1u64;
        for _ in 0..300 {
            let mut damaged = whole[..whole.len().min(1 << 20)].to_vec();
            for _ in 0..4 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 33) as usize % 256;
                damaged[at] = (seed >> 25) as u8;
            }
            let _ = functions(&file_of(&damaged), &["main"]);
        }
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        assert!(functions(&file_of(b"#!/bin/sh\n"), &["main"]).is_err());
    }
}

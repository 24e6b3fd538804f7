//! Where the functions of an object begin and end, from .eh_frame, and where the indirect jumps that
//! a linker makes (PLT, GOT) lead, from its relocations. Trusts no size that the file states.

use std::collections::HashMap;
use std::fs::File;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use leaktrace_common::arch;
use object::elf;
use object::pod::slice_from_all_bytes;
use object::read::SectionIndex;
use object::read::elf::Sym;

use super::Segments;
use super::elf::{Elf, Section, pieces};
use super::symbols::segments_of;

/// No object has as many.
const MAX_RELOCATIONS: usize = 4 << 20;

/// Where an indirect jump through a place leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// To this address of the same object, as long as no other object defines the function too.
    Inside {
        /// Address stated in the object.
        svma: u64,
        /// Name of the function, if the linker left it one.
        name: Option<String>,
    },
    /// To a function of another object.
    Outside(String),
}

/// Where the functions of an object are, and where its jumps lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// The loadable segments.
    pub segments: Segments,
    /// First address (svma) of every function, or of a part of one that was split off, and the
    /// address behind it; in order.
    pub functions: Vec<(u64, u64)>,
    /// By address (svma) of the place that is jumped through.
    pub doors: HashMap<u64, Door>,
}

impl Links {
    /// The address behind the function that has this one.
    pub fn end_of_function(&self, svma: u64) -> Option<u64> {
        let behind = self.functions.partition_point(|(start, _)| *start <= svma);
        let (_, end) = self.functions.get(behind.checked_sub(1)?)?;
        (svma < *end).then_some(*end)
    }
}

/// The links of an ELF file. Relocations without a function behind them are left out.
pub(super) fn links(file: &File) -> Result<Links, String> {
    let pieces = pieces(file);
    let elf = Elf::parse(&pieces)?;
    let segments = segments_of(&elf)?;
    let sections = elf.sections()?;
    let mut doors = HashMap::new();
    for table in sections
        .iter()
        .filter(|header| header.sh_type.get(elf.endian) == elf::SHT_RELA)
    {
        let link = SectionIndex(table.sh_link.get(elf.endian) as usize);
        // A static program's relocations have no symbols.
        let symbols = sections.section(link).ok();
        let strings = symbols.and_then(|symbols| {
            let link = SectionIndex(symbols.sh_link.get(elf.endian) as usize);
            sections.section(link).ok()
        });
        add_doors(&elf, table, symbols, strings, &segments, &mut doors)?;
    }
    let functions = match sections.section_by_name(elf.endian, b".eh_frame") {
        Some((_, header)) => functions(header.sh_addr.get(elf.endian), elf.bytes(header)?),
        None => Vec::new(),
    };
    Ok(Links {
        segments,
        functions,
        doors,
    })
}

fn functions(svma: u64, section: &[u8]) -> Vec<(u64, u64)> {
    let frames = EhFrame::new(section, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(svma);
    let mut entries = frames.entries(&bases);
    let mut functions = Vec::new();
    // A broken section ends the search; what was found before it is right.
    while let Ok(Some(entry)) = entries.next() {
        if let CieOrFde::Fde(partial) = entry
            && let Ok(fde) = partial.parse(EhFrame::cie_from_offset)
        {
            let start = fde.initial_address();
            functions.push((start, start.saturating_add(fde.len())));
        }
    }
    functions.sort_unstable();
    functions
}

fn add_doors(
    elf: &Elf<'_, '_>,
    table: &Section,
    symbols: Option<&Section>,
    strings: Option<&Section>,
    segments: &Segments,
    doors: &mut HashMap<u64, Door>,
) -> Result<(), String> {
    let endian = elf.endian;
    let relocations: &[elf::Rela64<object::Endianness>] =
        slice_from_all_bytes(elf.bytes(table)?)
            .map_err(|()| "the size of its relocations is not a multiple of one".to_owned())?;
    let symbols: &[elf::Sym64<object::Endianness>] = match symbols {
        Some(symbols) if symbols.sh_type.get(endian) == elf::SHT_DYNSYM => {
            slice_from_all_bytes(elf.bytes(symbols)?).unwrap_or_default()
        }
        _ => &[],
    };
    let strings = match strings {
        Some(strings) => elf.bytes(strings)?,
        None => &[],
    };
    for relocation in relocations.iter().take(MAX_RELOCATIONS) {
        let place = relocation.r_offset.get(endian);
        let info = relocation.r_info.get(endian);
        let door = match info as u32 {
            arch::RELATIVE => {
                let svma = relocation.r_addend.get(endian).cast_unsigned();
                // Most of them lead to data.
                segments
                    .file_offset(svma)
                    .map(|_| Door::Inside { svma, name: None })
            }
            arch::GLOB_DAT | arch::JUMP_SLOT => symbols
                .get((info >> 32) as usize)
                .map(|symbol| to_symbol(symbol, endian, strings)),
            _ => None,
        };
        if let Some(door) = door {
            doors.insert(place, door);
        }
    }
    Ok(())
}

fn to_symbol(
    symbol: &elf::Sym64<object::Endianness>,
    endian: object::Endianness,
    strings: &[u8],
) -> Door {
    let rest = strings
        .get(symbol.st_name.get(endian) as usize..)
        .unwrap_or_default();
    let end = rest.iter().take(256).position(|byte| *byte == 0);
    let name = String::from_utf8_lossy(&rest[..end.unwrap_or(0)]).into_owned();
    if symbol.is_undefined(endian) {
        Door::Outside(name)
    } else {
        Door::Inside {
            svma: symbol.st_value.get(endian),
            name: Some(name),
        }
    }
}

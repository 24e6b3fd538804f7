//! Headers and sections of an ELF file, read piece by piece: never mapped, because its owner could
//! truncate it under us. Trusts no size that the file states: sparse files make them free.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use leaktrace_common::arch;
use object::elf::{FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{FileHeader, SectionHeader, SectionTable};
use object::{Endianness, ReadCache};

use super::wanted::{Places, Wanted};

/// Mapped objects have a few dozen sections.
const MAX_SECTIONS: u32 = 65_536;

/// Above this the count stands elsewhere in the file, which only core dumps make use of.
const MAX_SEGMENTS: u32 = 65_535;

/// Sections larger than this are not read. The largest programs have 60 MB of .eh_frame and
/// 400 MB of symbol names.
const MAX_SECTION_BYTES: u64 = 512 << 20;

/// The pieces of a file that were read.
pub(super) type Pieces<'file> = ReadCache<At<'file>>;

/// A section's header.
pub(super) type Section = SectionHeader64<Endianness>;

type Sections<'data, 'file> = SectionTable<'data, FileHeader64<Endianness>, &'data Pieces<'file>>;

/// The header of an ELF file for this architecture.
pub(super) struct Elf<'data, 'file> {
    header: &'data FileHeader64<Endianness>,
    pieces: &'data Pieces<'file>,
    pub(super) endian: Endianness,
}

/// A place for the pieces of this file, none of them read yet.
pub(super) fn pieces(file: &File) -> Pieces<'_> {
    ReadCache::new(At { file, position: 0 })
}

impl<'data, 'file> Elf<'data, 'file> {
    /// Reads the file's header. All errors here are the reason why the file cannot be read.
    pub(super) fn parse(pieces: &'data Pieces<'file>) -> Result<Self, String> {
        let header = FileHeader64::<Endianness>::parse(pieces).map_err(text)?;
        let endian = header.endian().map_err(text)?;
        if header.e_machine.get(endian).0 != arch::ELF_MACHINE {
            return Err(format!("it is not for {}", arch::NAME));
        }
        Ok(Self {
            header,
            pieces,
            endian,
        })
    }

    /// The headers of its segments.
    pub(super) fn segments(&self) -> Result<&'data [ProgramHeader64<Endianness>], String> {
        let count = self.header.phnum(self.endian, self.pieces).map_err(text)?;
        if count > MAX_SEGMENTS {
            return Err(format!("it states {count} segments"));
        }
        self.header
            .program_headers(self.endian, self.pieces)
            .map_err(text)
    }

    /// The headers of its sections, with their names.
    pub(super) fn sections(&self) -> Result<Sections<'data, 'file>, String> {
        let count = self.header.shnum(self.endian, self.pieces).map_err(text)?;
        if count > MAX_SECTIONS {
            return Err(format!("it states {count} sections"));
        }
        self.header.sections(self.endian, self.pieces).map_err(text)
    }

    /// The bytes of a section, as they are in the file.
    pub(super) fn bytes(&self, section: &Section) -> Result<&'data [u8], String> {
        check_size(section.sh_size.get(self.endian))?;
        section.data(self.endian, self.pieces).map_err(text)
    }

    /// The bytes of a section of the file, to keep.
    pub(super) fn copy(&self, file: &File, section: &Section) -> Result<Vec<u8>, String> {
        let Some((offset, size_bytes)) = section.file_range(self.endian) else {
            return Ok(Vec::new());
        };
        check_size(size_bytes)?;
        let in_file = file.metadata().map_err(|error| error.to_string())?.len();
        if offset
            .checked_add(size_bytes)
            .is_none_or(|end| end > in_file)
        {
            return Err("one of its sections is longer than the file".to_owned());
        }
        let mut bytes = vec![0; size_bytes as usize];
        file.read_exact_at(&mut bytes, offset)
            .map_err(|error| error.to_string())?;
        Ok(bytes)
    }

    /// Where in this section of the file, a table of strings, the wanted names stand.
    pub(super) fn places_of(
        &self,
        file: &File,
        strings: &Section,
        wanted: &Wanted<'_>,
    ) -> Result<Places, String> {
        let Some((offset, size_bytes)) = strings.file_range(self.endian) else {
            return Ok(Places::default());
        };
        check_size(size_bytes)?;
        wanted.places(size_bytes, |piece, place| {
            let place = offset
                .checked_add(place)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            file.read_exact_at(piece, place)
        })
    }

    /// Bytes that a compressed section states it has when inflated; `None` when it is not
    /// compressed. `u64::MAX` when it is, but does not say.
    pub(super) fn inflated_bytes(&self, section: &Section) -> Option<u64> {
        match section.compression(self.endian, self.pieces) {
            Ok(compression) => compression.map(|(header, _, _)| header.ch_size.get(self.endian)),
            Err(_) => Some(u64::MAX),
        }
    }
}

fn check_size(size_bytes: u64) -> Result<(), String> {
    match size_bytes > MAX_SECTION_BYTES {
        true => Err(format!(
            "one of its sections has {size_bytes} bytes, more than leaktrace reads"
        )),
        false => Ok(()),
    }
}

fn text(error: object::Error) -> String {
    error.to_string()
}

/// A position in a shared file: the file's own position stays untouched.
#[derive(Debug)]
pub(super) struct At<'file> {
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

//! Names from the symbol tables and the debug information of mapped files, through blazesym. The
//! files are held open, so that a process that has died is still named.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::{Frame, Naming};
use crate::target::{FileId, Mapping, Mappings, Object, Segments};

/// Objects larger than this are not given to the symboliser: their tables would not fit.
const MAX_OBJECT_BYTES: u64 = 2 << 30;

/// Names frames with what the mapped files themselves say.
pub struct ElfNaming {
    symbolizer: Symbolizer,
    objects: HashMap<FileId, (Object, Segments)>,
    /// What an address in a file is called: each is asked for once a session.
    known: HashMap<(FileId, u64), Vec<Name>>,
    failures: u64,
}

/// A frame without what depends on where the object is mapped.
#[derive(Clone, Debug, Default)]
struct Name {
    function: Option<String>,
    offset: Option<u64>,
    file: Option<String>,
    line: Option<u32>,
    inlined: bool,
}

impl ElfNaming {
    /// A namer that knows no object yet. No debug directories of this machine are searched: the
    /// target may have been built anywhere.
    pub fn new() -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_auto_reload(false)
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(true)
            .set_debug_dirs(Some(std::iter::empty::<&str>()))
            .build();
        Self {
            symbolizer,
            objects: HashMap::new(),
            known: HashMap::new(),
            failures: 0,
        }
    }

    /// Keeps an object for naming.
    pub fn hold(&mut self, object: Object) {
        self.objects.entry(object.file_id()).or_insert_with(|| {
            // Without segments nothing in it gets a name, which the frames themselves show.
            let segments = object.segments().unwrap_or_default();
            (object, segments)
        });
    }

    /// Whether the object with this identity is held.
    pub fn holds(&self, id: FileId) -> bool {
        self.objects.contains_key(&id)
    }

    /// Addresses whose object could not be read by the symboliser.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    fn names_in(&mut self, id: FileId, file_offset: u64) -> Vec<Name> {
        if let Some(names) = self.known.get(&(id, file_offset)) {
            return names.clone();
        }
        let names = self.look_up(id, file_offset);
        self.known.insert((id, file_offset), names.clone());
        names
    }

    fn look_up(&mut self, id: FileId, file_offset: u64) -> Vec<Name> {
        let Some((object, segments)) = self.objects.get(&id) else {
            return vec![Name {
                offset: Some(file_offset),
                ..Name::default()
            }];
        };
        let svma = segments.svma(file_offset);
        let unnamed = vec![Name {
            offset: svma.or(Some(file_offset)),
            ..Name::default()
        }];
        let Some(svma) = svma.filter(|_| object.size_bytes() <= MAX_OBJECT_BYTES) else {
            return unnamed;
        };
        // The return address may already belong to the next function or the next line; the call
        // instruction ends at the byte before it.
        let mut elf = Elf::new(object.open_path());
        elf.debug_syms = true;
        let source = Source::Elf(elf);
        let call = Input::VirtOffset(svma.saturating_sub(1));
        // blazesym reads files that the target's owner wrote; a panic there must not end us.
        let result = catch_unwind(AssertUnwindSafe(|| {
            self.symbolizer.symbolize_single(&source, call)
        }));
        match result {
            Ok(Ok(Symbolized::Sym(symbol))) => from_symbol(&symbol).unwrap_or(unnamed),
            Ok(Ok(Symbolized::Unknown(_))) => unnamed,
            Ok(Err(_)) | Err(_) => {
                self.failures += 1;
                unnamed
            }
        }
    }
}

impl Default for ElfNaming {
    fn default() -> Self {
        Self::new()
    }
}

impl Naming for ElfNaming {
    fn name(&mut self, mappings: &Mappings, addresses: &[u64]) -> Vec<Vec<Frame>> {
        addresses
            .iter()
            .map(
                |address| match mappings.containing(address.saturating_sub(1)) {
                    None => vec![Frame {
                        address: *address,
                        ..Frame::default()
                    }],
                    Some(mapping) => self.frames(mapping, *address),
                },
            )
            .collect()
    }
}

impl ElfNaming {
    fn frames(&mut self, mapping: &Mapping, address: u64) -> Vec<Frame> {
        let module = match mapping.path.as_os_str().is_empty() {
            true => "[anon]".to_owned(),
            false => mapping.path.to_string_lossy().into_owned(),
        };
        let from_start = address - mapping.start;
        let names = match mapping.file {
            Some(id) => self.names_in(id, mapping.file_offset + from_start),
            None => vec![Name {
                offset: Some(from_start),
                ..Name::default()
            }],
        };
        names
            .into_iter()
            .map(|name| Frame {
                function: name.function,
                module: Some(module.clone()),
                address,
                offset: name.offset,
                file: name.file,
                line: name.line,
                inlined: name.inlined,
            })
            .collect()
    }
}

/// `None` when the symbol does not contain the address: the nearest symbol before it is another
/// function's, and a wrong name is worse than none.
fn from_symbol(symbol: &Sym<'_>) -> Option<Vec<Name>> {
    if symbol.size.is_none_or(|size| symbol.offset >= size) {
        return None;
    }
    // Asked for was the last byte of the call.
    let offset = symbol.offset as u64 + 1;
    let inlined = symbol.inlined.iter().rev().map(|function| {
        let (file, line) = place(function.code_info.as_ref());
        Name {
            function: Some(function.name.to_string()),
            file,
            line,
            inlined: true,
            offset: None,
        }
    });
    let (file, line) = place(symbol.code_info.as_deref());
    let outer = Name {
        function: Some(symbol.name.to_string()),
        offset: Some(offset),
        file,
        line,
        inlined: false,
    };
    Some(inlined.chain([outer]).collect())
}

fn place(info: Option<&CodeInfo<'_>>) -> (Option<String>, Option<u32>) {
    match info {
        Some(info) => (
            Some(info.to_path().to_string_lossy().into_owned()),
            info.line,
        ),
        None => (None, None),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn own_mappings() -> Mappings {
        Mappings::parse(&std::fs::read("/proc/self/maps").unwrap())
    }

    #[test]
    fn an_address_outside_all_mappings_keeps_only_its_number() {
        let frames = ElfNaming::new().name(&own_mappings(), &[0x10]);
        assert_eq!(
            frames,
            vec![vec![Frame {
                address: 0x10,
                ..Frame::default()
            }]]
        );
    }

    #[test]
    fn code_of_an_object_that_is_not_held_keeps_its_module() {
        let mappings = own_mappings();
        let address = an_address_outside_all_mappings_keeps_only_its_number as *const () as u64 + 8;
        let frames = ElfNaming::new().name(&mappings, &[address]);
        assert!(frames[0][0].module.is_some());
        assert_eq!(frames[0][0].function, None);
    }
}

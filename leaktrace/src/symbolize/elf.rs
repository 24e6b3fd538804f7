//! Names from the symbol tables and the debug information of mapped files, through blazesym. The
//! files are held open, so that a process that has died is still named.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolized, Symbolizer};

use super::demangle::demangle;
use super::depth::Depth;
use super::{Frame, Naming, truncation};
use crate::target::{FileId, Mapping, Mappings, Object, Segments};

/// After so many addresses at which an object could not be read it is asked for less: when the
/// object as a whole is broken, each attempt reads all of it again.
const MAX_ERRORS: u32 = 8;

/// Names frames with what the mapped files themselves say.
pub struct ElfNaming {
    symbolizer: Symbolizer,
    objects: HashMap<FileId, Held>,
    /// What an address in a file is called: each is asked for once a session.
    known: HashMap<(FileId, u64), Vec<Name>>,
    failures: u64,
}

/// An object that names are taken from.
struct Held {
    /// The file that is asked: the object, or its debug file.
    object: Object,
    /// The object, if its debug file is asked.
    stripped: Option<Object>,
    segments: Segments,
    depth: Depth,
    /// Addresses since the depth was set at which it could not be read.
    errors: u32,
}

impl Held {
    fn new(object: Object) -> Self {
        // Without segments nothing in it gets a name, which the frames themselves show.
        let segments = object.segments().unwrap_or_default();
        let debug = object.debug_file().cloned();
        let (asked, stripped) = match debug {
            Some(debug) => (debug, Some(object)),
            None => (object, None),
        };
        Self {
            depth: depth(&asked),
            object: asked,
            stripped,
            segments,
            errors: 0,
        }
    }

    fn lower_depth(&mut self) {
        self.errors = 0;
        self.depth = self.depth.less();
        if self.depth == Depth::Nothing {
            self.leave_debug_file();
        }
    }

    /// The debug file cannot be read: the object itself is asked from now on.
    fn leave_debug_file(&mut self) {
        if let Some(object) = self.stripped.take() {
            self.depth = depth(&object);
            self.object = object;
        }
    }
}

/// How much an object can be asked.
fn depth(object: &Object) -> Depth {
    match object.sections() {
        Ok(sections) => Depth::of(object.size_bytes(), &sections),
        Err(_) => Depth::Nothing,
    }
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
        truncation::survive();
        Self {
            symbolizer: symbolizer(),
            objects: HashMap::new(),
            known: HashMap::new(),
            failures: 0,
        }
    }

    /// Keeps an object for naming.
    pub fn hold(&mut self, object: Object) {
        self.objects
            .entry(object.file_id())
            .or_insert_with(|| Held::new(object));
    }

    /// Whether the object with this identity is held.
    pub fn holds(&self, id: FileId) -> bool {
        self.objects.contains_key(&id)
    }

    /// Addresses that have no name because their object could not be read.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    fn names_in(&mut self, id: FileId, file_offset: u64) -> Vec<Name> {
        let Some(held) = self.objects.get(&id) else {
            // Not remembered: the object may be held later. Its svma is not known.
            return vec![Name::default()];
        };
        if let Some(names) = self.known.get(&(id, file_offset)) {
            return names.clone();
        }
        // The return address may already belong to the next function, the next line or no segment;
        // the call instruction ends at the byte before it.
        let call_svma = held.segments.svma(file_offset.saturating_sub(1));
        let names = call_svma
            .and_then(|call_svma| self.look_up(id, call_svma))
            .unwrap_or_else(|| {
                vec![Name {
                    offset: call_svma.map(|call_svma| call_svma.saturating_add(1)),
                    ..Name::default()
                }]
            });
        self.known.insert((id, file_offset), names.clone());
        names
    }

    /// Asks for the function at this address; `None` when it has no name. An object that cannot be
    /// read is asked for less from then on.
    fn look_up(&mut self, id: FileId, call_svma: u64) -> Option<Vec<Name>> {
        let held = self.objects.get_mut(&id)?;
        let mut depth = held.depth;
        while depth != Depth::Nothing {
            let faults = truncation::faults();
            let mut elf = Elf::new(held.object.open_path());
            elf.debug_syms = depth == Depth::Debug;
            let source = Source::Elf(elf);
            // blazesym reads files that the target's owner wrote; a panic there must not end us.
            let result = catch_unwind(AssertUnwindSafe(|| {
                let call = Input::VirtOffset(call_svma);
                match self.symbolizer.symbolize_single(&source, call) {
                    Ok(Symbolized::Sym(symbol)) => Ok(from_symbol(&symbol)),
                    Ok(Symbolized::Unknown(_)) => Ok(None),
                    Err(_) => Err(()),
                }
            }));
            if truncation::faults() != faults {
                // What was read is part of the file, and zeros.
                self.symbolizer = symbolizer();
                held.depth = Depth::Nothing;
                held.leave_debug_file();
                break;
            }
            match result {
                Ok(Ok(Some(names))) => return Some(names),
                // Debug information can be silent where the symbols are not.
                Ok(Ok(None)) if depth == Depth::Symbols => return None,
                // Debug information can be silent where the symbols are not.
                Ok(Ok(None)) => {}
                Ok(Err(())) if held.stripped.is_some() => {
                    held.leave_debug_file();
                    return self.look_up(id, call_svma);
                }
                Ok(Err(())) => {
                    held.errors += 1;
                    if held.errors >= MAX_ERRORS {
                        held.lower_depth();
                    }
                }
                Err(_) => {
                    // What the panic has left behind in it is not known.
                    self.symbolizer = symbolizer();
                    held.lower_depth();
                }
            }
            depth = depth.less();
        }
        self.failures += 1;
        None
    }
}

/// A symboliser that looks for debug information in no directory of this machine: the target may
/// have been built anywhere.
fn symbolizer() -> Symbolizer {
    Symbolizer::builder()
        .enable_auto_reload(false)
        .enable_code_info(true)
        .enable_inlined_fns(true)
        .enable_demangling(false)
        .set_debug_dirs(Some(std::iter::empty::<&str>()))
        .build()
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
    if symbol.size.is_none_or(|size| symbol.offset >= size) || symbol.name.is_empty() {
        return None;
    }
    // Asked for was the last byte of the call.
    let offset = symbol.offset as u64 + 1;
    let inlined = symbol.inlined.iter().rev().map(|function| {
        let (file, line) = place(function.code_info.as_ref());
        Name {
            function: Some(demangle(&function.name)),
            file,
            line,
            inlined: true,
            offset: None,
        }
    });
    let (file, line) = place(symbol.code_info.as_deref());
    let outer = Name {
        function: Some(demangle(&symbol.name)),
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
            // DWARF says 0 for code that no line stands for.
            info.line.filter(|line| *line > 0),
        ),
        None => (None, None),
    }
}

#[cfg(test)]
#[path = "elf_tests.rs"]
mod tests;

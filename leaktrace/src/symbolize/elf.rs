//! Names from the symbol tables and the debug information of mapped files, through blazesym. The
//! files are held open, so that a process that has died is still named.

use std::collections::HashMap;
use std::sync::Arc;

use blazesym::symbolize::{CodeInfo, Sym, Symbolizer};

use super::demangle::demangle;
use super::held::{Answer, Held};
use super::signal_return::is_signal_return;
use super::{Frame, Naming, truncation};
use crate::debuginfod::{Debuginfod, Errands};
use crate::target::{FileId, Mapping, Mappings, Object};

/// Names frames with what the mapped files themselves say.
pub struct ElfNaming {
    symbolizer: Symbolizer,
    objects: HashMap<FileId, Held>,
    /// What an offset in a file, and how far the address is behind it, is called: each is asked for
    /// once a session.
    known: HashMap<(FileId, u64, u64), Vec<Name>>,
    /// Offsets in files that a signal's handler may return to: whether it does.
    signal_returns: HashMap<(FileId, u64), bool>,
    failures: u64,
    /// Where debug files are fetched from, if the user wants that.
    servers: Option<(Arc<Debuginfod>, Errands)>,
}

/// A frame without what depends on where the object is mapped.
#[derive(Clone, Debug, Default)]
pub(super) struct Name {
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
            signal_returns: HashMap::new(),
            failures: 0,
            servers: None,
        }
    }

    /// Has debug files fetched that are not on this machine. Names from them come as soon as the
    /// files do.
    pub fn fetch_from(&mut self, debuginfod: Debuginfod) {
        let debuginfod = Arc::new(debuginfod);
        let errands = Errands::start(Arc::clone(&debuginfod));
        self.servers = Some((debuginfod, errands));
    }

    /// The object with its debug file, if that was fetched before. That of the program itself is
    /// waited for: without it, an allocator that is linked into the program would not be found.
    #[must_use]
    pub fn complete(&self, object: Object, is_program: bool) -> Object {
        let Some((debuginfod, errands)) = &self.servers else {
            return object;
        };
        if self.holds(object.file_id()) || !object.lacks_debug_file() {
            return object;
        }
        let Some(build_id) = object.build_id() else {
            return object;
        };
        let file = match is_program {
            true => debuginfod.fetch(&build_id),
            false => debuginfod.cached(&build_id),
        };
        match file {
            Some(file) => object.with_this_debug_file(file),
            None => {
                errands.request(object.file_id(), build_id);
                object
            }
        }
    }

    /// Names from debug files that have come replace those that were known.
    fn take_fetched(&mut self) {
        let Some((_, errands)) = &self.servers else {
            return;
        };
        while let Some((id, file)) = errands.take() {
            if let Some(held) = self.objects.get_mut(&id) {
                held.add_debug_file(file, id);
                self.known.retain(|(object, ..), _| *object != id);
            }
        }
    }

    /// Keeps an object for naming.
    pub fn hold(&mut self, object: Object) {
        self.objects
            .entry(object.file_id())
            .or_insert_with(|| Held::new(object));
    }

    /// The object that is held of this very file, with all that was found out about it: programs that
    /// are executed one after the other map the same ones.
    pub fn held(&self, object: &Object) -> Option<Object> {
        let held = self.objects.get(&object.file_id())?.object()?;
        held.is_of_same_file(object)
            .then(|| held.clone().called(object.path()))
    }

    /// Whether the object with this identity is held.
    pub fn holds(&self, id: FileId) -> bool {
        self.objects.contains_key(&id)
    }

    /// Addresses that have no name because their object could not be read.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The names at an offset in a file, with offsets of an address that is so far behind it.
    fn names_in(&mut self, id: FileId, file_offset: u64, behind: u64) -> Vec<Name> {
        let Some(held) = self.objects.get(&id) else {
            // Not remembered: the object may be held later. Its svma is not known.
            return vec![Name::default()];
        };
        if let Some(names) = self.known.get(&(id, file_offset, behind)) {
            return names.clone();
        }
        let svma = held.segments.svma(file_offset);
        let mut names = svma
            .and_then(|svma| self.look_up(id, svma))
            .unwrap_or_else(|| {
                vec![Name {
                    offset: svma,
                    ..Name::default()
                }]
            });
        for name in &mut names {
            name.offset = name.offset.map(|offset| offset.saturating_add(behind));
        }
        self.known.insert((id, file_offset, behind), names.clone());
        names
    }

    /// Whether a handler of signals returns to this address: what stands above it in a stack was
    /// interrupted, and called nothing.
    fn is_signal_return(&mut self, mappings: &Mappings, address: u64) -> bool {
        let Some(mapping) = mappings.containing(address) else {
            return false;
        };
        let Some(id) = mapping.file else { return false };
        let Some(object) = self.objects.get(&id).and_then(Held::object) else {
            return false;
        };
        let file_offset = mapping.file_offset + (address - mapping.start);
        let known = self.signal_returns.entry((id, file_offset));
        *known.or_insert_with(|| is_signal_return(object, file_offset))
    }

    /// Asks for the function at this address; `None` when it has no name.
    fn look_up(&mut self, id: FileId, svma: u64) -> Option<Vec<Name>> {
        let held = self.objects.get_mut(&id)?;
        match held.ask(&mut self.symbolizer, svma) {
            Answer::Names(names) => Some(names),
            Answer::Silent => None,
            Answer::Unreadable => {
                self.failures += 1;
                None
            }
        }
    }
}

/// A symboliser that looks for debug information in no directory of this machine: the target may
/// have been built anywhere.
pub(super) fn symbolizer() -> Symbolizer {
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
        self.take_fetched();
        let mut was_interrupted = false;
        let mut frames = Vec::with_capacity(addresses.len());
        for address in addresses {
            let is_signal_return = self.is_signal_return(mappings, *address);
            let frame = Frame {
                address: *address,
                is_exact: is_signal_return || was_interrupted,
                ..Frame::default()
            };
            was_interrupted = is_signal_return;
            frames.push(match mappings.containing(frame.asked_address()) {
                None => vec![frame],
                Some(mapping) => self.frames(mapping, &frame),
            });
        }
        frames
    }
}

impl ElfNaming {
    fn frames(&mut self, mapping: &Mapping, frame: &Frame) -> Vec<Frame> {
        let module = match mapping.path.as_os_str().is_empty() {
            true => "[anon]".to_owned(),
            false => mapping.path.to_string_lossy().into_owned(),
        };
        let from_start = frame.asked_address() - mapping.start;
        let names = match mapping.file {
            Some(id) => self.names_in(id, mapping.file_offset + from_start, frame.behind()),
            None => vec![Name {
                offset: Some(from_start + frame.behind()),
                ..Name::default()
            }],
        };
        names
            .into_iter()
            .map(|name| Frame {
                function: name.function,
                module: Some(module.clone()),
                address: frame.address,
                is_exact: frame.is_exact,
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
pub(super) fn from_symbol(symbol: &Sym<'_>) -> Option<Vec<Name>> {
    if symbol.size.is_none_or(|size| symbol.offset >= size) || symbol.name.is_empty() {
        return None;
    }
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
        offset: Some(symbol.offset as u64),
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

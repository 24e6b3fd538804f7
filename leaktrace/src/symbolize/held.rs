//! The files that the names of one object are taken from, in the order in which they are asked, and
//! what each may still be asked for.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

use super::depth::Depth;
use super::elf::{Name, from_symbol, symbolizer};
use super::truncation;
use crate::target::{FileId, Object, Segments};

/// After so many addresses at which an object could not be read it is asked for less: when the
/// object as a whole is broken, each attempt reads all of it again.
const MAX_ERRORS: u32 = 8;

/// An object that names are taken from.
pub(super) struct Held {
    /// Its segments.
    pub(super) segments: Segments,
    /// What was stripped from it, its packed symbols, and the object itself, as far as they are there.
    sources: Vec<Asked>,
}

/// A file that is asked.
struct Asked {
    object: Object,
    depth: Depth,
    /// Addresses since the depth was set at which it could not be read.
    errors: u32,
}

/// What is said of an address.
pub(super) enum Answer {
    /// The frames there, innermost first.
    Names(Vec<Name>),
    /// No name.
    Silent,
    /// Nothing: no file could be read.
    Unreadable,
}

impl Held {
    /// Takes names from an object and what belongs to it.
    pub(super) fn new(object: Object) -> Self {
        let added = [object.debug_file(), object.packed_symbols()];
        let mut sources: Vec<Asked> = added
            .into_iter()
            .flatten()
            .map(|object| Asked::new(object.clone()))
            .collect();
        // Without segments nothing in it gets a name, which the frames themselves show.
        let segments = object.segments().unwrap_or_default();
        sources.push(Asked::new(object));
        Self { segments, sources }
    }

    /// The object itself.
    pub(super) fn object(&self) -> Option<&Object> {
        self.sources.last().map(|asked| &asked.object)
    }

    /// Takes names from this debug file first.
    pub(super) fn add_debug_file(&mut self, file: File, id: FileId) {
        let path = match self.sources.last() {
            Some(object) => object.object.path().to_owned(),
            None => PathBuf::new(),
        };
        let debug = Object::of_file(file, &path, id);
        self.sources.insert(0, Asked::new(debug));
    }

    /// Asks one file after the other until one knows a name.
    pub(super) fn ask(&mut self, symbols: &mut Symbolizer, call_svma: u64) -> Answer {
        let mut answer = Answer::Unreadable;
        for source in &mut self.sources {
            match source.ask(symbols, &self.segments, call_svma) {
                Answer::Unreadable => {}
                Answer::Silent => answer = Answer::Silent,
                names => return names,
            }
        }
        answer
    }
}

impl Asked {
    fn new(object: Object) -> Self {
        let depth = match object.sections() {
            Ok(sections) => Depth::of(object.size_bytes(), &sections),
            Err(_) => Depth::Nothing,
        };
        Self {
            object,
            depth,
            errors: 0,
        }
    }

    fn lower_depth(&mut self) {
        self.errors = 0;
        self.depth = self.depth.less();
    }

    /// A file that cannot be read is asked for less from then on.
    fn ask(&mut self, symbols: &mut Symbolizer, segments: &Segments, call_svma: u64) -> Answer {
        let mut depth = self.depth;
        while depth != Depth::Nothing {
            let faults = truncation::faults();
            let mut elf = Elf::new(self.object.open_path());
            elf.debug_syms = depth == Depth::Debug;
            let source = Source::Elf(elf);
            // blazesym reads files that the target's owner wrote; a panic there must not end us.
            let result = catch_unwind(AssertUnwindSafe(|| {
                let call = Input::VirtOffset(call_svma);
                match symbols.symbolize_single(&source, call) {
                    // GNU ld leaves functions that it has dropped in the debug information, at
                    // address 0 and as long as they were.
                    Ok(Symbolized::Sym(symbol)) if !segments.may_begin_at(symbol.addr) => Ok(None),
                    Ok(Symbolized::Sym(symbol)) => Ok(from_symbol(&symbol)),
                    Ok(Symbolized::Unknown(_)) => Ok(None),
                    Err(_) => Err(()),
                }
            }));
            if truncation::faults() != faults {
                // What was read is part of the file, and zeros.
                *symbols = symbolizer();
                self.depth = Depth::Nothing;
                return Answer::Unreadable;
            }
            match result {
                Ok(Ok(Some(names))) => return Answer::Names(names),
                Ok(Ok(None)) if depth == Depth::Symbols => return Answer::Silent,
                // Debug information can be silent where the symbols are not.
                Ok(Ok(None)) => {}
                Ok(Err(())) => {
                    self.errors += 1;
                    if self.errors >= MAX_ERRORS {
                        self.lower_depth();
                    }
                }
                Err(_) => {
                    // What the panic has left behind in it is not known.
                    *symbols = symbolizer();
                    self.lower_depth();
                }
            }
            depth = depth.less();
        }
        Answer::Unreadable
    }
}

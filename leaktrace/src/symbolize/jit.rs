//! Names for code that a process makes while it runs, from its perf map, and what people have to
//! know about them. Asks for these names only where the mapped files have none.

use std::time::SystemTime;

use super::perf_map::{MAX_PIECES, PerfMap};
use super::{Frame, Naming};
use crate::target::{Mapping, Mappings, PerfMapFile, PerfMapNews, Process, Runtime};

/// The function in which CPython runs functions of Python.
const PYTHON_LOOP: &str = "_PyEval_EvalFrame";

/// What one process says about the code that it makes.
#[derive(Debug, Default)]
pub struct JitNames {
    file: Option<PerfMapFile>,
    map: PerfMap,
    refused: Option<String>,
    /// When the process executed its program, if that is known.
    executed_at: Option<SystemTime>,
    /// Frames of the report that is being made, in such code, without a name.
    unnamed: u64,
    /// Frames of the report that is being made that stand for functions of Python.
    python: u64,
}

impl JitNames {
    /// Notes where the process writes names, while it can still be asked: it may have ended before
    /// the first report is made.
    pub fn of(process: Option<&Process>) -> Self {
        Self {
            file: process.and_then(PerfMapFile::of),
            ..Self::default()
        }
    }

    /// Takes no names that were written before the process executed its program at this time.
    pub fn begin_at(&mut self, executed_at: Option<SystemTime>) {
        self.executed_at = executed_at;
        self.file = self.file.take().map(|file| file.since(executed_at));
    }

    /// Reads what the process has written since, before a report is made. A process that has ended
    /// is absent; its file can still be there.
    pub fn refresh(&mut self, process: Option<&Process>) {
        (self.unnamed, self.python) = (0, 0);
        if let Some(now) = process.and_then(PerfMapFile::of) {
            self.file = Some(now.after(self.file.take()).since(self.executed_at));
        }
        let Some(file) = &mut self.file else { return };
        self.refused = None;
        match file.news() {
            Ok(PerfMapNews::Nothing) => {}
            Ok(PerfMapNews::More(bytes)) => self.map.take(&bytes),
            Ok(PerfMapNews::Anew(bytes)) => {
                self.map = PerfMap::default();
                self.map.take(&bytes);
            }
            Err(reason) => self.refused = Some(reason),
        }
    }

    /// What the readers of the report that was just made have to know.
    pub fn notices(&self, mappings: &Mappings) -> Vec<String> {
        let path = self.file.as_ref().map(PerfMapFile::path);
        let path = path.map_or_else(String::new, |path| path.display().to_string());
        let mut notices = Vec::new();
        let too_much = format!("it names more than {MAX_PIECES} pieces of code");
        let refused = self.refused.as_ref();
        if let Some(reason) = refused.or(self.map.is_full.then_some(&too_much)) {
            notices.push(format!(
                "names of code that was made at run time are not taken from {path}: {reason}"
            ));
        }
        if self.map.malformed > 0 {
            let lines = match self.map.malformed {
                1 => "1 line".to_owned(),
                count => format!("{count} lines"),
            };
            notices.push(format!("{lines} of {path} left out: malformed"));
        }
        if self.refused.is_none() && !self.map.is_full && self.map.is_empty() {
            let how = Runtime::find(mappings).and_then(|runtime| self.how_to_name(runtime));
            notices.extend(how.map(|how| format!("{how} (it writes {path})")));
        }
        notices
    }

    fn how_to_name(&self, runtime: Runtime) -> Option<String> {
        let how = runtime.how_to_name()?;
        let stands_for = match runtime {
            Runtime::CPython if self.python > 0 => "functions of Python",
            _ if self.unnamed > 0 => "code that was made at run time",
            _ => return None,
        };
        Some(format!("frames of {stands_for} have no names: {how}"))
    }

    fn name(&mut self, mapping: Option<&Mapping>, frames: &mut [Frame]) {
        let [frame] = frames else { return };
        if let Some(function) = &frame.function {
            self.python += u64::from(function.starts_with(PYTHON_LOOP));
            return;
        }
        if let Some((name, offset)) = self.map.name(frame.asked_address()) {
            frame.function = Some(name.to_owned());
            frame.offset = Some(offset + frame.behind());
        } else if mapping.is_none_or(is_made_at_run_time) {
            self.unnamed += 1;
        }
    }
}

/// Code of no file, but for what the kernel maps into every process.
fn is_made_at_run_time(mapping: &Mapping) -> bool {
    let name = mapping.path.to_string_lossy();
    match mapping.file {
        None => name.is_empty() || name.starts_with("[anon"),
        Some(_) => name.starts_with("/memfd:"),
    }
}

/// Names from the mapped files, and where they have none, from the perf map of one process.
pub struct WithJit<'a> {
    /// The mapped files.
    pub files: &'a mut dyn Naming,
    /// The perf map.
    pub jit: &'a mut JitNames,
}

impl Naming for WithJit<'_> {
    fn name(&mut self, mappings: &Mappings, addresses: &[u64]) -> Vec<Vec<Frame>> {
        let mut named = self.files.name(mappings, addresses);
        for frames in &mut named {
            let asked_address = frames.first().map(Frame::asked_address);
            let mapping = asked_address.and_then(|address| mappings.containing(address));
            self.jit.name(mapping, frames);
        }
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nameless;

    impl Naming for Nameless {
        fn name(&mut self, _: &Mappings, addresses: &[u64]) -> Vec<Vec<Frame>> {
            let frame = |address: &u64| Frame {
                address: *address,
                ..Frame::default()
            };
            addresses
                .iter()
                .map(|address| vec![frame(address)])
                .collect()
        }
    }

    fn node() -> Mappings {
        Mappings::parse(
            b"400000-500000 r-xp 00000000 fe:00 5 /usr/bin/node\n\
              7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n",
        )
    }

    fn names(jit: &mut JitNames, address: u64) -> Vec<Frame> {
        let mut naming = WithJit {
            files: &mut Nameless,
            jit,
        };
        naming.name(&node(), &[address]).remove(0)
    }

    #[test]
    fn code_without_a_file_is_named_by_the_perf_map() {
        let mut jit = JitNames::default();
        jit.map.take(b"7f0000000100 20 JS:*add\n");
        let frames = names(&mut jit, 0x7f00_0000_0120);
        assert_eq!(frames[0].function.as_deref(), Some("JS:*add"));
        assert_eq!(frames[0].offset, Some(0x20));
        assert!(jit.notices(&node()).is_empty());
    }

    #[test]
    fn how_to_get_names_is_said_only_where_they_are_missing() {
        let mut jit = JitNames::default();
        assert!(jit.notices(&node()).is_empty());
        names(&mut jit, 0x40_1000);
        assert!(jit.notices(&node()).is_empty());
        names(&mut jit, 0x7f00_0000_0120);
        let notices = jit.notices(&node());
        assert_eq!(notices.len(), 1);
        assert!(notices[0].contains("--perf-basic-prof"), "{notices:?}");
    }
}

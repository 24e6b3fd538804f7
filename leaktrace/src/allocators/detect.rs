//! Decides which of a process's objects define an allocator, and which functions of it to probe.
//! Pure: symbols in, [`Detection`] out.

use std::path::{Path, PathBuf};

use super::catalog::{CallSignature, ENTRIES, Entry, Family};
use crate::target::Function;

/// An object with those of its functions that have a name of the catalogue.
#[derive(Clone, Debug)]
pub struct ObjectSymbols {
    /// Path as the process sees it.
    pub path: PathBuf,
    /// The functions, or why they are not known.
    pub functions: Result<Vec<Function>, String>,
}

/// What to probe in a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detection {
    /// The functions, by object and then in the order of the catalogue. Each address once.
    pub functions: Vec<FoundFunction>,
    /// Objects that were left out although they define some of the functions, or that could not
    /// be searched.
    pub skipped: Vec<SkippedObject>,
}

/// A function to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    /// Index of its object in the list that was searched.
    pub object: usize,
    /// The name that reports use.
    pub name: &'static str,
    /// Other names of the same code.
    pub aliases: Vec<&'static str>,
    /// What it does with its arguments.
    pub signature: CallSignature,
    /// Address stated in the object.
    pub svma: u64,
    /// Where its first instruction is in the file.
    pub file_offset: u64,
    /// Length of its code; zero when the object does not say.
    pub size_bytes: u64,
}

/// An object that is not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedObject {
    /// Index of the object in the list that was searched.
    pub object: usize,
    /// Its path, as the process sees it.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why an object is not probed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// It is the dynamic loader, whose minimal malloc (glibc before 2.31) serves only itself.
    #[error("the dynamic loader's own malloc serves only itself")]
    DynamicLoader,
    /// It defines some functions of a family without the pair that makes an allocator.
    #[error("defines {found} but not both {} and {}", .family.defining()[0], .family.defining()[1])]
    Incomplete {
        /// The family.
        family: Family,
        /// The functions that it has.
        found: String,
    },
    /// Its symbols could not be read.
    #[error("its symbols cannot be read: {0}")]
    Unreadable(String),
}

/// No object of the process defines an allocator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAllocator {
    /// How many objects were searched.
    pub objects: usize,
    /// A C library is among them.
    pub has_libc: bool,
    /// Objects that have some functions, or could not be searched.
    pub skipped: Vec<SkippedObject>,
}

impl std::error::Error for NoAllocator {}

impl std::fmt::Display for NoAllocator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no allocation functions found")?;
        self.write_explanation(f)
    }
}

impl NoAllocator {
    /// The line for the user: what failed, why, and what to do.
    pub fn message(&self, tgid: u32) -> String {
        struct Explanation<'a>(&'a NoAllocator);
        impl std::fmt::Display for Explanation<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.write_explanation(f)
            }
        }
        format!(
            "no allocation functions found in process {tgid}{}",
            Explanation(self)
        )
    }

    fn write_explanation(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unreadable = self
            .skipped
            .iter()
            .find(|skipped| matches!(skipped.reason, SkipReason::Unreadable(_)));
        if let Some(skipped) = unreadable {
            return write!(
                f,
                ": {}: {}; check that leaktrace may read this file (run with sudo)",
                skipped.path.display(),
                skipped.reason
            );
        }
        if self.has_libc {
            return f.write_str(
                ": its C library exports no malloc and free; run it with a libc that has its \
                 symbols",
            );
        }
        f.write_str(
            ": it maps no libc and has no malloc of its own in its symbols (a static Go program, \
             or a static program that was stripped); trace a program that allocates through \
             malloc, or a build that is not stripped",
        )
    }
}

/// Finds the functions to probe. Every object with a pair that makes an allocator counts: the
/// main program, libc, a preloaded library; calls between them are told apart at run time.
///
/// # Errors
///
/// [`NoAllocator`] when no object defines both malloc and free.
pub fn detect(objects: &[ObjectSymbols]) -> Result<Detection, NoAllocator> {
    let mut detection = Detection::default();
    for (object, symbols) in objects.iter().enumerate() {
        let mut skip = |reason| {
            detection.skipped.push(SkippedObject {
                object,
                path: symbols.path.clone(),
                reason,
            });
        };
        let functions = match &symbols.functions {
            Ok(functions) if functions.is_empty() => continue,
            Ok(_) if is_dynamic_loader(&symbols.path) => {
                skip(SkipReason::DynamicLoader);
                continue;
            }
            Ok(functions) => functions,
            Err(error) => {
                skip(SkipReason::Unreadable(error.clone()));
                continue;
            }
        };
        for family in Family::ALL {
            let found = distinct(object, functions, family);
            if is_complete(functions, family) {
                detection.functions.extend(found);
            } else if !found.is_empty() {
                let found: Vec<_> = found.iter().map(|function| function.name).collect();
                skip(SkipReason::Incomplete {
                    family,
                    found: found.join(", "),
                });
            }
        }
    }
    let found_heap = detection
        .functions
        .iter()
        .any(|function| function.signature.family() == Family::Heap);
    if found_heap {
        return Ok(detection);
    }
    Err(NoAllocator {
        objects: objects.len(),
        has_libc: objects.iter().any(|symbols| is_libc(&symbols.path)),
        skipped: detection.skipped,
    })
}

/// The functions of one family, each address once, under its first name of the catalogue.
fn distinct(object: usize, functions: &[Function], family: Family) -> Vec<FoundFunction> {
    let mut found: Vec<FoundFunction> = Vec::new();
    let entries = ENTRIES
        .iter()
        .filter(|entry| entry.signature.family() == family);
    for (Entry { name, signature }, function) in entries.flat_map(|entry| {
        // A name can have several addresses: versions of a symbol that behave differently.
        let same_name = move |function: &&Function| function.name == entry.name;
        functions
            .iter()
            .filter(same_name)
            .map(move |function| (entry, function))
    }) {
        let known = found
            .iter_mut()
            .find(|known| known.file_offset == function.file_offset);
        match known {
            Some(known) => {
                known.size_bytes = known.size_bytes.max(function.size_bytes);
                if known.name != *name && !known.aliases.contains(name) {
                    known.aliases.push(name);
                }
            }
            None => found.push(FoundFunction {
                object,
                name,
                aliases: Vec::new(),
                signature: *signature,
                svma: function.svma,
                file_offset: function.file_offset,
                size_bytes: function.size_bytes,
            }),
        }
    }
    found
}

fn is_complete(functions: &[Function], family: Family) -> bool {
    family
        .defining()
        .iter()
        .all(|name| functions.iter().any(|function| function.name == *name))
}

fn file_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// `ld-linux-x86-64.so.2`, `ld-2.28.so`; but musl's `ld-musl-x86_64.so.1` is its libc as well.
fn is_dynamic_loader(path: &Path) -> bool {
    let name = file_name(path);
    name.starts_with("ld-") && name.contains(".so") && !name.starts_with("ld-musl")
}

fn is_libc(path: &Path) -> bool {
    let name = file_name(path);
    name.starts_with("libc.so") || name.starts_with("libc-2.") || name.starts_with("ld-musl")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

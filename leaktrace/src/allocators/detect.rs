//! Decides which of a process's objects define an allocator, and which functions of it to probe.
//! Pure: symbols in, [`Detection`] out.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::catalog::{self, Entry, Family};
use super::signature::CallSignature;
use crate::target::{Function, Links};

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
    /// Functions of the allocators that were found, calls of which cannot be followed.
    pub unfollowed: Vec<UnfollowedFunction>,
    /// What is known of the code of objects with functions that can throw, by object.
    pub links: BTreeMap<usize, Links>,
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
    /// What it belongs to.
    pub family: Family,
    /// What it does with its arguments.
    pub signature: CallSignature,
    /// Address stated in the object.
    pub svma: u64,
    /// Where its first instruction is in the file.
    pub file_offset: u64,
    /// Length of its code; zero when the object does not say.
    pub size_bytes: u64,
}

/// A function that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfollowedFunction {
    /// Index of its object in the list that was searched.
    pub object: usize,
    /// Its name.
    pub name: &'static str,
    /// Why.
    pub reason: String,
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
    #[error("defines {found} but not both {} and {}", .missing[0], .missing[1])]
    Incomplete {
        /// The functions that it has.
        found: String,
        /// What an allocator, or a library that maps, has at least.
        missing: [&'static str; 2],
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

    /// An object with a part of an allocator.
    fn incomplete_heap(&self) -> Option<&SkippedObject> {
        self.skipped.iter().find(|skipped| match &skipped.reason {
            SkipReason::Incomplete { missing, .. } => missing[0] == "malloc",
            _ => false,
        })
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
        if let Some(skipped) = self.incomplete_heap() {
            return write!(
                f,
                ": {} {}; -v lists what was looked at",
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
    let found = search(objects, Demand::Pair);
    if found.has_heap() {
        return Ok(found);
    }
    // A static program that never frees has no free: then there is nothing to miss.
    let lenient = search(objects, Demand::MallocAlone);
    if lenient.has_heap() {
        return Ok(lenient);
    }
    Err(NoAllocator {
        objects: objects.len(),
        has_libc: objects.iter().any(|symbols| is_libc(&symbols.path)),
        skipped: found.skipped,
    })
}

/// What makes an allocator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// Functions that allocate and functions that free.
    Pair,
    /// malloc.
    MallocAlone,
}

impl Detection {
    fn has_heap(&self) -> bool {
        self.functions
            .iter()
            .any(|function| function.family == Family::Heap)
    }
}

fn search(objects: &[ObjectSymbols], demand: Demand) -> Detection {
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
        let found = of_object(object, functions, demand);
        for (missing, found) in found.incomplete {
            skip(SkipReason::Incomplete { found, missing });
        }
        detection.functions.extend(found.functions);
        detection.unfollowed.extend(found.unfollowed);
    }
    detection
}

/// What one object defines.
#[derive(Default)]
struct OfObject {
    functions: Vec<FoundFunction>,
    unfollowed: Vec<UnfollowedFunction>,
    incomplete: Vec<([&'static str; 2], String)>,
}

fn of_object(object: usize, functions: &[Function], demand: Demand) -> OfObject {
    let defined: HashMap<&str, Vec<&Function>> =
        functions.iter().fold(HashMap::new(), |mut defined, f| {
            defined.entry(f.name.as_str()).or_default().push(f);
            defined
        });
    let other: Vec<Entry> = prefixes_of_jemalloc(functions)
        .iter()
        .flat_map(|prefix| catalog::of_jemalloc(prefix))
        .collect();
    let entries: Vec<&Entry> = catalog::entries()
        .iter()
        .chain(&other)
        .filter(|entry| defined.contains_key(entry.name))
        .collect();
    let mut found = OfObject::default();
    // The C library's names come first: what an address is reported as.
    let mut interfaces: Vec<(Family, &str)> = Vec::new();
    for entry in &entries {
        let interface = (entry.family, entry.interface);
        if entry.family != Family::Operators && !interfaces.contains(&interface) {
            interfaces.push(interface);
        }
    }
    let mut complete = Vec::new();
    for (family, interface) in interfaces {
        let names: Vec<&str> = entries
            .iter()
            .filter(|entry| (entry.family, entry.interface) == (family, interface))
            .map(|entry| entry.name)
            .collect();
        let missing = match family {
            Family::Mapping => ["mmap", "munmap"],
            _ => ["malloc", "free"],
        };
        let malloc_alone = demand == Demand::MallocAlone && names.contains(&"malloc");
        if malloc_alone || is_complete(&entries, family, interface, &names) {
            complete.push((family, interface));
        } else {
            found.incomplete.push((missing, names.join(", ")));
        }
    }
    let has_heap = complete.iter().any(|(family, _)| *family == Family::Heap);
    for entry in entries {
        let wanted = match entry.family {
            // Elsewhere, and in libstdc++, they call malloc.
            Family::Operators => has_heap,
            family => complete.contains(&(family, entry.interface)),
        };
        if wanted {
            found.add(object, entry, &defined[entry.name]);
        }
    }
    found
}

impl OfObject {
    /// Adds a function at each of its addresses: versions of a symbol can behave differently.
    fn add(&mut self, object: usize, entry: &Entry, places: &[&Function]) {
        for function in places {
            let known = self
                .functions
                .iter_mut()
                .find(|known| known.file_offset == function.file_offset);
            match (known, entry.signature) {
                (Some(known), _) => {
                    known.size_bytes = known.size_bytes.max(function.size_bytes);
                    if known.name != entry.name && !known.aliases.contains(&entry.name) {
                        known.aliases.push(entry.name);
                    }
                }
                (None, Ok(signature)) => self.functions.push(FoundFunction {
                    object,
                    name: entry.name,
                    aliases: Vec::new(),
                    family: entry.family,
                    signature,
                    svma: function.svma,
                    file_offset: function.file_offset,
                    size_bytes: function.size_bytes,
                }),
                (None, Err(reason)) => self.unfollowed.push(UnfollowedFunction {
                    object,
                    name: entry.name,
                    reason: reason.to_owned(),
                }),
            }
        }
    }
}

/// What a jemalloc with names of its own puts before them.
pub(super) fn prefixes_of_jemalloc(functions: &[Function]) -> Vec<&str> {
    functions
        .iter()
        .filter_map(|function| function.name.strip_suffix(catalog::JEMALLOC_MARK))
        .collect()
}

/// With functions of one kind alone, every block would look leaked or every free unmatched. The C
/// library's names must be both there; of an allocator with names of its own, a linker that drops
/// what is not called may have left others than malloc and free.
fn is_complete(entries: &[&Entry], family: Family, interface: &str, names: &[&str]) -> bool {
    match (family, interface) {
        (Family::Mapping, _) => names.contains(&"mmap") && names.contains(&"munmap"),
        (_, "") => names.contains(&"malloc") && names.contains(&"free"),
        (_, interface) => {
            // Operators of the same allocator count: `mi_new` with `mi_free`.
            let has = |frees: bool| {
                entries.iter().any(|entry| {
                    entry.interface == interface
                        && entry
                            .signature
                            .is_ok_and(|signature| signature.is_free() == frees)
                })
            };
            has(true) && has(false)
        }
    }
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
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

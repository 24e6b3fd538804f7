//! Turns the objects of a process into the list of functions that allocate in it, each with its
//! signature and its place in the file. Looks up symbols; decides nothing about probes.

pub mod catalog;
pub mod detect;
pub mod signature;

pub use catalog::Family;
pub use detect::{Detection, FoundFunction, NoAllocator, ObjectSymbols, SkippedObject};
pub use signature::{Amount, CallSignature};

use crate::target::{Function, Object, ObjectError};

/// Finds the allocation and mapping functions in `objects`. An object whose symbols cannot be read
/// is listed as skipped, with the reason; the others still count.
///
/// # Errors
///
/// [`NoAllocator`] when no object defines an allocator.
pub fn find(objects: &[Object]) -> Result<Detection, NoAllocator> {
    let symbols: Vec<ObjectSymbols> = objects
        .iter()
        .map(|object| ObjectSymbols {
            path: object.path().to_path_buf(),
            functions: functions(object).map_err(|error| error.to_string()),
        })
        .collect();
    let mut detection = detect::detect(&symbols)?;
    for found in &detection.functions {
        if found.family == Family::Operators && !detection.links.contains_key(&found.object) {
            // Without them, every jump out of an operator leads to unknown code.
            let links = objects[found.object].links().unwrap_or_default();
            detection.links.insert(found.object, links);
        }
    }
    Ok(detection)
}

/// The functions of an object that have a name of the catalogue, or one of a jemalloc with a
/// prefix of its own.
fn functions(object: &Object) -> Result<Vec<Function>, ObjectError> {
    let mark = format!("*{}", catalog::JEMALLOC_MARK);
    let mut names: Vec<&str> = catalog::entries().iter().map(|entry| entry.name).collect();
    names.push(&mark);
    let mut functions = object.functions(&names)?;
    let others: Vec<&str> = detect::prefixes_of_jemalloc(&functions)
        .into_iter()
        .flat_map(catalog::of_jemalloc)
        .map(|entry| entry.name)
        .collect();
    if !others.is_empty() {
        functions.extend(object.functions(&others)?);
    }
    Ok(functions)
}

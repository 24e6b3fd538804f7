//! Turns the objects of a process into the list of functions that allocate in it, each with its
//! signature and its place in the file. Looks up symbols; decides nothing about probes.

pub mod catalog;
pub mod detect;

pub use catalog::{CallSignature, Family};
pub use detect::{Detection, FoundFunction, NoAllocator, ObjectSymbols, SkippedObject};

use crate::target::Object;

/// Finds the allocation and mapping functions in `objects`. An object whose symbols cannot be read
/// is listed as skipped, with the reason; the others still count.
///
/// # Errors
///
/// [`NoAllocator`] when no object defines an allocator.
pub fn find(objects: &[Object]) -> Result<Detection, NoAllocator> {
    let names: Vec<&str> = catalog::names().collect();
    let symbols: Vec<ObjectSymbols> = objects
        .iter()
        .map(|object| ObjectSymbols {
            path: object.path().to_path_buf(),
            functions: object.functions(&names).map_err(|error| error.to_string()),
        })
        .collect();
    detect::detect(&symbols)
}

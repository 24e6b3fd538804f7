//! Turns the objects of a process into the list of functions that allocate in it, each with its
//! signature and its place in the file. Looks up symbols; decides nothing about probes.

pub mod catalog;
pub mod detect;
pub mod pairs;
pub mod signature;

pub use catalog::Family;
pub use detect::{Detection, FoundFunction, NoAllocator, ObjectSymbols, SkippedObject};
pub use pairs::Pair;
pub use signature::{Amount, CallSignature};

use crate::target::{Function, Object, ObjectError};

/// Finds the allocation and mapping functions in `objects`, and those that the user has named. An
/// object whose symbols cannot be read is listed as skipped, with the reason; the others still
/// count.
///
/// # Errors
///
/// [`NoAllocator`] when no object defines an allocator.
pub fn find(objects: &[Object], pairs: &[Pair]) -> Result<Detection, NoAllocator> {
    let symbols: Vec<ObjectSymbols> = objects
        .iter()
        .map(|object| ObjectSymbols {
            path: object.path().to_path_buf(),
            functions: functions(object).map_err(|error| error.to_string()),
        })
        .collect();
    let mut detection = detect::detect(&symbols)?;
    detection.functions.extend(of_pairs(objects, pairs));
    for found in &detection.functions {
        let can_throw = matches!(found.family, Family::Operators | Family::Pair(_));
        if can_throw && !detection.links.contains_key(&found.object) {
            // Without them, every jump out of an operator leads to unknown code.
            let links = objects[found.object].links().unwrap_or_default();
            detection.links.insert(found.object, links);
        }
    }
    Ok(detection)
}

/// The first function of these pairs that no object defines: one line for the user.
pub fn missing_of_pairs(detection: &Detection, pairs: &[Pair]) -> Option<String> {
    (0..).zip(pairs).find_map(|(number, pair)| {
        let missing = pair.functions.iter().find(|wanted| {
            !detection
                .functions
                .iter()
                .any(|found| found.family == Family::Pair(number) && found.name == wanted.name)
        })?;
        let place = match &missing.object {
            Some(object) => format!("{object}, if it is mapped at all, does not define"),
            None => "no object that it maps defines".to_owned(),
        };
        Some(format!(
            "{place} the function {} of --pair {}; symbols that were stripped cannot be found",
            missing.name, pair.text
        ))
    })
}

/// The functions that the user has named, each address once.
fn of_pairs(objects: &[Object], pairs: &[Pair]) -> Vec<FoundFunction> {
    let mut found: Vec<FoundFunction> = Vec::new();
    for (number, pair) in (0..).zip(pairs) {
        let family = Family::Pair(number);
        for (wanted, (place, object)) in pair
            .functions
            .iter()
            .flat_map(|wanted| {
                objects
                    .iter()
                    .enumerate()
                    .map(move |object| (wanted, object))
            })
            .filter(|(wanted, (_, object))| wanted.is_in(object.path()))
        {
            for function in object.functions(&[wanted.name]).unwrap_or_default() {
                let known = found.iter().any(|known| {
                    (known.family, known.object, known.file_offset)
                        == (family, place, function.file_offset)
                });
                if !known {
                    found.push(FoundFunction {
                        object: place,
                        name: wanted.name,
                        aliases: Vec::new(),
                        family,
                        signature: wanted.signature,
                        svma: function.svma,
                        file_offset: function.file_offset,
                        size_bytes: function.size_bytes,
                    });
                }
            }
        }
    }
    found
}

/// The names that functions of allocators have.
pub fn names() -> impl Iterator<Item = &'static str> {
    let entries = catalog::entries().iter().map(|entry| entry.name);
    entries.chain([catalog::ANY_JEMALLOC])
}

/// The functions of an object that have a name of the catalogue, or one of a jemalloc with a
/// prefix of its own.
fn functions(object: &Object) -> Result<Vec<Function>, ObjectError> {
    let names: Vec<&str> = names().collect();
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

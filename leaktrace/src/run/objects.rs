//! Opens the objects behind a process's mappings, and finds the ways out of `operator new` in them.

use leaktrace_common::stack::Bridge;

use crate::symbolize::ElfNaming;
use crate::target::{FileId, Mappings, Object, Process};
use crate::unwind::{OPERATORS, bridges};

/// The ways out of `operator new` and its like in an object, by address in the process. None for
/// an object without them, or one that says too little about its frames.
pub(super) fn bridges_of(object: &Object, mappings: &Mappings) -> Vec<(u64, Bridge)> {
    let functions = object.functions(&OPERATORS).unwrap_or_default();
    if functions.is_empty() {
        return Vec::new();
    }
    let (Ok(segments), Ok(Some((svma, section)))) =
        (object.segments(), object.section(".eh_frame"))
    else {
        return Vec::new();
    };
    let code: Vec<(u64, Vec<u8>)> = functions
        .iter()
        .filter_map(|function| {
            let length = usize::try_from(function.size_bytes.min(4096)).ok()?;
            Some((
                function.svma,
                object.code(function.file_offset, length).ok()?,
            ))
        })
        .collect();
    let avma = |address: u64| {
        let file_offset = segments.file_offset(address)?;
        let mut of_object = mappings
            .executable()
            .filter(|mapping| mapping.file == Some(object.file_id()));
        of_object.find_map(|mapping| mapping.address_of(file_offset))
    };
    bridges(&code, (svma, &section))
        .into_iter()
        .filter_map(|(address, bridge)| Some((avma(address)?, bridge)))
        .collect()
}

/// Opens every object that has code in the process, once, and holds it: for the allocators now,
/// for names later, also when the process or the file is gone by then.
pub(super) fn open_objects(process: &Process, mappings: &Mappings) -> (Vec<Object>, ElfNaming) {
    let mut naming = ElfNaming::new();
    let mut opened: Vec<FileId> = Vec::new();
    let mut objects = Vec::new();
    for mapping in mappings.executable() {
        let Some(id) = mapping.file.filter(|id| !opened.contains(id)) else {
            continue;
        };
        opened.push(id);
        match Object::open(process, mapping) {
            Ok(object) => {
                naming.hold(object.clone());
                objects.push(object);
            }
            Err(error) => log::info!("left out: {error}"),
        }
    }
    (objects, naming)
}

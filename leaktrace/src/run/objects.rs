//! Finds the ways out of `operator new` in the objects of a process.

use leaktrace_common::stack::Bridge;

use crate::target::{Mappings, Object};
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

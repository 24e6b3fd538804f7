//! Decides what to do with each function that can throw (`operator new` and its like, and what the
//! user has named): leave it to the functions that it calls, or probe it, and where. Pure.

use std::collections::{HashMap, HashSet};

use leaktrace_common::call::Ending;

use super::exits::{Exits, Refusal, Surroundings, exits, is_covered};
use crate::allocators::{Detection, Family, FoundFunction, catalog};
use crate::target::Links;

/// What becomes of a function that can throw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// What it calls is probed, and counts.
    Covered,
    /// It frees: a probe at its entry.
    AtEntry,
    /// It allocates: probes at its entry and at its ends.
    AtExits(Vec<End>),
    /// It cannot be probed.
    Refused(String),
}

/// An instruction that ends calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Address stated in the object.
    pub(super) svma: u64,
    /// Where it is in the file.
    pub(super) file_offset: u64,
    /// What is known of the end there.
    pub(super) ending: Ending,
}

/// The treatment of every function of this family, by its place in the detection.
pub(super) fn treatments(
    detection: &Detection,
    code: &mut impl FnMut(usize, u64, usize) -> Option<Vec<u8>>,
) -> HashMap<usize, Treatment> {
    let nothing = Links::default();
    detection
        .functions
        .iter()
        .enumerate()
        .filter_map(|(place, found)| {
            let links = detection.links.get(&found.object).unwrap_or(&nothing);
            let treatment = match found.family {
                Family::Operators => treatment(found, detection, links, code),
                Family::Pair(_) => of_pair(found, links, code)?,
                Family::Heap | Family::Mapping => return None,
            };
            Some((place, treatment))
        })
        .collect()
}

fn treatment(
    found: &FoundFunction,
    detection: &Detection,
    links: &Links,
    code: &mut impl FnMut(usize, u64, usize) -> Option<Vec<u8>>,
) -> Treatment {
    let frees = found.signature.is_free();
    // Its own entry is none of them: a loop back to it is no call.
    let probed: HashSet<u64> = detection
        .functions
        .iter()
        .filter(|other| other.object == found.object && other.svma != found.svma)
        .filter(|other| other.family != Family::Mapping && other.signature.is_free() == frees)
        .map(|other| other.svma)
        .collect();
    let is_probed = |name: &str| {
        catalog::entries().iter().any(|entry| {
            entry.name == name
                && entry.family != Family::Mapping
                && entry
                    .signature
                    .is_ok_and(|signature| signature.is_free() == frees)
        })
    };
    let around = Surroundings {
        links,
        probed: &probed,
        is_probed: &is_probed,
    };
    let mut at = |svma: u64, length: usize| {
        let file_offset = links.segments.file_offset(svma)?;
        code(found.object, file_offset, length)
    };
    match is_covered(found.svma, &around, &mut at) {
        Ok(true) => Treatment::Covered,
        Ok(false) if frees => Treatment::AtEntry,
        Ok(false) => match exits(found.svma, &around, &mut at) {
            Ok(exits) => Treatment::AtExits(ends(&exits, links)),
            Err(refusal) => refused(refusal),
        },
        Err(_) if frees => Treatment::AtEntry,
        Err(refusal) => refused(refusal),
    }
}

/// A function that the user has named, which may throw as well; `None` where return probes are as
/// good. They are for functions of C with ends that are not known: if such a function calls back
/// into code that throws through it, the program is aborted, so that this is the second choice.
fn of_pair(
    found: &FoundFunction,
    links: &Links,
    code: &mut impl FnMut(usize, u64, usize) -> Option<Vec<u8>>,
) -> Option<Treatment> {
    if found.signature.is_free() {
        return Some(Treatment::AtEntry);
    }
    let around = Surroundings {
        links,
        probed: &HashSet::new(),
        is_probed: &|_| false,
    };
    let mut at = |svma: u64, length: usize| {
        let file_offset = links.segments.file_offset(svma)?;
        code(found.object, file_offset, length)
    };
    let is_cpp = found.name.starts_with("_Z");
    match exits(found.svma, &around, &mut at) {
        Ok(exits) if is_cpp || exits.escapes.is_empty() => {
            Some(Treatment::AtExits(ends(&exits, links)))
        }
        Err(refusal) if is_cpp => Some(refused(refusal)),
        Ok(_) | Err(_) => None,
    }
}

fn ends(exits: &Exits, links: &Links) -> Vec<End> {
    let returns = exits.returns.iter().map(|svma| (*svma, Ending::Ret));
    let escapes = exits.escapes.iter().map(|svma| (*svma, Ending::Escape));
    returns
        .chain(escapes)
        .filter_map(|(svma, ending)| {
            Some(End {
                svma,
                file_offset: links.segments.file_offset(svma)?,
                ending,
            })
        })
        .collect()
}

fn refused(refusal: Refusal) -> Treatment {
    Treatment::Refused(format!(
        "{refusal}, and a return probe would abort a program that throws through it"
    ))
}

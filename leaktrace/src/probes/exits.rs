//! Follows the code of a function that can throw from its entry to its ends. Pure: code bytes and
//! links in, [`Exits`] out.
//!
//! A return probe would abort a program that throws through it, so the ends are probed one by one:
//! every `ret` that the function's own code, and the code that it jumps to, can reach. A jump whose
//! target is not known is an end as well: the call is then counted as lost.
//!
//! A probe between two instructions of the decoder's imagination would break the program, so
//! nothing is decoded beyond the end that .eh_frame states for a function: behind the last call
//! that does not come back (it throws) lies anything.

use std::collections::HashSet;

use leaktrace_common::arch::MAX_INSTRUCTION_BYTES;

use crate::instructions::{self, Flow, Instruction, decode};
use crate::target::{Door, Links};

/// Code beyond this is not followed: no allocation function has as much.
const MAX_INSTRUCTIONS: usize = 50_000;

/// More ends than this are no function that was decoded right.
const MAX_EXITS: usize = 256;

/// Functions longer than this are not followed.
const MAX_CODE_BYTES: u64 = 64 * 1024;

/// How calls of a function end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// Addresses (svma) of `ret` instructions.
    pub returns: Vec<u64>,
    /// Addresses (svma) of jumps to code that is not known.
    pub escapes: Vec<u64>,
}

/// What is known about the code around a function.
pub struct Surroundings<'a> {
    /// Segments and jumps of the object.
    pub links: &'a Links,
    /// Addresses (svma) of functions of the object that are probed for themselves.
    pub probed: &'a HashSet<u64>,
    /// Whether a function of this name is probed wherever it is.
    pub is_probed: &'a dyn Fn(&str) -> bool,
}

/// Why a function cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its code cannot be read or is no code.
    #[error("its code cannot be decoded")]
    Undecodable,
    /// There is too much of it.
    #[error("its code has more ends than are followed")]
    TooLarge,
}

/// Whether calls of a probed function stand on every way from this function's entry to its ends:
/// then these count, and the function itself needs no probe.
///
/// # Errors
///
/// When its code cannot be followed.
pub fn is_covered(
    entry: u64,
    around: &Surroundings<'_>,
    code: &mut dyn FnMut(u64, usize) -> Option<Vec<u8>>,
) -> Result<bool, Refusal> {
    let exits = Walk::new(around, code, true).follow(entry)?;
    Ok(exits.returns.is_empty() && exits.escapes.is_empty())
}

/// Every end that a call of the function at `entry` can have.
///
/// # Errors
///
/// When its code cannot be followed.
pub fn exits(
    entry: u64,
    around: &Surroundings<'_>,
    code: &mut dyn FnMut(u64, usize) -> Option<Vec<u8>>,
) -> Result<Exits, Refusal> {
    Walk::new(around, code, false).follow(entry)
}

struct Walk<'a> {
    around: &'a Surroundings<'a>,
    code: &'a mut dyn FnMut(u64, usize) -> Option<Vec<u8>>,
    /// Ways end at calls of probed functions.
    stops_at_probed: bool,
    seen: HashSet<u64>,
    open: Vec<u64>,
    exits: Exits,
}

/// Where a jump or a call leads.
enum Target {
    Known(u64),
    /// To a function that is probed for itself.
    Probed,
    Unknown,
}

impl<'a> Walk<'a> {
    fn new(
        around: &'a Surroundings<'a>,
        code: &'a mut dyn FnMut(u64, usize) -> Option<Vec<u8>>,
        stops_at_probed: bool,
    ) -> Self {
        Self {
            around,
            code,
            stops_at_probed,
            seen: HashSet::new(),
            open: Vec::new(),
            exits: Exits::default(),
        }
    }

    fn follow(mut self, entry: u64) -> Result<Exits, Refusal> {
        self.open.push(entry);
        while let Some(svma) = self.open.pop() {
            self.follow_straight(svma)?;
            if self.seen.len() > MAX_INSTRUCTIONS {
                return Err(Refusal::TooLarge);
            }
        }
        self.exits.returns.sort_unstable();
        self.exits.escapes.sort_unstable();
        if self.exits.returns.len() + self.exits.escapes.len() > MAX_EXITS {
            return Err(Refusal::TooLarge);
        }
        Ok(self.exits)
    }

    /// Follows code from here until it ends, jumps, or was seen before.
    fn follow_straight(&mut self, start: u64) -> Result<(), Refusal> {
        let end = self
            .around
            .links
            .end_of_function(start)
            .ok_or(Refusal::Undecodable)?;
        if end - start > MAX_CODE_BYTES {
            return Err(Refusal::TooLarge);
        }
        let bytes = (self.code)(start, (end - start) as usize).ok_or(Refusal::Undecodable)?;
        for instruction in decode(&bytes, start) {
            let instruction = instruction.ok_or(Refusal::Undecodable)?;
            if !self.seen.insert(instruction.svma) || !self.passes(&instruction) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes note of where an instruction leads; whether the next one is reached too.
    fn passes(&mut self, instruction: &Instruction) -> bool {
        match instruction.flow {
            Flow::Return => {
                self.exits.returns.push(instruction.svma);
                false
            }
            Flow::Jump => {
                self.jump(instruction);
                false
            }
            Flow::Branch => {
                self.jump(instruction);
                true
            }
            Flow::Call => {
                !(self.stops_at_probed && matches!(self.target(instruction), Target::Probed))
            }
            Flow::Trap => false,
            Flow::Next => true,
        }
    }

    fn jump(&mut self, instruction: &Instruction) {
        match self.target(instruction) {
            Target::Known(svma) => self.open.push(svma),
            // Its own probes see how that call ends, and it is that call that counts.
            Target::Probed => {}
            Target::Unknown => self.exits.escapes.push(instruction.svma),
        }
    }

    fn target(&mut self, instruction: &Instruction) -> Target {
        match instruction.target {
            instructions::Target::Address(svma) if self.around.probed.contains(&svma) => {
                Target::Probed
            }
            instructions::Target::Address(svma) => match self.through_stub(svma) {
                Some(door) => self.behind(door),
                None if self.around.links.end_of_function(svma).is_some() => Target::Known(svma),
                None => Target::Unknown,
            },
            instructions::Target::Through(place) => self.behind(place),
            instructions::Target::Unknown => Target::Unknown,
        }
    }

    /// The place that a linker's stub at this address jumps through, if it is one.
    fn through_stub(&mut self, svma: u64) -> Option<u64> {
        let bytes = (self.code)(svma, 2 * MAX_INSTRUCTION_BYTES as usize)?;
        let mut stub = decode(&bytes, svma)
            .map_while(|instruction| instruction)
            .skip_while(|instruction| instruction.is_landing_pad);
        match stub.next()? {
            Instruction {
                flow: Flow::Jump,
                target: instructions::Target::Through(place),
                ..
            } => Some(place).filter(|place| self.around.links.doors.contains_key(place)),
            _ => None,
        }
    }

    fn behind(&self, place: u64) -> Target {
        match self.around.links.doors.get(&place) {
            Some(Door::Inside { svma, name }) => {
                let by_name = name.as_deref().is_some_and(self.around.is_probed);
                if by_name || self.around.probed.contains(svma) {
                    Target::Probed
                } else if self.around.links.end_of_function(*svma).is_some() {
                    Target::Known(*svma)
                } else {
                    Target::Unknown
                }
            }
            Some(Door::Outside(name)) if (self.around.is_probed)(name) => Target::Probed,
            Some(Door::Outside(_)) | None => Target::Unknown,
        }
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;

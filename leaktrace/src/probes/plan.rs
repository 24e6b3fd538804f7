//! Turns what was detected in one process into a [`ProbePlan`]: every probe with its place, its
//! cookie and its program, and the order in which they are attached. Pure: code comes in through a
//! function, nothing is attached.

use leaktrace_common::arch::MAX_INSTRUCTION_BYTES;
use leaktrace_common::call::{Call, CallKind, Ending, Nesting};
use leaktrace_common::lane::Lane;

use super::operators::{End, Treatment, treatments};
use super::placement::{Placement, Step, place};
use crate::allocators::{Detection, Family, FoundFunction};

/// Functions longer than this are probed at their entry: finding a branch back into the prologue
/// would take longer than it is worth. The longest function of glibc's allocator has 6 KiB.
const MAX_CODE_BYTES: u64 = 64 * 1024;

/// Every probe of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan {
    /// The probes; those of one function are neighbours, the one at its entry first.
    pub probes: Vec<Probe>,
    /// Functions that have none, and why.
    pub unprobed: Vec<Unprobed>,
}

/// A function of an allocator that is not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unprobed {
    /// Index of the object, as in the [`Detection`].
    pub object: usize,
    /// The function.
    pub function: &'static str,
    /// Why.
    pub reason: String,
    /// Whether it was to be probed, and the kernel would not have it.
    pub refused_by_kernel: bool,
}

/// One probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Index of the object, as in the [`Detection`].
    pub object: usize,
    /// The function.
    pub function: &'static str,
    /// Address of the function stated in the object.
    pub svma: u64,
    /// Where the function's first instruction is in the file.
    pub entry_file_offset: u64,
    /// Bytes behind the function's first instruction where the probe stands.
    pub offset: u64,
    /// Where in the file the probe stands.
    pub place_file_offset: u64,
    /// What the function does; the cookie is made of it.
    pub call: Call,
    /// Whether it fires at the call or at the return.
    pub role: Role,
    /// How the kernel gets past the instruction there.
    pub step: Step,
}

/// When a probe fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// When the function is called.
    Enter,
    /// When it returns: a uretprobe at the same file offset as the enter probe, so that both
    /// share one exception. `[rsp]` is the return address there, which a uretprobe needs.
    Return,
    /// At an instruction that ends a call: see [`Ending`].
    Ret,
}

/// What to leave out of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Trace mappings too.
    pub mmap: bool,
    /// Number of the first function: above 0 for objects that are found later.
    pub first_function: u16,
}

/// The program of the kernel side that serves a probe, in the order of attachment.
///
/// Frees come first, so that no block is seen allocated whose free is not. Returns come before
/// entries, so that no call is seen to begin whose end is not; detached in reverse, no call stays
/// pending. Mappings come last, and go first: while allocation calls are not seen, the allocator's
/// own mappings would be taken for the program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// Call of a function that frees.
    FreeEnter,
    /// Return of a function that allocates.
    AllocateReturn,
    /// End of a call of a function that allocates and can throw.
    AllocateRet,
    /// Call of a function that allocates, reallocation included.
    AllocateEnter,
    /// Return of a function that changes mappings.
    MappingReturn,
    /// Call of a function that changes mappings.
    MappingEnter,
    /// Call of the function by which the dynamic linker tells of new objects; no plan has it.
    CodeMapped,
}

/// Probes of one object that one program serves: one uprobe_multi link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Index of the object, as in the [`Detection`].
    pub object: usize,
    /// The program.
    pub program: Program,
    /// The places.
    pub points: Vec<Point>,
}

/// A place of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where in the file the probe stands.
    pub file_offset: u64,
    /// What the program gets to know of the function.
    pub cookie: u64,
}

impl Probe {
    /// The program that serves it.
    pub const fn program(&self) -> Program {
        match (self.call.kind, self.role) {
            (CallKind::Free, _) => Program::FreeEnter,
            (kind, Role::Enter) if kind.is_mapping() => Program::MappingEnter,
            (kind, _) if kind.is_mapping() => Program::MappingReturn,
            (_, Role::Enter) => Program::AllocateEnter,
            (_, Role::Return) => Program::AllocateReturn,
            (_, Role::Ret) => Program::AllocateRet,
        }
    }
}

impl Program {
    /// When its probes fire.
    pub const fn role(self) -> Role {
        match self {
            Self::FreeEnter | Self::AllocateEnter | Self::MappingEnter | Self::CodeMapped => {
                Role::Enter
            }
            Self::AllocateReturn | Self::MappingReturn => Role::Return,
            Self::AllocateRet => Role::Ret,
        }
    }
}

impl ProbePlan {
    /// The probes by program and object, in the order in which they are to be attached. Detach in
    /// the reverse order.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for probe in &self.probes {
            let point = Point {
                file_offset: probe.place_file_offset,
                cookie: probe.call.to_cookie(),
            };
            let program = probe.program();
            let known = groups
                .iter_mut()
                .find(|group| group.object == probe.object && group.program == program);
            match known {
                Some(group) => group.points.push(point),
                None => groups.push(Group {
                    object: probe.object,
                    program,
                    points: vec![point],
                }),
            }
        }
        groups.sort_by_key(|group| (group.program, group.object));
        groups
    }

    /// The enter probe of every function: each function once.
    pub fn functions(&self) -> impl Iterator<Item = &Probe> {
        self.probes.iter().filter(|probe| probe.role == Role::Enter)
    }
}

/// Plans the probes of the process with this index.
///
/// `code(object, file_offset, length)` gives the bytes of a function; where it has none, the probe
/// stands on the function's entry. Functions are numbered in [`Call::function`].
pub fn plan(
    process_index: u16,
    detection: &Detection,
    options: PlanOptions,
    mut code: impl FnMut(usize, u64, usize) -> Option<Vec<u8>>,
) -> ProbePlan {
    let treatments = treatments(detection, &mut code);
    let mut plan = ProbePlan::default();
    for unfollowed in &detection.unfollowed {
        plan.unprobed.push(Unprobed {
            object: unfollowed.object,
            function: unfollowed.name,
            reason: unfollowed.reason.clone(),
            refused_by_kernel: false,
        });
    }
    let wanted = detection
        .functions
        .iter()
        .enumerate()
        .filter(|(_, found)| options.mmap || found.family != Family::Mapping);
    for (place, found) in wanted {
        match treatments.get(&place) {
            Some(Treatment::Covered) => {}
            Some(Treatment::Refused(reason)) => plan.unprobed.push(Unprobed {
                object: found.object,
                function: found.name,
                reason: reason.clone(),
                refused_by_kernel: false,
            }),
            treatment => {
                let index = plan.functions().count();
                let index = options.first_function.saturating_add(index as u16);
                let enter = enter(found, index, process_index, &mut code);
                plan.add(found, enter, treatment);
            }
        }
    }
    plan.note_nesting(options.first_function > 0);
    plan
}

impl ProbePlan {
    fn add(&mut self, found: &FoundFunction, mut enter: Probe, treatment: Option<&Treatment>) {
        // Two symbols can name the same code with and without its endbr64: one probe serves both.
        if self.probes.iter().any(|known| is_same_place(known, &enter)) {
            return;
        }
        match treatment {
            Some(Treatment::AtExits(ends)) => {
                enter.call.ending = Ending::Ret;
                self.probes.push(enter.clone());
                for end in ends {
                    self.add_end(&enter, *end);
                }
            }
            _ if found.signature.is_free() => {
                // Its note is looked for there by the functions that it calls.
                if enter.call.lane == Lane::OPERATORS {
                    enter.call.lane = Lane::MAIN;
                }
                self.probes.push(enter);
            }
            _ => {
                let returns = Probe {
                    role: Role::Return,
                    ..enter.clone()
                };
                self.probes.extend([enter, returns]);
            }
        }
    }

    /// Adds the probe on an end of a function, unless one for another function of its lane stands
    /// there, which serves both.
    fn add_end(&mut self, enter: &Probe, end: End) {
        let end = Probe {
            offset: end.svma.wrapping_sub(enter.svma),
            place_file_offset: end.file_offset,
            call: Call {
                ending: end.ending,
                ..enter.call
            },
            role: Role::Ret,
            step: Step::SingleStepped,
            ..enter.clone()
        };
        let known = self
            .probes
            .iter()
            .any(|known| known.role == Role::Ret && is_same_place(known, &end));
        if !known {
            self.probes.push(end);
        }
    }

    /// Has frees note their block if there is another function that they may call with it.
    fn note_nesting(&mut self, has_others: bool) {
        let frees = |probe: &&mut Probe| {
            probe.call.kind == CallKind::Free && probe.call.lane.pair().is_none()
        };
        if has_others || self.probes.iter_mut().filter(frees).count() > 1 {
            for probe in self.probes.iter_mut().filter(frees) {
                probe.call.nesting = Nesting::Possible;
            }
        }
    }
}

fn enter(
    found: &FoundFunction,
    function: u16,
    process_index: u16,
    code: &mut impl FnMut(usize, u64, usize) -> Option<Vec<u8>>,
) -> Probe {
    let placement = placement(found, code);
    Probe {
        object: found.object,
        function: found.name,
        svma: found.svma,
        entry_file_offset: found.file_offset,
        offset: placement.offset,
        place_file_offset: found.file_offset.saturating_add(placement.offset),
        call: Call {
            lane: lane(found.family),
            ..found.signature.to_call(function, process_index)
        },
        role: Role::Enter,
        step: placement.step,
    }
}

fn placement(
    found: &FoundFunction,
    code: &mut impl FnMut(usize, u64, usize) -> Option<Vec<u8>>,
) -> Placement {
    let whole = (1..=MAX_CODE_BYTES).contains(&found.size_bytes);
    let length = if whole {
        found.size_bytes
    } else {
        MAX_INSTRUCTION_BYTES
    };
    let code = code(found.object, found.file_offset, length as usize).unwrap_or_default();
    if whole && code.len() as u64 == length {
        place(&code, found.svma, found.signature.arguments())
    } else {
        Placement::at_entry(&code)
    }
}

const fn lane(family: Family) -> Lane {
    match family {
        Family::Heap => Lane::MAIN,
        Family::Mapping => Lane::MAPPINGS,
        Family::Operators => Lane::OPERATORS,
        Family::Pair(pair) => Lane::of_pair(pair),
    }
}

fn is_same_place(one: &Probe, other: &Probe) -> bool {
    // A function can belong to the heap and to a pair.
    one.call.lane.ledger() == other.call.lane.ledger()
        && one.object == other.object
        && one.place_file_offset == other.place_file_offset
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

//! Where fields of a kernel structure are, from the kernel's own type information (BTF): rustc
//! emits no CO-RE relocations, and few offsets are needed. One pass over the types; the crates that
//! parse BTF as a whole take 20 to 150 ms, which the user waits for at every start.

use leaktrace_common::process::TaskOffsets;

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

// Numbers of the format, see the kernel's Documentation/bpf/btf.rst.
const MAGIC: u16 = 0xeb9f;
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;
const TYPE_BYTES: usize = 12;
const MEMBER_BYTES: usize = 12;

/// Layout of `task_struct`; `None` when the kernel has no BTF. Then the target's exit code is not
/// known, and forks cannot be followed.
pub(super) fn task_offsets() -> Option<TaskOffsets> {
    let bytes = std::fs::read(KERNEL_BTF).ok()?;
    let types = Types::of(&bytes)?;
    let task = types.structure(|at| types.is_named(at, b"task_struct"))?;
    let shared = types.structure(|at| types.is_named(at, b"signal_struct"))?;
    Some(TaskOffsets {
        exit_code: task.offset(b"exit_code")?,
        pid: task.offset(b"pid")?,
        tgid: task.offset(b"tgid")?,
        mm: task.offset(b"mm")?,
        signal: task.offset(b"signal")?,
        group_leader: task.offset(b"group_leader")?,
        signal_live: shared.offset(b"live")?,
        signal_flags: shared.offset(b"flags")?,
        group_exit_code: shared.offset(b"group_exit_code")?,
        mm_brk: end_of_data_segment(&types).unwrap_or(0),
    })
}

/// `brk` in `mm_struct`, which keeps its members in a structure without a name.
fn end_of_data_segment(types: &Types<'_>) -> Option<u32> {
    let memory = types.structure(|at| types.is_named(at, b"mm_struct"))?;
    if let Some(direct) = memory.offset(b"brk") {
        return Some(direct);
    }
    let mut outer = memory
        .members()
        .filter(|member| types.is_named(*member, b""));
    outer.find_map(|member| {
        let place = types.place_of(word(types.types, member + 4)?)?;
        let inner = types.structure(|at| at == place)?;
        Some(bit_offset(types.types, member)? / 8 + inner.offset(b"brk")?)
    })
}

/// The types of the kernel: their records, one behind the other, and the strings that they name.
struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

/// A structure: where its record is, and how many members it has.
struct Structure<'a> {
    of: &'a Types<'a>,
    at: usize,
    count: usize,
}

impl<'a> Types<'a> {
    fn of(btf: &'a [u8]) -> Option<Self> {
        if u16::from_le_bytes(btf.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let section = |offset_at: usize| -> Option<&[u8]> {
            let start = word(btf, 4)?.checked_add(word(btf, offset_at)?)? as usize;
            btf.get(start..start.checked_add(word(btf, offset_at + 4)? as usize)?)
        };
        Some(Self {
            types: section(8)?,
            strings: section(16)?,
        })
    }

    /// Places of all records.
    fn places(&self) -> impl Iterator<Item = usize> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let at = next;
            let info = word(self.types, at + 4)?;
            next = at + TYPE_BYTES + tail_bytes((info >> 24) & 31, (info & 0xffff) as usize);
            Some(at)
        })
    }

    /// Types are numbered from 1 in the order of their records.
    fn place_of(&self, number: u32) -> Option<usize> {
        self.places().nth((number as usize).checked_sub(1)?)
    }

    fn structure(&'a self, wanted: impl Fn(usize) -> bool) -> Option<Structure<'a>> {
        self.places().find_map(|at| {
            let info = word(self.types, at + 4)?;
            let found = (info >> 24) & 31 == KIND_STRUCT && wanted(at);
            found.then_some(Structure {
                of: self,
                at,
                count: (info & 0xffff) as usize,
            })
        })
    }

    /// Whether the type or member at this place has this name.
    fn is_named(&self, at: usize, wanted: &[u8]) -> bool {
        word(self.types, at).and_then(|at| name(self.strings, at)) == Some(wanted)
    }
}

impl Structure<'_> {
    /// Places of the members' records.
    fn members(&self) -> impl Iterator<Item = usize> {
        let first = self.at + TYPE_BYTES;
        (0..self.count).map(move |index| first + index * MEMBER_BYTES)
    }

    /// Offset in bytes of a member that it has directly; not for bit fields.
    fn offset(&self, member: &[u8]) -> Option<u32> {
        let found = self.members().find(|at| self.of.is_named(*at, member))?;
        Some(bit_offset(self.of.types, found)? / 8)
    }
}

/// The upper byte of what a member's record says is the size of a bit field.
fn bit_offset(types: &[u8], member: usize) -> Option<u32> {
    Some(word(types, member + 8)? & 0xff_ffff)
}

/// Bytes behind the common part of a type.
const fn tail_bytes(kind: u32, count: usize) -> usize {
    match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => count * 12,
        KIND_ENUM | KIND_FUNC_PROTO => count * 8,
        _ => 0,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn name(strings: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = strings.get(offset as usize..)?;
    rest.split(|byte| *byte == 0).next()
}

/// Whether a uprobe_multi link hits all threads of its process. Before 6.10 its pid filter
/// compared threads, so that only the main thread would be seen; then perf events are used.
pub(super) fn multi_attach_works(release: &str) -> bool {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (major, minor) >= (6, 10)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn multi_attach_is_used_from_6_10_on() {
        assert!(multi_attach_works("6.18.44-fc"));
        assert!(multi_attach_works("6.10.0"));
        assert!(multi_attach_works("7.2.1-cloud-amd64"));
        assert!(!multi_attach_works("6.6.30"));
        assert!(!multi_attach_works("6.1.0-31-amd64"));
        assert!(!multi_attach_works("not a version"));
    }

    #[test]
    fn members_are_where_this_kernel_has_them() {
        let Ok(bytes) = std::fs::read(KERNEL_BTF) else {
            return; // A kernel without BTF has nothing to compare with.
        };
        let types = Types::of(&bytes).unwrap();
        let of = |structure: &[u8], member: &[u8]| {
            let found = types.structure(|at| types.is_named(at, structure));
            found.unwrap().offset(member)
        };
        let task = |member: &[u8]| of(b"task_struct", member);
        // linux/sched.h declares exit_state, exit_code and exit_signal one after the other, and
        // pid and tgid.
        assert_eq!(task(b"exit_signal"), task(b"exit_code").map(|at| at + 4));
        assert_eq!(task(b"tgid"), task(b"pid").map(|at| at + 4));
        assert_eq!(task(b"no_such"), None);
        assert!(end_of_data_segment(&types).is_some_and(|at| at > 0));
    }

    #[test]
    fn damaged_type_information_is_no_panic() {
        let whole = std::fs::read(KERNEL_BTF).unwrap_or_default();
        for length in [0, 1, 2, 8, 23, 24, 25, 1000, whole.len() / 2] {
            let cut = &whole[..length.min(whole.len())];
            assert!(Types::of(cut).is_none());
        }
    }
}

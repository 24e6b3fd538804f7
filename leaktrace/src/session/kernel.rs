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
    let members: [&[u8]; 4] = [b"exit_code", b"pid", b"tgid", b"mm"];
    let [exit_code, pid, tgid, mm] = member_offsets(&bytes, b"task_struct", members)?;
    Some(TaskOffsets {
        exit_code: exit_code?,
        pid: pid?,
        tgid: tgid?,
        mm: mm?,
    })
}

/// Offsets in bytes of members that a structure has directly; `None` when it is not there. Members
/// of anonymous structures inside it are not looked at, nor are bit fields.
fn member_offsets<const N: usize>(
    btf: &[u8],
    structure: &[u8],
    wanted: [&[u8]; N],
) -> Option<[Option<u32>; N]> {
    if u16::from_le_bytes(btf.get(..2)?.try_into().ok()?) != MAGIC {
        return None;
    }
    let section = |offset_at: usize| -> Option<&[u8]> {
        let start = word(btf, 4)?.checked_add(word(btf, offset_at)?)? as usize;
        btf.get(start..start.checked_add(word(btf, offset_at + 4)? as usize)?)
    };
    let (types, strings) = (section(8)?, section(16)?);
    let mut at = 0;
    while at + TYPE_BYTES <= types.len() {
        let info = word(types, at + 4)?;
        let (kind, count) = ((info >> 24) & 31, (info & 0xffff) as usize);
        if kind == KIND_STRUCT && name(strings, word(types, at)?) == Some(structure) {
            let members = at + TYPE_BYTES;
            let entries = (0..count).map(|index| members + index * MEMBER_BYTES);
            return Some(wanted.map(|member| {
                let mut of_name = entries.clone().filter(|entry| {
                    word(types, *entry).and_then(|at| name(strings, at)) == Some(member)
                });
                // The upper byte is the size of a bit field.
                let bits = word(types, of_name.next()? + 8)?;
                Some((bits & 0xff_ffff) / 8)
            }));
        }
        at += TYPE_BYTES + tail_bytes(kind, count);
    }
    None
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
    fn the_exit_code_is_where_this_kernel_has_it() {
        let Ok(bytes) = std::fs::read(KERNEL_BTF) else {
            return; // A kernel without BTF has nothing to compare with.
        };
        let members: [&[u8]; 5] = [b"exit_code", b"exit_signal", b"pid", b"tgid", b"no_such"];
        let Some([exit_code, exit_signal, pid, tgid, none]) =
            member_offsets(&bytes, b"task_struct", members)
        else {
            panic!("there is no task_struct");
        };
        // linux/sched.h declares exit_state, exit_code and exit_signal one after the other, and
        // pid and tgid.
        assert_eq!(exit_signal, exit_code.map(|offset| offset + 4));
        assert_eq!(tgid, pid.map(|offset| offset + 4));
        assert_eq!(none, None);
    }

    #[test]
    fn damaged_type_information_is_no_panic() {
        let whole = std::fs::read(KERNEL_BTF).unwrap_or_default();
        for length in [0, 1, 2, 8, 23, 24, 25, 1000, whole.len() / 2] {
            let cut = &whole[..length.min(whole.len())];
            let members: [&[u8]; 1] = [b"exit_code"];
            assert_eq!(member_offsets(cut, b"task_struct", members), None);
        }
    }
}

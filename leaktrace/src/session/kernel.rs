//! Where fields of kernel structures are, from the kernel's own type information (BTF). rustc
//! emits no CO-RE relocations, so the one offset that is needed is looked up here.

use btf_rs::{Btf, Type};

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Offset in bytes of `task_struct::exit_code`; `None` when the kernel has no BTF, and then the
/// target's exit code is not known.
pub(super) fn task_exit_code_offset() -> Option<u32> {
    // Read at once: btf-rs reads a file in pieces of a page, which takes four times as long.
    let btf = Btf::from_bytes(&std::fs::read(KERNEL_BTF).ok()?).ok()?;
    btf.resolve_types_by_name("task_struct")
        .ok()?
        .into_iter()
        .find_map(|found| match found {
            Type::Struct(task) => offset_bits(&btf, &task, "exit_code"),
            _ => None,
        })
        .map(|bits| bits / 8)
}

/// Looks through anonymous members too: structure randomisation wraps fields into one.
fn offset_bits(btf: &Btf, structure: &btf_rs::Struct, field: &str) -> Option<u32> {
    structure.members.iter().find_map(|member| {
        match btf.resolve_name(member) {
            Ok(name) if name == field => return Some(member.bit_offset()),
            Ok(name) if !name.is_empty() => return None,
            _ => {}
        }
        match btf.resolve_chained_type(member).ok()? {
            Type::Struct(inner) | Type::Union(inner) => {
                Some(member.bit_offset() + offset_bits(btf, &inner, field)?)
            }
            _ => None,
        }
    })
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
}

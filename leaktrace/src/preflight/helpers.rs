//! Which functions the kernel offers to BPF programs: asked of its verifier, because distributions
//! bring newer ones to older releases. Loads programs of two instructions and runs none.

/// Numbers of the functions that not every supported kernel has.
const GET_ATTACH_COOKIE: i32 = 174;
const LOOP: i32 = 181;
const FIND_VMA: i32 = 180;

/// Names of what this kernel is to be taken to lack, with commas between them: for tests.
const LACKS: &str = "LEAKTRACE_KERNEL_LACKS";

const LOG_BYTES: usize = 4096;

/// What the kernel offers; a field is absent when it would not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Helpers {
    /// `bpf_get_attach_cookie` (Linux 5.15).
    pub attach_cookie: Option<bool>,
    /// `bpf_loop` (Linux 5.17).
    pub bpf_loop: Option<bool>,
    /// `bpf_find_vma` (Linux 5.17).
    pub bpf_find_vma: Option<bool>,
}

impl Helpers {
    /// Asks the kernel that runs.
    pub(super) fn collect() -> Self {
        let lacks = std::env::var(LACKS).unwrap_or_default();
        let ask = |name: &str, number| match lacks.split(',').any(|word| word == name) {
            true => Some(false),
            false => offers(number),
        };
        Self {
            attach_cookie: ask("bpf_get_attach_cookie", GET_ATTACH_COOKIE),
            bpf_loop: ask("bpf_loop", LOOP),
            bpf_find_vma: ask("bpf_find_vma", FIND_VMA),
        }
    }
}

/// The part of the kernel's `union bpf_attr` that BPF_PROG_LOAD needs.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
}

/// A program that calls the function is refused in any case, because it hands over no arguments. What
/// the verifier says first tells whether it knows the function.
fn offers(number: i32) -> Option<bool> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_KPROBE: u32 = 2;
    const CALL: u64 = 0x85;
    const EXIT: u64 = 0x95;
    let instructions = [CALL | u64::from(number.cast_unsigned()) << 32, EXIT];
    let mut log = [0u8; LOG_BYTES];
    let attributes = ProgramLoad {
        program_type: BPF_PROG_TYPE_KPROBE,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 1,
        log_bytes: LOG_BYTES as u32,
        log: log.as_mut_ptr() as u64,
    };
    // SAFETY: the attributes and what they point to outlive the call, and the sizes are theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of::<ProgramLoad>(),
        )
    };
    if let Ok(descriptor) = i32::try_from(result)
        && descriptor >= 0
    {
        // SAFETY: the call has just returned this descriptor, and nothing else knows it.
        drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(descriptor) });
        return Some(true);
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(LOG_BYTES);
    judge(&String::from_utf8_lossy(&log[..end]))
}

fn judge(log: &str) -> Option<bool> {
    let unknown = ["unknown func", "invalid func", "cannot use helper"];
    match log.trim().is_empty() {
        // It was refused before the verifier looked at it.
        true => None,
        false => Some(!unknown.iter().any(|words| log.contains(words))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_first_complaint_tells_whether_it_knows_a_function() {
        // Linux 5.10, 6.1 and 6.18 on functions that they do not have and one that they have.
        for log in [
            "0: (85) call unknown#174\ninvalid func unknown#174\nprocessed 1 insns",
            "0: (85) call bpf_loop#181\nunknown func bpf_loop#181",
            "program of this type cannot use helper bpf_loop#181",
        ] {
            assert_eq!(judge(log), Some(false), "{log}");
        }
        let has = "0: R1=ctx() R10=fp0\n0: (85) call bpf_loop#181\nR1 type=ctx expected=scalar";
        assert_eq!(judge(has), Some(true));
        assert_eq!(judge(""), None);
    }
}

//! The floor: an empty return probe on malloc and an empty probe on free, both at instructions that
//! the kernel emulates. No tracer that sees each call can cost less. Kept apart from leaktrace, so
//! that what leaktrace is measured with is not made of leaktrace.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileExt},
    },
};

use anyhow::{Context, Result};

use super::target::{Function, Target};

/// The probes; dropping them detaches them.
pub(super) struct Floor {
    _probes: [OwnedFd; 2],
}

/// Attaches the floor to a target.
pub(super) fn attach(target: &Target) -> Result<Floor> {
    let program = load_empty_program().context("cannot load an empty BPF program")?;
    let probe = |function, returns| {
        open_probe(target.pid(), function, returns, &program)
            .context("cannot attach an empty probe")
    };
    Ok(Floor {
        _probes: [probe(&target.malloc, true)?, probe(&target.free, false)?],
    })
}

/// `struct bpf_attr` of BPF_PROG_LOAD up to its log buffer; the kernel takes the rest as zero.
#[repr(C)]
struct ProgramAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// `struct perf_event_attr` up to `config2`, of which uprobes need the path and the offset.
#[repr(C)]
#[derive(Default)]
struct EventAttributes {
    event_type: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    path: u64,
    offset: u64,
}

fn load_empty_program() -> io::Result<OwnedFd> {
    const BPF_PROG_LOAD: i32 = 5;
    const BPF_PROG_TYPE_KPROBE: u32 = 2;
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let attributes = ProgramAttributes {
        program_type: BPF_PROG_TYPE_KPROBE,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    // SAFETY: the attributes and what they point to outlive the call, and the size is theirs.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    owned(fd)
}

fn open_probe(pid: u32, function: &Function, returns: bool, program: &OwnedFd) -> Result<OwnedFd> {
    const ANY_CPU: libc::c_long = -1;
    const NO_GROUP: libc::c_long = -1;
    const PERF_FLAG_FD_CLOEXEC: libc::c_long = 8;
    const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
    const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
    let path = CString::new(function.object.as_os_str().as_bytes())?;
    let kind = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")?;
    let attributes = EventAttributes {
        event_type: kind.trim().parse()?,
        size: size_of::<EventAttributes>() as u32,
        config: u64::from(returns),
        path: path.as_ptr() as u64,
        offset: function.file_offset + emulated(function)?,
        ..Default::default()
    };
    // SAFETY: the attributes and the path that they point to outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            libc::c_long::from(pid),
            ANY_CPU,
            NO_GROUP,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let event = owned(fd)?;
    // SAFETY: the request takes a descriptor by value, and both are open.
    check(unsafe {
        libc::ioctl(
            event.as_raw_fd(),
            PERF_EVENT_IOC_SET_BPF,
            program.as_raw_fd(),
        )
    })?;
    // SAFETY: the request takes no pointer, and the descriptor is open.
    check(unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) })?;
    Ok(event)
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn emulated(function: &Function) -> Result<u64> {
    let mut code = [0; 32];
    fs::File::open(&function.object)?.read_exact_at(&mut code, function.file_offset)?;
    first_emulated(&code).with_context(|| {
        format!(
            "{} begins with no instruction that the kernel emulates: {code:02x?}",
            function.object.display()
        )
    })
}

/// Distance from the entry to the first instruction that the kernel emulates. Walks only over what
/// the allocation functions of C libraries begin with; anything else ends the walk.
fn first_emulated(code: &[u8]) -> Option<u64> {
    let mut at = 0;
    loop {
        match code.get(at..)? {
            // push, nop, jcc, also with a REX prefix
            [0x50..=0x57 | 0x70..=0x7f | 0x90, ..]
            | [0x41, 0x50..=0x57, ..]
            | [0x0f, 0x80..=0x8f, ..] => return Some(at as u64),
            // endbr64
            [0xf3, 0x0f, 0x1e, 0xfa, ..] => at += 4,
            // test, register with register
            [0x48, 0x85, 0xc0..=0xff, ..] => at += 3,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_the_floor_sit_on_emulated_instructions() {
        // glibc 2.36: malloc is `push r12`, free is `test rdi,rdi; je`.
        assert_eq!(first_emulated(&[0x41, 0x54, 0x55]), Some(0));
        assert_eq!(
            first_emulated(&[0x48, 0x85, 0xff, 0x0f, 0x84, 0, 0, 0, 0]),
            Some(3)
        );
        // The same built for CET.
        assert_eq!(first_emulated(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55]), Some(4));
        assert_eq!(first_emulated(&[0x31, 0xc0, 0xc3]), None);
    }
}

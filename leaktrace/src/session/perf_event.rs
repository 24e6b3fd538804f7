//! Perf events of the kernel's trace events, and programs linked to them. Knows neither uprobes nor
//! system calls.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use aya_obj::generated::{bpf_attach_type, bpf_cmd};

use super::syscall::{bpf_fd, no_attributes};

// Of the kernel's linux/perf_event.h.
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// Whether threads and processes that the event's thread makes get the event too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inherit {
    Yes,
    No,
}

/// An event of one thread and, inherited, of all that it makes.
pub(super) fn open_event(id: u64, thread: u32, inherit: Inherit) -> io::Result<OwnedFd> {
    let mut attributes = aya_obj::generated::perf_event_attr {
        type_: aya_obj::generated::perf_type_id::PERF_TYPE_TRACEPOINT as u32,
        size: u32::try_from(size_of::<aya_obj::generated::perf_event_attr>())
            .map_err(io::Error::other)?,
        config: id,
        // SAFETY: a struct of plain integers; all zeros is a value of it.
        ..unsafe { std::mem::zeroed() }
    };
    attributes.set_inherit(u64::from(inherit == Inherit::Yes));
    let (any_cpu, no_group) = (-1, -1);
    // SAFETY: the attributes live during the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            thread,
            any_cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn link(program: &impl AsFd, event: i32, cookie: u64) -> io::Result<OwnedFd> {
    let mut attributes = no_attributes();
    attributes.link_create.__bindgen_anon_1.prog_fd = program.as_fd().as_raw_fd().cast_unsigned();
    attributes.link_create.__bindgen_anon_2.target_fd = event.cast_unsigned();
    attributes.link_create.attach_type = bpf_attach_type::BPF_PERF_EVENT as u32;
    attributes
        .link_create
        .__bindgen_anon_3
        .perf_event
        .bpf_cookie = cookie;
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attributes)
}

//! Perf events of the kernel's trace events, and programs linked to them. Knows neither uprobes nor
//! system calls.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use aya_obj::generated::perf_event_sample_format::{PERF_SAMPLE_READ, PERF_SAMPLE_TID};
use aya_obj::generated::{bpf_attach_type, bpf_cmd, perf_event_attr};

use super::syscall::{bpf_fd, no_attributes};

// Of the kernel's linux/perf_event.h.
const PERF_FLAG_FD_CLOEXEC: u64 = 8;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
const PERF_EVENT_IOC_SET_FILTER: libc::Ioctl = 0x4008_2406;

/// Whether threads and processes that the event's thread makes get the event too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Inherit {
    Yes(Exchange),
    No,
}

/// An event that counts nothing. Processes do not inherit it, which sets them apart: see [`open_dummy`].
pub(super) type Dummy = OwnedFd;

/// Whether the kernel exchanges the inherited events of two threads when it switches from one to the other,
/// instead of putting those of one away and taking those of the other out.
///
/// A uprobe stays in a process as long as an event was opened for one of its threads. After an exchange the
/// events that go with a thread that ends may be those that were opened for the other one, which then
/// loses its probes, although it has events (seen on 6.18: of a hundred grandchildren in pairs on one processor,
/// 98 were not counted at all). Events that are read with their samples are not exchanged; older kernels
/// (6.1) refuse to inherit those.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Exchange {
    Never,
    Possible,
}

/// An event of one thread and, inherited, of all that it makes.
pub(super) fn open_event(id: u64, thread: u32, inherit: Inherit) -> io::Result<OwnedFd> {
    let mut attributes = attributes()?;
    attributes.type_ = aya_obj::generated::perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attributes.config = id;
    if let Inherit::Yes(exchange) = inherit {
        attributes.set_inherit(1);
        if exchange == Exchange::Never {
            attributes.sample_type = PERF_SAMPLE_TID as u64 | PERF_SAMPLE_READ as u64;
        }
    }
    open(&attributes, thread)
}

/// Has the events that a thread has by now never exchanged: those of one that an event was opened for by
/// itself are not taken for a copy of another's. Nor are, while the dummy is open, those of the processes
/// that this thread and the threads that it makes fork: these lack one.
pub(super) fn open_dummy(thread: u32) -> io::Result<Dummy> {
    let mut attributes = attributes()?;
    attributes.type_ = aya_obj::generated::perf_type_id::PERF_TYPE_SOFTWARE as u32;
    attributes.config = PERF_COUNT_SW_DUMMY;
    attributes.set_inherit(1);
    attributes.set_inherit_thread(1);
    open(&attributes, thread)
}

/// A trace event on one processor, of whatever process, whose samples have these parts. Only what passes the
/// filter is in its records, from now on.
pub(super) fn open_filtered(
    id: u64,
    processor: u32,
    sample_type: u64,
    filter: &CStr,
) -> io::Result<OwnedFd> {
    let mut attributes = attributes()?;
    attributes.type_ = aya_obj::generated::perf_type_id::PERF_TYPE_TRACEPOINT as u32;
    attributes.config = id;
    attributes.sample_type = sample_type;
    attributes.__bindgen_anon_1.sample_period = 1;
    attributes.set_disabled(1);
    let any_thread = -1;
    let processor = i32::try_from(processor).map_err(io::Error::other)?;
    let event = open_on(&attributes, any_thread, processor)?;
    // SAFETY: the filter is a string that lives during the call.
    set(unsafe {
        libc::ioctl(
            event.as_raw_fd(),
            PERF_EVENT_IOC_SET_FILTER,
            filter.as_ptr(),
        )
    })?;
    // SAFETY: the call takes a number alone.
    set(unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) })?;
    Ok(event)
}

fn set(result: i32) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn attributes() -> io::Result<perf_event_attr> {
    Ok(perf_event_attr {
        size: u32::try_from(size_of::<perf_event_attr>()).map_err(io::Error::other)?,
        // SAFETY: a struct of plain integers; all zeros is a value of it.
        ..unsafe { std::mem::zeroed() }
    })
}

fn open(attributes: &perf_event_attr, thread: u32) -> io::Result<OwnedFd> {
    let any_processor = -1;
    open_on(attributes, thread.cast_signed(), any_processor)
}

fn open_on(attributes: &perf_event_attr, thread: i32, processor: i32) -> io::Result<OwnedFd> {
    let no_group = -1;
    // SAFETY: the attributes live during the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const *attributes,
            thread,
            processor,
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

//! The bpf() calls that aya 0.14 does not make: loading a uprobe program for multi attachment,
//! creating that link, and reading a map in batches.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// Calls bpf() and returns what it returned.
///
/// # Errors
///
/// The error that the kernel gave.
pub(super) fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<i64> {
    // SAFETY: `bpf_attr` is the kernel's type, at least as large as any command reads; pointers
    // in it are the caller's, who keeps what they point to alive during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_mut(attributes),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Calls bpf() with a command that returns a file descriptor.
///
/// # Errors
///
/// The error that the kernel gave.
pub(super) fn bpf_fd(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: these commands return a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An attribute block of zeros, which the kernel takes as "not given".
pub(super) fn no_attributes() -> bpf_attr {
    // SAFETY: a union of plain integers and integer structs; all zeros is a value of each.
    unsafe { std::mem::zeroed() }
}

//! Tells the code that handlers of signals return to from all other code, by its bytes:
//! C libraries do not export its name, and musl describes it nowhere. Names
//! nothing.

use crate::target::Object;

/// `mov $15, %rax; syscall`: rt_sigreturn, as glibc and musl have it.
#[cfg(target_arch = "x86_64")]
const SIGNAL_RETURN: &[u8] = &[0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];

/// `mov x8, #139; svc #0`: rt_sigreturn.
#[cfg(target_arch = "aarch64")]
const SIGNAL_RETURN: &[u8] = &[0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4];

/// Whether the code at this offset of an object returns from a signal.
pub(super) fn is_signal_return(object: &Object, file_offset: u64) -> bool {
    let code = object.code(file_offset, SIGNAL_RETURN.len());
    code.is_ok_and(|code| code == SIGNAL_RETURN)
}

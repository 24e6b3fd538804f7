//! Keeps leaktrace alive when a file is truncated while the symboliser has it mapped: its owner may
//! do that at any time, and the kernel answers a read behind the new end with SIGBUS. The page reads
//! as zeros instead, and the fault is counted. Changes nothing about any other cause of SIGBUS.

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

static FAULTS: AtomicU64 = AtomicU64::new(0);

/// Asked for beforehand: a signal handler may call next to nothing.
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// From now on, what is missing of a mapped file reads as zeros.
pub(super) fn survive() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        PAGE_BYTES.store(rustix::param::page_size(), Ordering::Relaxed);
        // SAFETY: all zeros is a value of this C structure.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = fill_page as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: the handler has the signature that SA_SIGINFO asks for, and calls what a signal
        // handler may call.
        let installed = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
        if installed != 0 {
            let error = io::Error::last_os_error();
            log::warn!("failed to catch SIGBUS: {error}; a file that is truncated while it is read ends leaktrace");
        }
    });
}

/// How often a page was missing so far.
pub(super) fn faults() -> u64 {
    FAULTS.load(Ordering::Relaxed)
}

/// Puts a page of zeros where a file's page is gone; the read then happens again. Everything else
/// gets what it would have got without us: the default action, when the instruction faults again.
extern "C" fn fill_page(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler that was installed with SA_SIGINFO.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    if code == libc::BUS_ADRERR && page_bytes > 0 {
        let page = address & !(page_bytes - 1);
        // SAFETY: the page belongs to a mapping of a file that has no such page any more, so
        // nothing is replaced that could be read; mmap is a bare system call.
        let filled = unsafe {
            libc::mmap(
                page as *mut libc::c_void,
                page_bytes,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if filled != libc::MAP_FAILED {
            FAULTS.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
    // SAFETY: sets the default action, which a handler may do.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

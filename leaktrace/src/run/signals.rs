//! Signals to leaktrace: Ctrl-C, SIGTERM, the terminal's end, and with a command all that it is to
//! be passed. Tells who has sent them, which the event loop's own signals do not.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::Context;
use tokio::io::unix::AsyncFd;

/// Signals that end a session.
const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Signals that are only passed on to a command, besides the real-time signals.
const PASSED: [i32; 6] = [
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// The writing end of the pipe that signals come through.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// A signal, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caught {
    /// Its number.
    pub(super) number: i32,
    /// `si_code` of its siginfo, see sigaction(2).
    pub(super) code: i32,
}

impl Caught {
    const BYTES: usize = 8;

    /// Whether a terminal has sent it, as to all processes in its foreground.
    pub(super) fn is_of_terminal(self) -> bool {
        [libc::SIGINT, libc::SIGQUIT, libc::SIGWINCH].contains(&self.number)
            && self.code == libc::SI_KERNEL
    }

    /// Whether a session without a command ends with it.
    pub(super) fn ends(self) -> bool {
        ENDING.contains(&self.number)
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        (u64::from(self.number.cast_unsigned()) << 32 | u64::from(self.code.cast_unsigned()))
            .to_ne_bytes()
    }

    fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let both = u64::from_ne_bytes(bytes);
        Self {
            number: ((both >> 32) as u32).cast_signed(),
            code: (both as u32).cast_signed(),
        }
    }
}

/// The signals that are waited for.
pub(super) struct Signals {
    pipe: AsyncFd<OwnedFd>,
    // Closed after the handlers have been told.
    writer: OwnedFd,
}

impl Signals {
    /// Catches what ends a session, and with a command also what is only passed on to it.
    ///
    /// # Errors
    ///
    /// When the system has no room for it.
    pub(super) fn new(with_command: bool) -> anyhow::Result<Self> {
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (reader, writer) =
            rustix::pipe::pipe_with(flags).context("failed to make a pipe for signals")?;
        PIPE.store(writer.as_raw_fd(), Ordering::SeqCst);
        let passed = PASSED
            .into_iter()
            .chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
            .filter(|_| with_command);
        for number in ENDING.into_iter().chain(passed) {
            catch(number).context("failed to catch signals")?;
        }
        // SAFETY: an OwnedFd refers to the same open file until it is dropped, which the AsyncFd that
        // owns it does after it has deregistered.
        let pipe =
            unsafe { AsyncFd::register_with_interest(reader, tokio::io::Interest::READABLE) }
                .map_err(io::Error::from)
                .context("failed to wait for signals")?;
        Ok(Self { pipe, writer })
    }

    /// The next signal.
    ///
    /// # Errors
    ///
    /// When signals cannot be waited for.
    pub(super) async fn next(&mut self) -> anyhow::Result<Caught> {
        loop {
            let mut ready = self
                .pipe
                .readable()
                .await
                .context("failed to wait for signals")?;
            let mut bytes = [0; Caught::BYTES];
            // What fits into a pipe at once is read at once.
            match rustix::io::read(ready.get_inner(), &mut bytes) {
                Ok(Caught::BYTES) => return Ok(Caught::from_bytes(bytes)),
                _ => ready.clear_ready(),
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // A signal that comes later is too late for everybody.
        let _ = PIPE.compare_exchange(
            self.writer.as_raw_fd(),
            -1,
            Ordering::SeqCst,
            Ordering::SeqCst,
        );
    }
}

/// What was ignored at the start stays ignored: nohup, and jobs in the background.
fn catch(number: i32) -> io::Result<()> {
    // SAFETY: all zeros is a value of this C structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks for the present action and changes none.
    if unsafe { libc::sigaction(number, std::ptr::null(), &raw mut action) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if action.sa_sigaction == libc::SIG_IGN {
        return Ok(());
    }
    // SAFETY: as above.
    action = unsafe { std::mem::zeroed() };
    action.sa_sigaction = caught as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler has the type that SA_SIGINFO asks for, and makes one system call.
    if unsafe { libc::sigaction(number, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Writes the signal into the pipe. One that does not fit is lost, as when a signal is sent twice.
extern "C" fn caught(number: i32, info: *const libc::siginfo_t, _context: *const libc::c_void) {
    // SAFETY: the kernel passes the signal's information.
    let code = unsafe { (*info).si_code };
    let bytes = Caught { number, code }.to_bytes();
    // SAFETY: errno is the interrupted thread's, and is put back.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    // SAFETY: write is async-signal-safe, and the bytes live during the call.
    unsafe {
        libc::write(
            PIPE.load(Ordering::SeqCst),
            bytes.as_ptr().cast(),
            bytes.len(),
        )
    };
    // SAFETY: as above.
    unsafe { *errno = before };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_terminal_sends_is_not_passed_on() {
        let caught = |number, code| Caught { number, code };
        assert!(caught(libc::SIGINT, libc::SI_KERNEL).is_of_terminal());
        assert!(!caught(libc::SIGINT, libc::SI_USER).is_of_terminal());
        assert!(!caught(libc::SIGTERM, libc::SI_KERNEL).is_of_terminal());
        assert!(caught(libc::SIGHUP, libc::SI_USER).ends());
        assert!(!caught(libc::SIGUSR1, libc::SI_USER).ends());
    }

    #[test]
    fn a_signal_comes_out_of_the_pipe_as_it_went_in() {
        let caught = Caught {
            number: 64,
            code: libc::SI_QUEUE,
        };
        assert!(caught.code < 0);
        assert_eq!(Caught::from_bytes(caught.to_bytes()), caught);
    }
}

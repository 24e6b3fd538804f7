//! Waits for the ends of the traced processes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;

/// The processes whose end is waited for, by pid.
#[derive(Default)]
pub(super) struct Exits {
    waiting: Vec<(u32, AsyncFd<OwnedFd>)>,
}

impl Exits {
    /// Waits for this process too.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub(super) fn add(&mut self, pid: u32, pidfd: BorrowedFd<'_>) -> anyhow::Result<()> {
        if self.waiting.iter().all(|(known, _)| *known != pid) {
            self.waiting.push((pid, watch_fd(pidfd)?));
        }
        Ok(())
    }

    /// Whether nothing is left to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Until one of them has ended.
    pub(super) async fn any(&self) {
        std::future::poll_fn(|context| {
            let mut fds = self.waiting.iter();
            match fds.any(|(_, fd)| fd.poll_read_ready(context).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }

    /// Those that have ended by now; they are not waited for any more. Asks the kernel, not the event
    /// loop, which may not have had the time to look.
    pub(super) fn ended_by_now(&mut self) -> Vec<u32> {
        let has_ended = |fd: &AsyncFd<OwnedFd>| {
            let mut fds = [PollFd::new(fd.get_ref(), PollFlags::IN)];
            // An error leaves it to be waited for.
            poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        let ended = self.waiting.extract_if(.., |(_, fd)| has_ended(fd));
        ended.map(|(pid, _)| pid).collect()
    }

    /// Waits for this process no more.
    pub(super) fn forget(&mut self, pid: u32) {
        self.waiting.retain(|(known, _)| *known != pid);
    }
}

/// Waits on a copy of the descriptor, so that it cannot be closed while it is waited for.
///
/// # Errors
///
/// When there is no descriptor left.
pub(super) fn watch_fd(fd: BorrowedFd<'_>) -> anyhow::Result<AsyncFd<OwnedFd>> {
    let copy = fd
        .try_clone_to_owned()
        .context("failed to copy a descriptor")?;
    // SAFETY: an OwnedFd refers to the same open file until it is dropped, which the AsyncFd that
    // owns it does after it has deregistered.
    unsafe { AsyncFd::register_with_interest(copy, tokio::io::Interest::READABLE) }
        .map_err(io::Error::from)
        .context("failed to wait for a descriptor")
}

/// Waits until the descriptor is readable; for ever when there is none.
///
/// # Errors
///
/// When it cannot be waited for.
pub(super) async fn readable(fd: Option<&AsyncFd<OwnedFd>>) -> io::Result<()> {
    match fd {
        Some(fd) => {
            fd.readable().await?.clear_ready();
            Ok(())
        }
        None => std::future::pending().await,
    }
}

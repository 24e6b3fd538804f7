//! Waits for the ends of the traced processes.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;

/// A process of the session from its beginning to its end. Its pid can be another one's by the time that
/// its end is dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Life(u64);

/// The processes whose end is waited for.
#[derive(Default)]
pub(super) struct Exits {
    waiting: Vec<(Life, AsyncFd<OwnedFd>)>,
    lives: u64,
}

impl Exits {
    /// Waits for this process too, if it can be waited for; each is to be added once.
    ///
    /// # Errors
    ///
    /// When there is no descriptor left.
    pub(super) fn add(&mut self, pidfd: Option<BorrowedFd<'_>>) -> anyhow::Result<Life> {
        self.lives += 1;
        let life = Life(self.lives);
        if let Some(pidfd) = pidfd {
            self.waiting.push((life, watch_fd(pidfd)?));
        }
        Ok(life)
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
    pub(super) fn ended_by_now(&mut self) -> Vec<Life> {
        let has_ended = |fd: &AsyncFd<OwnedFd>| {
            let mut fds = [PollFd::new(fd.get_ref(), PollFlags::IN)];
            // An error leaves it to be waited for.
            poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        };
        let ended = self.waiting.extract_if(.., |(_, fd)| has_ended(fd));
        ended.map(|(life, _)| life).collect()
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    fn waits() -> (Child, OwnedFd) {
        let child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        (child, pidfd)
    }

    #[tokio::test]
    async fn each_process_is_waited_for_whatever_its_pid() {
        let mut exits = Exits::default();
        let (mut first, first_fd) = waits();
        let first_life = exits.add(Some(first_fd.as_fd())).unwrap();
        drop(first.stdin.take());
        first.wait().unwrap();
        // The pid is free again, and the end not dealt with yet.
        let (mut second, second_fd) = waits();
        let second_life = exits.add(Some(second_fd.as_fd())).unwrap();
        assert_eq!(exits.ended_by_now(), [first_life]);
        assert!(!exits.is_empty());
        drop(second.stdin.take());
        second.wait().unwrap();
        exits.any().await;
        assert_eq!(exits.ended_by_now(), [second_life]);
        assert!(exits.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_waited_for_keeps_nobody_waiting() {
        let mut exits = Exits::default();
        let gone = exits.add(None).unwrap();
        assert!(exits.is_empty());
        assert_ne!(gone, exits.add(None).unwrap());
    }
}

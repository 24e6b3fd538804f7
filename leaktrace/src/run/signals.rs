//! Signals to leaktrace: Ctrl-C, SIGTERM, the terminal's end, and with a command all that it is to
//! be passed.

use std::io;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are waited for.
pub(super) struct Signals {
    list: Vec<(SignalKind, Signal)>,
}

impl Signals {
    /// Catches what ends a session, and with a command also what is only passed on to it.
    ///
    /// # Errors
    ///
    /// When the system has no room for it.
    pub(super) fn new(with_command: bool) -> anyhow::Result<Self> {
        let ending = [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ];
        let passed = [
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ];
        let passed = passed.into_iter().filter(|_| with_command);
        // What was ignored at the start stays ignored: nohup, and jobs in the background.
        let list: io::Result<Vec<_>> = ending
            .into_iter()
            .chain(passed)
            .filter(|kind| !is_ignored(*kind))
            .map(|kind| signal(kind).map(|stream| (kind, stream)))
            .collect();
        Ok(Self {
            list: list.context("failed to catch signals")?,
        })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> SignalKind {
        std::future::poll_fn(|context| {
            for (kind, stream) in &mut self.list {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*kind);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

fn is_ignored(kind: SignalKind) -> bool {
    // SAFETY: all zeros is a value of this C structure.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks for the present action and changes none.
    let asked = unsafe { libc::sigaction(kind.as_raw_value(), std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

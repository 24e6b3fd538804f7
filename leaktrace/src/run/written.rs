//! Output that is not waited for: a thread writes, so that a reader who has stopped (a
//! pager, a terminal on hold) stops neither the counting nor Ctrl-C. Knows nothing of what it writes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use anyhow::Context;
use tokio::sync::oneshot;

/// Text of this size may wait for the reader, bytes; what can be left out then is left out.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// What became of a piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It will be written.
    Queued,
    /// The reader is too far behind.
    LeftOut,
}

/// Text on its way to a file that may block.
pub(super) struct Written {
    queue: Option<mpsc::Sender<Vec<u8>>>,
    shared: Arc<Shared>,
    done: oneshot::Receiver<()>,
}

#[derive(Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    failure: Mutex<Option<io::Error>>,
}

impl Shared {
    /// Why the thread has stopped, as often as it is asked.
    fn failure(&self) -> io::Result<()> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            None => Ok(()),
            Some(error) => Err(match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(error.kind(), error.to_string()),
            }),
        }
    }
}

impl Written {
    /// Writes to standard output.
    ///
    /// # Errors
    ///
    /// When the system has no room for another descriptor or thread.
    pub(super) fn to_standard_output() -> anyhow::Result<Self> {
        let file = io::stdout().as_fd().try_clone_to_owned();
        file.and_then(|file| Self::to(File::from(file)))
            .context("failed to set standard output up")
    }

    /// Writes to a file that is open.
    ///
    /// # Errors
    ///
    /// When the system has no room for another thread.
    pub(super) fn to(mut file: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, texts) = mpsc::channel::<Vec<u8>>();
        let (over, done) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("output".to_owned())
            .spawn(move || {
                for text in texts {
                    let written = file.write_all(&text).and_then(|()| file.flush());
                    of_thread
                        .waiting_bytes
                        .fetch_sub(text.len(), Ordering::Relaxed);
                    if let Err(error) = written {
                        *of_thread
                            .failure
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner) = Some(error);
                        break;
                    }
                }
                // Nobody may wait for it.
                let _ = over.send(());
            })?;
        Ok(Self {
            queue: Some(queue),
            shared,
            done,
        })
    }

    /// Has a text written behind all earlier ones.
    ///
    /// # Errors
    ///
    /// When an earlier one could not be written.
    pub(super) fn send(&self, text: Vec<u8>, can_be_left_out: bool) -> io::Result<Taken> {
        self.shared.failure()?;
        let waiting = &self.shared.waiting_bytes;
        if can_be_left_out && waiting.load(Ordering::Relaxed) > MAX_WAITING_BYTES {
            return Ok(Taken::LeftOut);
        }
        waiting.fetch_add(text.len(), Ordering::Relaxed);
        match &self.queue {
            Some(queue) if queue.send(text).is_ok() => Ok(Taken::Queued),
            _ => {
                // The thread has stopped since.
                self.shared.failure()?;
                Err(io::Error::other("the thread that writes has ended"))
            }
        }
    }

    /// Takes no more texts, and comes to an end when all are written.
    ///
    /// # Errors
    ///
    /// When one could not be written.
    pub(super) async fn all(&mut self) -> io::Result<()> {
        self.queue = None;
        // An error means that the thread is gone; so it has told, or written all.
        let _ = (&mut self.done).await;
        self.shared.failure()
    }
}

#[cfg(test)]
#[path = "written_tests.rs"]
mod tests;

//! Turns a pipe into lines that can be waited for with a limit. Never blocks its caller longer.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// The lines of a pipe, in order.
#[derive(Debug)]
pub(crate) struct Lines {
    receiver: Receiver<String>,
    of: String,
}

impl Lines {
    /// Reads the pipe to its end in a thread of its own, so that the writer never blocks.
    pub(crate) fn of(name: &str, pipe: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        Self {
            receiver,
            of: name.to_owned(),
        }
    }

    /// The next line; `None` at the end of the pipe. Panics when neither comes within `limit`.
    pub(crate) fn next(&self, limit: Duration) -> Option<String> {
        match self.receiver.recv_timeout(limit) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} has said nothing for {limit:?}", self.of)
            }
        }
    }

    /// All lines to the end of the pipe.
    pub(crate) fn rest(&self, limit: Duration) -> Vec<String> {
        std::iter::from_fn(|| self.next(limit)).collect()
    }
}

/// Reads a pipe to its end in a thread of its own.
pub(crate) fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // An error ends the text like an end of file: what was read so far is what there is.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

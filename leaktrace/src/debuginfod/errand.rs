//! Fetches debug files in a thread of its own, so that no report waits for a server.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::Debuginfod;
use crate::target::FileId;

/// Debug files that are on their way.
#[derive(Debug)]
pub struct Errands {
    /// Absent when the system gave no thread.
    wanted: Option<Sender<(FileId, String)>>,
    fetched: Receiver<(FileId, File)>,
}

impl Errands {
    /// Starts the thread. It ends with the program, also in the middle of a file.
    pub fn start(debuginfod: Arc<Debuginfod>) -> Self {
        let (wanted, to_do) = channel::<(FileId, String)>();
        let (done, fetched) = channel();
        let run = move || {
            for (id, build_id) in to_do {
                if let Some(file) = debuginfod.fetch(&build_id)
                    && done.send((id, file)).is_err()
                {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("debuginfod".to_owned());
        let wanted = match thread.spawn(run) {
            Ok(_) => Some(wanted),
            Err(error) => {
                log::warn!("no debug files are fetched: {error}");
                None
            }
        };
        Self { wanted, fetched }
    }

    /// Asks for the debug file of an object.
    pub fn request(&self, object: FileId, build_id: String) {
        if let Some(wanted) = &self.wanted {
            // The thread ends only with this.
            let _ = wanted.send((object, build_id));
        }
    }

    /// The next file that has come.
    pub fn take(&self) -> Option<(FileId, File)> {
        self.fetched.try_recv().ok()
    }
}

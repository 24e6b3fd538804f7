//! Makes the tables of objects, one after the other in the order in which they are asked for, in a
//! thread of its own: the tables of a large program take a third of a second.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use leaktrace_common::unwind::RareRule;
use rustix::event::{EventfdFlags, eventfd};

use super::{OPERATORS, RareRules, Rules, Table, vdso};
use crate::target::{FileId, Mapping, Object, Segments};

/// Stands for the vdso, which has no file. All processes of a kernel have the same.
const VDSO: FileId = FileId {
    device: u64::MAX,
    inode: u64::MAX,
};

/// Which object's table a mapping needs; `None` for memory without a file.
pub fn identity(mapping: &Mapping) -> Option<FileId> {
    match mapping.file {
        None if mapping.path.as_os_str() == "[vdso]" => Some(VDSO),
        file => file,
    }
}

/// An object whose table is finished.
#[derive(Debug)]
pub struct Built {
    /// Which object.
    pub id: FileId,
    /// Its segments, to find out where its code is mapped.
    pub segments: Segments,
    /// Its table; `None` when it says nothing about its frames.
    pub table: Option<Table>,
    /// Rules that rows of this table were the first to need, with their indices.
    pub rare: Vec<(u32, RareRule)>,
    /// The object, held open as long as the table is used: an inode that nobody holds can be given
    /// to another file.
    pub object: Option<Object>,
}

/// The thread that makes tables.
#[derive(Debug)]
pub struct Builder {
    /// Taken to end the thread.
    objects: Option<Sender<Object>>,
    /// Objects that were asked for.
    requested: HashSet<FileId>,
    built: Receiver<Built>,
    ready: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Builder {
    /// Starts the thread. Its first table is that of the vdso.
    ///
    /// # Errors
    ///
    /// When the system gives no thread or no descriptor.
    pub fn start() -> io::Result<Self> {
        let ready = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (objects, to_do) = channel::<Object>();
        let (finished, built) = channel();
        let signal = Arc::clone(&ready);
        let thread = std::thread::Builder::new()
            .name("unwind-tables".to_owned())
            .spawn(move || build_all(&to_do, &finished, &signal))?;
        Ok(Self {
            objects: Some(objects),
            requested: HashSet::new(),
            built,
            ready,
            thread: Some(thread),
        })
    }

    /// Asks for the table of an object. It is made once: a second request changes nothing.
    pub fn request(&mut self, object: Object) {
        let is_new = self.requested.insert(object.file_id());
        if let Some(objects) = self.objects.as_ref().filter(|_| is_new) {
            // The thread ends only with this builder.
            let _ = objects.send(object);
        }
    }

    /// Readable when tables wait to be taken.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// The next finished table, if there is one.
    pub fn take(&self) -> Option<Built> {
        // Not readable any more; what is finished from now on makes it so again.
        let _ = rustix::io::read(&*self.ready, &mut [0; 8]);
        self.built.try_recv().ok()
    }

    /// The next finished table, waited for as long as this.
    pub fn wait(&self, limit: Duration) -> Option<Built> {
        self.built.recv_timeout(limit).ok()
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        self.objects = None;
        // A thread at work on a large object would be waited for; it ends with the process.
        drop(self.thread.take());
    }
}

fn build_all(to_do: &Receiver<Object>, finished: &Sender<Built>, ready: &OwnedFd) {
    let mut rare = RareRules::default();
    let mut rules = Rules::default();
    let mut next = vdso::object(VDSO).ok();
    loop {
        let object = match next.take().map_or_else(|| to_do.try_recv(), Ok) {
            Ok(object) => object,
            Err(_) => {
                rules = Rules::default();
                let Ok(object) = to_do.recv() else { return };
                object
            }
        };
        if finished.send(build(object, &mut rare, &mut rules)).is_err() {
            return;
        }
        // Fails only when 2^64 - 2 tables wait.
        let _ = rustix::io::write(ready, &1u64.to_ne_bytes());
    }
}

fn build(object: Object, rare: &mut RareRules, rules: &mut Rules) -> Built {
    let known = rare.list().len();
    let segments = object.segments().unwrap_or_default();
    let table = match object.section(".eh_frame") {
        Ok(Some((svma, bytes))) => {
            let code: Vec<_> = segments.code().collect();
            Table::new((svma, &bytes), &code, &hidden(&object), rare, rules)
        }
        Ok(None) => None,
        Err(error) => {
            log::info!("no unwind information: {error}");
            None
        }
    };
    if let Some(table) = &table {
        log::debug!(
            "unwind table of {}: {} rows in {} KiB, {} rows not followed",
            object.path().display(),
            table.rows,
            table.size_bytes() / 1024,
            table.unsupported,
        );
    }
    Built {
        id: object.file_id(),
        segments,
        table,
        rare: (0..).zip(rare.list().iter().copied()).skip(known).collect(),
        object: Some(object),
    }
}

/// Functions that are allocation functions themselves rather than callers of one.
fn hidden(object: &Object) -> HashSet<u64> {
    let functions = object.functions(&OPERATORS).unwrap_or_default();
    functions.iter().map(|function| function.svma).collect()
}

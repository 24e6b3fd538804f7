//! Uprobes that children inherit: one definition in tracefs a place, and one perf event a thread,
//! which the kernel copies to every thread and process that the thread makes. A uprobe_multi link
//! follows one process only, and a new link takes so long that a child's first allocations would
//! go unseen.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use super::perf_event::{Exchange, Inherit, link, open_event, set_apart};
use super::tracefs::Tracefs;
use crate::target::FileId;

/// Names of the groups of definitions begin with this; the pid of their leaktrace follows.
const GROUP: &str = "leaktrace_";

/// A place that a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The object.
    pub(super) file: FileId,
    /// File offset of the probe.
    pub(super) offset: u64,
    /// Whether the program runs at the return of the function instead of at the offset.
    pub(super) at_return: bool,
}

/// The definitions of a session. Dropping it takes all probes off.
pub(super) struct Inherited {
    tracefs: Tracefs,
    group: String,
    defined: HashMap<Place, Defined>,
    // Dropped before the definitions are removed, see `drop`.
    events: Vec<Events>,
    carriers: Vec<OwnedFd>,
    links: Vec<OwnedFd>,
    exchange: Exchange,
}

/// The events of a process. Its children have copies of them, which the kernel takes away when these are
/// closed.
struct Events {
    /// Its place in the table of processes, while it has it.
    owner: Option<u16>,
    /// Places of the process and of its descendants in the table of processes.
    users: BTreeSet<u16>,
    events: Vec<OwnedFd>,
}

struct Defined {
    /// Number of the kernel's trace event.
    id: u64,
    name: String,
    linked: bool,
}

impl Inherited {
    /// Opens tracefs, mounted or not, and removes what sessions left behind that were killed.
    ///
    /// # Errors
    ///
    /// When the kernel has no tracefs or does not allow it.
    pub(super) fn open() -> io::Result<Self> {
        let opened = Self {
            tracefs: Tracefs::open()?,
            group: format!("{GROUP}{}", std::process::id()),
            defined: HashMap::new(),
            events: Vec::new(),
            carriers: Vec::new(),
            links: Vec::new(),
            exchange: Exchange::Never,
        };
        opened.remove_leftovers()?;
        Ok(opened)
    }

    /// Puts a program at a place, for the threads given of a process and all that they will make. `path`
    /// leads to the object, also after its file was replaced.
    ///
    /// # Errors
    ///
    /// What the kernel said; threads that have ended are left out.
    pub(super) fn attach(
        &mut self,
        place: Place,
        path: &str,
        program: &impl AsFd,
        cookie: u64,
        (process, threads): (u16, &[u32]),
    ) -> io::Result<()> {
        let (id, linked) = match self.defined.get(&place) {
            Some(known) => (known.id, known.linked),
            None => (self.define(place, path)?, false),
        };
        // The program belongs to the trace event, so that one link serves every thread. It is put on
        // an event that nobody inherits: the kernel (6.18) copies the program to inherited events,
        // and takes it off the trace event, for all, when the first of them goes.
        let carrier = match linked {
            true => None,
            false => Some(self.open_on_first(id, threads)?),
        };
        let mut events = Vec::new();
        for thread in threads {
            match self.open_inherited(id, *thread) {
                Ok(event) => events.push(event),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => return Err(error),
            }
        }
        if events.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        self.keep(process, events);
        if let Some(carrier) = carrier {
            self.links.push(link(program, carrier.as_raw_fd(), cookie)?);
            self.carriers.push(carrier);
            if let Some(known) = self.defined.get_mut(&place) {
                known.linked = true;
            }
        }
        Ok(())
    }

    fn keep(&mut self, process: u16, events: Vec<OwnedFd>) {
        match self
            .events
            .iter_mut()
            .find(|kept| kept.owner == Some(process))
        {
            Some(kept) => kept.events.extend(events),
            None => self.events.push(Events {
                owner: Some(process),
                users: BTreeSet::from([process]),
                events,
            }),
        }
    }

    fn open_inherited(&mut self, id: u64, thread: u32) -> io::Result<OwnedFd> {
        let opened = open_event(id, thread, Inherit::Yes(self.exchange));
        match &opened {
            Err(error)
                if self.exchange == Exchange::Never
                    && error.raw_os_error() == Some(libc::EINVAL) =>
            {
                self.exchange = Exchange::Possible;
                open_event(id, thread, Inherit::Yes(self.exchange))
            }
            _ => opened,
        }
    }

    /// A process comes from another one, and has its events.
    pub(super) fn adopt(&mut self, child: u16, parent: u16, tgid: u32) {
        if self.exchange == Exchange::Possible {
            // Ignored: it has ended.
            let _ = set_apart(tgid);
        }
        for kept in &mut self.events {
            if kept.users.contains(&parent) {
                kept.users.insert(child);
            }
        }
    }

    /// A process has ended. Events go when everybody has who has them.
    pub(super) fn forget(&mut self, process: u16) {
        self.events.retain_mut(|kept| {
            kept.owner = kept.owner.filter(|owner| *owner != process);
            kept.users.remove(&process);
            !kept.users.is_empty()
        });
    }

    /// An event that nobody inherits, of the first of these threads that lives.
    fn open_on_first(&self, id: u64, threads: &[u32]) -> io::Result<OwnedFd> {
        let mut last = io::Error::from_raw_os_error(libc::ESRCH);
        for thread in threads {
            match open_event(id, *thread, Inherit::No) {
                Ok(event) => return Ok(event),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn define(&mut self, place: Place, path: &str) -> io::Result<u64> {
        let name = format!("p{}", self.defined.len());
        let kind = if place.at_return { 'r' } else { 'p' };
        let group = &self.group;
        self.change(&format!(
            "{kind}:{group}/{name} {path}:{:#x}\n",
            place.offset
        ))?;
        let id = self.tracefs.event_id(&format!("{group}/{name}"))?;
        let defined = Defined {
            id,
            name,
            linked: false,
        };
        self.defined.insert(place, defined);
        Ok(id)
    }

    fn change(&self, line: &str) -> io::Result<()> {
        self.tracefs.append("uprobe_events", line)
    }

    /// A leaktrace that was killed could not remove its definitions; without events they do
    /// nothing. One that still has events is refused by the kernel.
    fn remove_leftovers(&self) -> io::Result<()> {
        for line in self.tracefs.read("uprobe_events")?.lines() {
            let Some((_, definition)) = line.split_once(':') else {
                continue;
            };
            let name = definition.split(' ').next().unwrap_or_default();
            let owner = name
                .strip_prefix(GROUP)
                .and_then(|rest| rest.split('/').next())
                .and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
                // Ignored: it is in use, or somebody else has removed it.
                let _ = self.change(&format!("-:{name}\n"));
            }
        }
        Ok(())
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        self.links.clear();
        // The last event of a place waits for the kernel's grace period; they wait together.
        std::thread::scope(|scope| {
            let events = self.events.drain(..).flat_map(|kept| kept.events);
            for event in events.chain(self.carriers.drain(..)) {
                scope.spawn(move || drop(event));
            }
        });
        for defined in self.defined.values() {
            // Ignored: nothing is left to do, and the next session tries again.
            let _ = self.change(&format!("-:{}/{}\n", self.group, defined.name));
        }
    }
}

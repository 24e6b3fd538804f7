//! Uprobes that children inherit: one definition in tracefs a place, and one perf event a thread,
//! which the kernel copies to every thread and process that the thread makes. A uprobe_multi link
//! follows one process only, and a new link takes so long that a child's first allocations would
//! go unseen.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::perf_event::{Dummy, Exchange, Inherit, link, open_dummy, open_event};
use super::tracefs::Tracefs;
use crate::probes::{Program, Role};
use crate::target::{FileId, threads};

/// Names of the groups of definitions begin with this; the pid of their leaktrace follows.
const GROUP: &str = "leaktrace_";

/// A place that a program is attached to, for one ledger: a function can belong to the heap and to pairs,
/// and a definition has one cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    /// The object.
    pub(super) file: FileId,
    /// File offset of the probe.
    pub(super) offset: u64,
    /// The program, which also says whether it runs at the return of the function instead of at the offset.
    pub(super) program: Program,
    /// Number of the ledger that it changes. What else the cookie says is the same wherever the function is
    /// probed, or of no consequence; another definition would count its calls twice.
    pub(super) ledger: u32,
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
    apart: HashMap<u16, Apart>,
    /// When new processes were looked for last.
    looked: Instant,
}

/// A process whose children the kernel cannot take for copies of it, nor of one another.
struct Apart {
    /// One for each thread that it had then; those that these make have copies.
    _dummies: Vec<Dummy>,
    /// Entries of the table of processes up to this serial may have been made before.
    since: u32,
    /// Whether its own probes may have gone with those of another process before.
    was_exposed: bool,
}

/// A new entry of the table of processes.
#[derive(Clone, Copy)]
pub(super) struct Relative {
    /// Its place.
    pub(super) index: u16,
    /// The place of the process, or the program, that it comes from.
    pub(super) parent: u16,
    /// Its process id.
    pub(super) tgid: u32,
    /// Its number among all entries.
    pub(super) serial: u32,
    /// Whether the process was there before, and runs another program now.
    pub(super) is_exec: bool,
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
            apart: HashMap::new(),
            looked: Instant::now(),
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
        if self.exchange == Exchange::Possible && !self.apart.contains_key(&process) {
            self.set_apart(process, threads, false, || 0);
        }
        if let Some(carrier) = carrier {
            self.links.push(link(program, carrier.as_raw_fd(), cookie)?);
            self.carriers.push(carrier);
            if let Some(known) = self.defined.get_mut(&place) {
                known.linked = true;
            }
        }
        Ok(())
    }

    fn set_apart(
        &mut self,
        process: u16,
        threads: &[u32],
        was_exposed: bool,
        serials: impl FnOnce() -> u32,
    ) {
        let dummies = threads.iter().filter_map(|thread| open_dummy(*thread).ok());
        let apart = Apart {
            _dummies: dummies.collect(),
            since: serials(),
            was_exposed,
        };
        self.apart.insert(process, apart);
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

    /// Says how long ago it was asked last: new processes are at most as old.
    pub(super) fn look(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.looked, now))
    }

    /// A process comes from another one, and has its events. Returns whether these may have been exchanged
    /// with another's until now. `serials` reads the number of entries in the table of processes so far.
    pub(super) fn adopt(&mut self, new: Relative, serials: impl FnOnce() -> u32) -> bool {
        for kept in &mut self.events {
            if kept.users.contains(&new.parent) {
                kept.users.insert(new.index);
            }
        }
        if self.exchange == Exchange::Never {
            return false;
        }
        let parent = self.apart.get(&new.parent);
        let was_exposed = parent.is_none_or(|parent| {
            new.serial <= parent.since && (parent.was_exposed || !new.is_exec)
        });
        // One that has ended has none.
        let threads = threads(new.tgid).unwrap_or_default();
        self.set_apart(new.index, &threads, was_exposed, serials);
        was_exposed
    }

    /// A process has ended. Events go when everybody has who has them.
    pub(super) fn forget(&mut self, process: u16) {
        self.apart.remove(&process);
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
        let kind = match place.program.role() {
            Role::Return => 'r',
            Role::Enter | Role::Ret => 'p',
        };
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

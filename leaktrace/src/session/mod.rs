//! The kernel side of a session: loads the BPF programs, attaches them by plan, arms them, and
//! reads what they have counted. The only folder that imports aya. Decides nothing about what
//! grows and names nothing.

mod ages;
mod array;
mod attach;
mod blocks;
mod code;
mod described;
mod events;
mod huge_pages;
mod inherited;
mod kernel;
mod ledger;
mod load;
mod loading;
mod mapped;
mod memory_sharing;
mod multi;
mod perf_event;
mod processes;
mod readout;
mod reuse;
mod shards;
mod syscall;
mod syscalls;
mod tables;
mod tracefs;
mod unfinished;

pub use attach::{AttachError, ProbedObject};
pub use load::{LoadError, Sizes};
pub use loading::Loading;
pub use mapped::Usable;
pub use memory_sharing::Sharer;
pub use processes::{Exec, ExitStatus, NewProcess, ProcessOrigin};
pub use reuse::Release;
pub use syscalls::MAPPING_SYSCALLS;

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use leaktrace_common::call::note_index;
use leaktrace_common::ledger::{SiteBirths, SiteTotals};
use leaktrace_common::loss::LossTotals;
use leaktrace_common::process::{Control, ProcessState};

use crate::snapshot::Stack;
use crate::target::Mappings;
use crate::unwind::Builder;
use array::MappedArray;
use attach::Link;
use inherited::Inherited;
use mapped::MappedLedger;
use memory_sharing::MemorySharing;
use reuse::Places;
use syscalls::SyscallProbes;
use tables::Tables;
use unfinished::UnfinishedStacks;

/// What a session counts, and how much of it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Sizes of the kernel maps.
    pub sizes: Sizes,
    /// Smallest allocation that is counted, bytes.
    pub min_size_bytes: u64,
    /// Largest allocation that is counted, bytes.
    pub max_size_bytes: u64,
    /// Whether stacks are walked by .eh_frame rather than by frame pointers alone.
    pub eh_frame: bool,
    /// Whether the kernel has bpf_loop, which `eh_frame` needs.
    pub has_loop: bool,
    /// Whether the kernel has bpf_find_vma, by which attached shared memory is measured at once.
    pub has_find_vma: bool,
    /// Whether children of the traced processes are traced too.
    pub follow_forks: bool,
    /// Whether the programs send debug messages.
    pub debug: bool,
}

/// A loaded session. Dropping it detaches every probe.
pub struct Session {
    // Declared first, so that probes are gone before maps are.
    links: Vec<(u16, Link)>,
    /// Probes that children inherit; present when forks are followed.
    inherited: Option<Inherited>,
    /// Absent when what is made so is counted, or the kernel does not tell of it.
    sharing: Option<MemorySharing>,
    /// Present when a process makes mappings by system calls of its own.
    syscalls: Option<SyscallProbes>,
    programs: HashMap<&'static str, OwnedFd>,
    ebpf: Ebpf,
    logger: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    control: MappedArray<Control>,
    processes: MappedArray<ProcessState>,
    totals: MappedArray<SiteTotals>,
    births: MappedArray<SiteBirths>,
    losses: MappedArray<LossTotals>,
    hits: MappedArray<u64>,
    pair_unmatched: MappedArray<u64>,
    events: RingBuf<MapData>,
    tables: Tables,
    unfinished: UnfinishedStacks,
    /// By the id of a stack: the first site that has it. A stack that was finished here can have
    /// more than one.
    first_sites: foldhash::HashMap<u64, u32>,
    /// Absent when stacks are walked by frame pointers.
    builder: Option<Builder>,
    /// Processes that have told of new code.
    code_changed: HashSet<u16>,
    /// Children that nobody has asked for yet, and whose tables are their own by now
    /// ([`Session::leave_code_to_children`]).
    parted: HashSet<u16>,
    /// When events were taken last.
    events_taken_at: Instant,
    /// By process: how often code had been removed before its mappings were read last.
    removals_seen: HashMap<u16, u32>,
    /// Processes whose code went while their mappings were read: stacks of that time are not
    /// followed by them.
    code_in_doubt: HashSet<u16>,
    /// By process: the mappings that the stack walk was given.
    code: HashMap<u16, Mappings>,
    /// Entries of the table of live blocks.
    buckets: u32,
    /// By site: the process and the frames, once they are read.
    stacks: Vec<Option<(u16, Arc<Stack>)>>,
    /// By site: the hash by which the programs find it; once its frames are read.
    hashes: Vec<u64>,
    /// Sites that were handed out and had no frames yet, and since when that is known.
    unread_stacks: Vec<(usize, Instant)>,
    /// By place in the table of processes.
    mapped: Vec<MappedLedger>,
    places: Places,
    /// By place in the table, of processes that user space has entered: the pid that it knows.
    pids: HashMap<u32, u32>,
    huge_page_bytes: u64,
    events_lost_seen: u64,
    /// When a ledger of mappings was compared with a process last.
    compared_at: Instant,
}

impl Session {
    /// Whether a process in the memory of a traced one goes without being counted. Links to many probes at once
    /// are of one process, by its threads (6.10); perf events are of whoever has the memory, and where forks are
    /// followed, what was not seen to be made is not known.
    pub fn misses_sharers(&self) -> bool {
        self.inherited.is_some() || !self.programs.is_empty()
    }

    /// Whether the probes of a process are those of its children and of the programs that it executes, too.
    pub fn probes_are_inherited(&self) -> bool {
        self.inherited.is_some()
    }

    /// Processes that were made in the memory of another one, traced or not, since the last call. Nothing
    /// that they do is counted.
    pub fn new_sharers(&mut self) -> Vec<Sharer> {
        self.sharing
            .as_mut()
            .map(MemorySharing::take)
            .unwrap_or_default()
    }

    /// Sets the session going: from now on every call of a probed function is counted.
    pub fn arm(&mut self) {
        let now_ns = monotonic_ns();
        self.control
            .update(0, |control| control.armed_at_ns = now_ns);
        // Programs that see this see the time, too.
        self.control.update(0, |control| control.armed = 1);
        // What was mapped before, nobody has told of.
        self.code_changed.extend(self.code.keys());
    }

    /// Stops counting; probes stay in place.
    fn disarm(&mut self) {
        self.control.update(0, |control| control.armed = 0);
    }

    /// Readable when mapping events wait to be taken.
    pub fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Readable when unwind tables wait to be put in place; absent when none are made.
    pub fn tables_fd(&self) -> Option<BorrowedFd<'_>> {
        self.builder.as_ref().map(Builder::fd)
    }

    /// Whether the kernel takes the probes of a process out when its main thread ends while others
    /// run on: perf events find the process by the memory of the thread that they were opened for.
    pub fn main_thread_holds_probes(&self) -> bool {
        self.inherited.is_none() && self.programs.is_empty()
    }

    /// Whether stacks are walked by .eh_frame rather than by frame pointers alone.
    pub fn walks_by_eh_frame(&self) -> bool {
        self.builder.is_some()
    }

    /// Bytes of kernel memory that unwind tables take.
    pub fn unwind_table_bytes(&self) -> u64 {
        self.tables.size_bytes()
    }

    /// Passes on the debug messages of the programs.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Whether the probe of this function of a process has fired.
    pub fn has_fired(&self, process: u16, function: u16) -> bool {
        self.hits.read(note_index(process, function) as usize) != 0
    }
}

/// The clock of the programs.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

//! Turns what was loaded into a session, with the maps at hand. Attaches nothing.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::time::Instant;

use aya::maps::{Map, MapData, MapError, RingBuf};
use aya::{Ebpf, EbpfError};
use leaktrace_common::limits;
use leaktrace_common::loss::LOSS_REASONS;
use leaktrace_common::process::Control;
use leaktrace_common::stack::SITES_WITHOUT_STACK;
use leaktrace_common::unwind::MAX_RARE_RULES;

use super::array::MappedArray;
use super::loading::{Loaded, Loading, buckets, site_entries};
use super::mapped::MappedLedger;
use super::memory_sharing::MemorySharing;
use super::reuse::Places;
use super::tables::Tables;
use super::unfinished::UnfinishedStacks;
use super::{Session, huge_pages};
use crate::unwind::Builder;

/// How much the kernel maps hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Live allocations.
    pub live: u32,
    /// Distinct stacks.
    pub stacks: u32,
    /// Threads that can be inside an allocation function.
    pub pending: u32,
    /// Bytes of the ring buffer for mapping events; a power of two, at least a page.
    pub event_bytes: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            live: limits::DEFAULT_LIVE_ENTRIES,
            stacks: limits::DEFAULT_STACK_ENTRIES,
            pending: limits::DEFAULT_PENDING_ENTRIES,
            event_bytes: limits::DEFAULT_EVENT_BYTES,
        }
    }
}

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel does not let this user load BPF programs.
    #[error("CAP_BPF and CAP_PERFMON are missing; run with sudo")]
    NotPermitted,
    /// aya could not create the maps or parse the object.
    #[error("the kernel refused the BPF maps: {0}")]
    Maps(#[source] EbpfError),
    /// Children of the target cannot be followed.
    #[error("--follow-forks does not work here: {0}; leave it out, or trace children with -p")]
    NotFollowed(String),
    /// A map could not be used.
    #[error("BPF map {name}: {reason}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What happened.
        reason: String,
    },
    /// The thread that loads has ended too early.
    #[error("the thread that loads the BPF programs has panicked")]
    Panicked,
    /// A program was refused.
    #[error("the kernel refused the BPF program {name}: {reason}")]
    Program {
        /// Its name.
        name: &'static str,
        /// The kernel's words.
        reason: String,
    },
}

impl Session {
    /// A session on the maps and programs, once they are loaded. Stacks are walked by .eh_frame if
    /// somebody makes the tables for that, as the configuration says, else by frame pointers alone.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a map or a program, with its reason.
    pub fn load(loading: Loading, builder: Option<Builder>) -> Result<Self, LoadError> {
        let Loaded {
            config,
            mut ebpf,
            inherited,
            programs,
            task,
        } = loading.finish()?;
        let logger = if config.debug {
            aya_log::EbpfLogger::init(&mut ebpf).ok()
        } else {
            None
        };
        let control: MappedArray<Control> = mapped_array(&ebpf, "CONTROL", 1)?;
        control.update(0, |control| {
            control.next_site = SITES_WITHOUT_STACK;
            control.task = task.unwrap_or_default();
        });
        let places = Places::new(
            mapped_array(&ebpf, "FREE_PROCESSES", limits::MAX_PROCESSES as usize)?,
            mapped_array(&ebpf, "FREE_SITES", limits::FREE_SITES as usize)?,
            config.sizes.live,
        );
        Ok(Self {
            links: Vec::new(),
            inherited,
            sharing: match programs.is_empty() {
                true => None,
                false => memory_sharing(),
            },
            syscalls: None,
            programs,
            logger,
            control,
            processes: mapped_array(&ebpf, "PROCESSES", limits::MAX_PROCESSES as usize)?,
            totals: mapped_array(&ebpf, "SITE_TOTALS", site_entries(config.sizes) as usize)?,
            births: mapped_array(&ebpf, "SITE_BIRTHS", limits::BIRTH_SITES as usize)?,
            losses: mapped_array(
                &ebpf,
                "LOSSES",
                LOSS_REASONS * limits::MAX_PROCESSES as usize,
            )?,
            hits: mapped_array(
                &ebpf,
                "PROBE_HITS",
                (limits::MAX_PROCESSES * limits::NOTED_FUNCTIONS) as usize,
            )?,
            events: ring_buffer(&mut ebpf, "EVENTS")?,
            unfinished: UnfinishedStacks::new(ring_buffer(&mut ebpf, "UNFINISHED")?),
            first_sites: foldhash::HashMap::default(),
            pair_unmatched: mapped_array(
                &ebpf,
                "PAIR_UNMATCHED",
                (limits::MAX_PROCESSES * limits::MAX_PAIRS) as usize,
            )?,
            tables: unwind_tables(&ebpf)?,
            builder,
            code_changed: HashSet::new(),
            parted: HashSet::new(),
            events_taken_at: std::time::Instant::now(),
            removals_seen: HashMap::new(),
            code_in_doubt: HashSet::new(),
            code: HashMap::new(),
            ebpf,
            buckets: buckets(config.sizes.live),
            stacks: vec![None; SITES_WITHOUT_STACK as usize],
            hashes: vec![0; SITES_WITHOUT_STACK as usize],
            unread_stacks: Vec::new(),
            mapped: (0..limits::MAX_PROCESSES)
                .map(|_| MappedLedger::counting(config.min_size_bytes..=config.max_size_bytes))
                .collect(),
            places,
            pids: HashMap::new(),
            huge_page_bytes: huge_pages::default_size_bytes(),
            events_lost_seen: 0,
            compared_at: Instant::now(),
        })
    }
}

fn memory_sharing() -> Option<MemorySharing> {
    match MemorySharing::watch() {
        Ok(sharing) => Some(sharing),
        Err(error) => {
            log::info!(
                "processes that are made in the memory of a traced one will not be noticed: {error}"
            );
            None
        }
    }
}

/// The data behind any of the map types that the object has.
pub(super) fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

fn mapped_array<T: aya::Pod>(
    ebpf: &Ebpf,
    name: &'static str,
    entries: usize,
) -> Result<MappedArray<T>, LoadError> {
    let data = ebpf
        .map(name)
        .and_then(map_data)
        .ok_or_else(|| LoadError::Map {
            name,
            reason: "it is not in the object".to_owned(),
        })?;
    MappedArray::map(data, entries).map_err(|error| LoadError::Map {
        name,
        reason: format!("failed to map it: {error}"),
    })
}

fn unwind_tables(ebpf: &Ebpf) -> Result<Tables, LoadError> {
    let name = "UNWIND";
    let failed = |reason: String| LoadError::Map { name, reason };
    let outer = ebpf
        .map(name)
        .and_then(map_data)
        .ok_or_else(|| failed("it is not in the object".to_owned()))?;
    let rare = mapped_array(ebpf, "RARE_RULES", MAX_RARE_RULES as usize)?;
    Tables::new(outer, rare).map_err(|error| failed(error.to_string()))
}

fn ring_buffer(ebpf: &mut Ebpf, name: &'static str) -> Result<RingBuf<MapData>, LoadError> {
    let map = ebpf.take_map(name).ok_or_else(|| LoadError::Map {
        name,
        reason: "it is not in the object".to_owned(),
    })?;
    RingBuf::try_from(map).map_err(|error: MapError| LoadError::Map {
        name,
        reason: error.to_string(),
    })
}

/// Programs that were loaded for multi attachment, by name.
pub(super) type LoadedPrograms = HashMap<&'static str, OwnedFd>;

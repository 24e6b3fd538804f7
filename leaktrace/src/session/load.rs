//! Turns the BPF object into maps and loaded programs. Attaches nothing.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;

use aya::maps::{Map, MapData, MapError, RingBuf};
use aya::programs::{ProgramError, RawTracePoint, UProbe};
use aya::{Ebpf, EbpfError, EbpfLoader};
use leaktrace_common::bucket::BUCKET_SLOTS;
use leaktrace_common::limits;
use leaktrace_common::loss::LOSS_REASONS;
use leaktrace_common::process::Control;
use leaktrace_common::stack::SITES_WITHOUT_STACK;
use leaktrace_common::unwind::MAX_RARE_RULES;

use super::array::MappedArray;
use super::attach::{PROGRAMS, program_name};
use super::inherited::Inherited;
use super::mapped::MappedLedger;
use super::memory_sharing::MemorySharing;
use super::processes::in_initial_pid_namespace;
use super::reuse::Places;
use super::tables::Tables;
use super::unfinished::UnfinishedStacks;
use super::{Config, Session, huge_pages, kernel, multi};
use crate::unwind::Builder;

// aya parses the object in place and needs it aligned.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/leaktrace.bpf.o"));

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
    /// There is no thread that makes unwind tables.
    #[error("failed to start a thread for unwind tables: {0}")]
    Builder(#[source] io::Error),
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
    /// Creates the maps and loads the programs.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a map or a program, with its reason.
    pub fn load(config: &Config) -> Result<Self, LoadError> {
        let mut ebpf = create_maps(config)?;
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let inherited = match config.follow_forks {
            true => Some(inherited_probes()?),
            false => None,
        };
        let programs = if inherited.is_none() && kernel::multi_attach_works(&release) {
            multi::load_programs(OBJECT, &ebpf)?
        } else {
            load_for_perf_events(&mut ebpf)?;
            HashMap::new()
        };
        let task = kernel::task_offsets();
        watch_processes(&mut ebpf, config.follow_forks, task.is_some())?;
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
            builder: match config.eh_frame {
                true => Some(Builder::start().map_err(LoadError::Builder)?),
                false => None,
            },
            code_changed: HashSet::new(),
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

fn create_maps(config: &Config) -> Result<Ebpf, LoadError> {
    let sizes = config.sizes;
    let site_entries = site_entries(sizes);
    let eh_frame = u32::from(config.eh_frame);
    let has_loop = u32::from(config.has_loop);
    let has_find_vma = u32::from(config.has_find_vma);
    let log_level: u8 = if config.debug {
        log::Level::Debug as u8
    } else {
        0
    };
    EbpfLoader::new()
        // No CO-RE relocations are used, and parsing the kernel's BTF takes 50 ms.
        .btf(None)
        .override_global("MIN_SIZE_BYTES", &config.min_size_bytes, true)
        .override_global("MAX_SIZE_BYTES", &config.max_size_bytes, true)
        .override_global("FOLLOW_FORKS", &u32::from(config.follow_forks), true)
        .override_global("SITE_ENTRIES", &site_entries, true)
        .override_global("EH_FRAME", &eh_frame, true)
        .override_global("HAS_LOOP", &has_loop, true)
        .override_global("HAS_FIND_VMA", &has_find_vma, true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .override_global("BUCKETS", &buckets(sizes.live), true)
        .map_max_entries("LIVE", buckets(sizes.live))
        .map_max_entries("SPILLED", limits::spilled_entries(sizes.live))
        .map_max_entries("STACKS", sizes.stacks)
        .map_max_entries("DEEP_STACKS", limits::deep_stack_entries(sizes.stacks))
        .map_max_entries("STACK_SITES", sizes.stacks)
        .map_max_entries("SITE_TOTALS", site_entries)
        .map_max_entries("PENDING", sizes.pending)
        .map_max_entries("EVENTS", sizes.event_bytes)
        .load(OBJECT)
        .map_err(|error| {
            if is_permission(&error) {
                LoadError::NotPermitted
            } else {
                LoadError::Maps(error)
            }
        })
}

/// A site for every stack, and those for what has no stack.
fn site_entries(sizes: Sizes) -> u32 {
    sizes.stacks.saturating_add(SITES_WITHOUT_STACK)
}

/// Buckets of a ledger that is to hold so many blocks.
fn buckets(live: u32) -> u32 {
    live.div_ceil(BUCKET_SLOTS as u32)
}

fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES))
        {
            return true;
        }
        next = error.source();
    }
    false
}

fn load_for_perf_events(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for program in PROGRAMS {
        let name = program_name(program);
        let loaded: Result<(), ProgramError> = ebpf
            .program_mut(name)
            .ok_or_else(|| missing(name))?
            .try_into()
            .and_then(|program: &mut UProbe| program.load());
        loaded.map_err(|error| LoadError::Program {
            name,
            reason: error.to_string(),
        })?;
    }
    Ok(())
}

fn inherited_probes() -> Result<Inherited, LoadError> {
    if !in_initial_pid_namespace() {
        return Err(LoadError::NotFollowed(
            "leaktrace runs in a pid namespace of its own".to_owned(),
        ));
    }
    Inherited::open().map_err(|error| LoadError::NotFollowed(format!("no tracefs: {error}")))
}

/// What happens to processes and threads: exits give pending slots back and tell the target's
/// exit status, execs begin an epoch, forks make children.
fn watch_processes(ebpf: &mut Ebpf, forks: bool, layout_known: bool) -> Result<(), LoadError> {
    watch(ebpf, "thread_exit", "sched_process_exit")?;
    watch(ebpf, "process_exec", "sched_process_exec")?;
    // Without it a victim is said to be killed, without the reason: the event has had another
    // name, and kernels can be built without it.
    if let Err(error) = watch(ebpf, "oom_victim", "mark_victim") {
        log::info!("out-of-memory kills are not told from others: {error}");
    }
    if !forks {
        return Ok(());
    }
    if !layout_known {
        return Err(LoadError::NotFollowed(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux)".to_owned(),
        ));
    }
    watch(ebpf, "process_fork", "sched_process_fork")
}

/// A raw tracepoint needs neither tracefs nor perf events.
fn watch(ebpf: &mut Ebpf, name: &'static str, tracepoint: &str) -> Result<(), LoadError> {
    let program: &mut RawTracePoint = ebpf
        .program_mut(name)
        .ok_or_else(|| missing(name))?
        .try_into()
        .map_err(|error: ProgramError| LoadError::Program {
            name,
            reason: error.to_string(),
        })?;
    program
        .load()
        .and_then(|()| program.attach(tracepoint).map(drop))
        .map_err(|error| LoadError::Program {
            name,
            reason: error.to_string(),
        })
}

fn missing(name: &'static str) -> LoadError {
    LoadError::Program {
        name,
        reason: "it is not in the object".to_owned(),
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

#[cfg(test)]
#[path = "object_tests.rs"]
mod object_tests;

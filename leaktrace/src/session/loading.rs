//! Turns the BPF object into maps and loaded programs, in a thread of its own: the kernel's verifier
//! takes a quarter of a second, in which the targets can be looked at. Attaches nothing but what watches
//! processes.

use std::collections::HashMap;
use std::io;
use std::thread::JoinHandle;

use aya::programs::{ProgramError, RawTracePoint, UProbe};
use aya::{Ebpf, EbpfLoader};
use leaktrace_common::bucket::BUCKET_SLOTS;
use leaktrace_common::limits;
use leaktrace_common::process::TaskOffsets;
use leaktrace_common::stack::SITES_WITHOUT_STACK;

use super::attach::{PROGRAMS, program_name};
use super::inherited::Inherited;
use super::load::{LoadError, LoadedPrograms, Sizes};
use super::processes::in_initial_pid_namespace;
use super::{Config, kernel, multi};

// aya parses the object in place and needs it aligned.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/leaktrace.bpf.o"));

/// The kernel side, while it is being loaded.
#[derive(Debug)]
pub struct Loading {
    thread: JoinHandle<Result<Loaded, LoadError>>,
}

/// What there is once the kernel has taken everything.
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) ebpf: Ebpf,
    pub(super) inherited: Option<Inherited>,
    pub(super) programs: LoadedPrograms,
    pub(super) task: Option<TaskOffsets>,
}

impl Loading {
    /// Begins to create the maps and to load the programs.
    ///
    /// # Errors
    ///
    /// When the system gives no thread.
    pub fn begin(config: Config) -> io::Result<Self> {
        let name = "loading".to_owned();
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(|| Loaded::of(config))?;
        Ok(Self { thread })
    }

    /// Waits for the end of it.
    pub(super) fn finish(self) -> Result<Loaded, LoadError> {
        self.thread.join().unwrap_or(Err(LoadError::Panicked))
    }
}

impl Loaded {
    fn of(config: Config) -> Result<Self, LoadError> {
        let release = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        let inherited = match config.follow_forks {
            true => Some(inherited_probes()?),
            false => None,
        };
        let (ebpf, programs, task) =
            match inherited.is_none() && kernel::multi_attach_works(&release) {
                true => load_for_multi_links(&config)?,
                false => load_for_perf_events(&config)?,
            };
        Ok(Self {
            config,
            ebpf,
            inherited,
            programs,
            task,
        })
    }
}

/// What there is after loading, in one way or the other.
type Parts = (Ebpf, LoadedPrograms, Option<TaskOffsets>);

/// The maps are made while the object is parsed once more, and the programs verified while the
/// kernel's types are read.
fn load_for_multi_links(config: &Config) -> Result<Parts, LoadError> {
    let (maps, programs) = std::thread::scope(|scope| {
        let programs = scope.spawn(|| multi::Programs::of(OBJECT));
        let maps = create_maps(config);
        (maps, programs.join().unwrap_or(Err(LoadError::Panicked)))
    });
    let (mut ebpf, mut programs) = (maps?, programs?);
    programs.use_maps(&ebpf)?;
    let (programs, task) = programs.load(|| watch_processes(&mut ebpf, config.follow_forks))?;
    Ok((ebpf, programs, task))
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
pub(super) fn site_entries(sizes: Sizes) -> u32 {
    sizes.stacks.saturating_add(SITES_WITHOUT_STACK)
}

/// Buckets of a ledger that is to hold so many blocks.
pub(super) fn buckets(live: u32) -> u32 {
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

fn load_for_perf_events(config: &Config) -> Result<Parts, LoadError> {
    let mut ebpf = create_maps(config)?;
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
    let task = watch_processes(&mut ebpf, config.follow_forks)?;
    Ok((ebpf, HashMap::new(), task))
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
/// exit status, execs begin an epoch, forks make children. Tells the layout of what the programs
/// look at in the kernel, if that is known.
fn watch_processes(ebpf: &mut Ebpf, forks: bool) -> Result<Option<TaskOffsets>, LoadError> {
    let task = kernel::task_offsets();
    watch(ebpf, "thread_exit", "sched_process_exit")?;
    watch(ebpf, "process_exec", "sched_process_exec")?;
    // Without it a victim is said to be killed, without the reason: the event has had another
    // name, and kernels can be built without it.
    if let Err(error) = watch(ebpf, "oom_victim", "mark_victim") {
        log::info!("out-of-memory kills are not told from others: {error}");
    }
    if !forks {
        return Ok(task);
    }
    if task.is_none() {
        return Err(LoadError::NotFollowed(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux)".to_owned(),
        ));
    }
    watch(ebpf, "process_fork", "sched_process_fork")?;
    Ok(task)
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

pub(super) fn missing(name: &'static str) -> LoadError {
    LoadError::Program {
        name,
        reason: "it is not in the object".to_owned(),
    }
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod object_tests;

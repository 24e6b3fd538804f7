//! The list of stages: look, plan, load, attach, arm, read until the end, report. Decides what
//! happens when; how each thing is done stands in the other rooms.

mod allocator_code;
mod attaching;
mod children_said;
mod command;
mod compared;
mod descriptors;
mod exits;
mod footprint;
mod haste;
mod late_code;
mod lineage;
mod objects;
mod output;
mod own_mappings;
mod probing;
mod replaced_code;
mod shared_memory;
mod signals;
mod traced;
mod watch;
mod written;

use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::{Stacks, TraceArgs};
use crate::debuginfod::Debuginfod;
use crate::preflight::Preflight;
use crate::report::End;
use crate::session::{Config, Loading, Session, Sizes};
use crate::symbolize::ElfNaming;
use crate::unwind::Builder;
use command::Launched;
use haste::Haste;
use output::Output;
use shared_memory::Sharers;
use signals::Signals;
use traced::Traced;
use watch::Watch;

/// Stacks through code whose unwind table is not ready are cut, so the first tables are waited
/// for; the last ones of a very large program come later.
const LONGEST_WAIT_FOR_TABLES: Duration = Duration::from_millis(400);

/// What a session has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// At least one site was judged leaking at the end; looked at only with `--fail-on-leak`.
    pub leak_found: bool,
    /// How the command ended that leaktrace started, as a shell says it: its exit code, or 128 and
    /// the signal. Absent without a command, and when it runs on.
    pub command: Option<u8>,
}

/// Traces as the arguments say, until the time is over, a signal comes or every target has ended.
///
/// # Errors
///
/// When it cannot trace: one line with what failed, why, and what to do.
pub fn trace(args: &TraceArgs) -> anyhow::Result<Outcome> {
    // One thread: ptrace takes requests only from the thread that began.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    runtime.block_on(run(args))
}

async fn run(args: &TraceArgs) -> anyhow::Result<Outcome> {
    let preflight = Preflight::check();
    if let Some(reason) = preflight.error_for_tracing() {
        anyhow::bail!("{reason}");
    }
    let eh_frame = walks_by_eh_frame(args.stacks, preflight.has_loop())?;
    let mut output = Output::open(args)?;
    let mut command = match args.command.as_slice() {
        [] => None,
        words => Some(Launched::start(words, args.as_root)?),
    };
    descriptors::raise_limit();
    let pids = match &command {
        Some(command) => vec![command.pid()],
        None => args.pids.clone(),
    };
    // The command was started before: it has the priority that leaktrace was started with.
    let haste = Haste::begin();
    let mut naming = ElfNaming::new();
    if let Some(servers) = &args.debuginfod {
        naming.fetch_from(Debuginfod::new(servers)?);
    }
    let mut tables = match eh_frame {
        true => Some(Builder::start().context("failed to start a thread for unwind tables")?),
        false => None,
    };
    let mut targets = traced::open_all(&pids, !args.no_mmap, &args.pairs)?;
    let loading = Loading::begin(session_config(args, eh_frame, &preflight))
        .context("failed to start a thread for loading")?;
    for target in &mut targets {
        target.find_allocators(command.is_some(), &mut naming)?;
        if let Some(tables) = &mut tables {
            target.begin_tables(tables);
        }
    }
    let mut session = Session::load(loading, tables).context("cannot trace")?;
    for target in &mut targets {
        target.syscalls_wanted = args.mmap_syscalls;
        if session.misses_sharers() {
            target.sharers = Sharers::of(target.pid, args.follow_forks);
        }
        target.attach(&mut session)?;
    }
    session.wait_for_tables(LONGEST_WAIT_FOR_TABLES)?;
    // From here on a signal ends the session in order, with its final report. Before, it just
    // ends the program, and the kernel takes the probes out.
    let mut signals = Signals::new(command.is_some())?;
    // Births are counted from here on, and so is the time of the session.
    let armed = Instant::now();
    session.arm();
    for target in &mut targets {
        target.armed(Duration::ZERO);
        target.probes_settled(&session);
        target.follow_mappings(&mut session, &mut naming, false);
    }
    drop(haste);
    let start = start_line(&targets, &session);
    for target in &mut targets {
        // The start line tells of them.
        drop(target.loaded());
    }
    output.start(&start, args)?;
    if let Some(command) = &mut command {
        command.release()?;
    }
    let mut watch = Watch::new(args, targets, naming, command, armed)?;
    let end = follow(&mut watch, &mut session, &mut output, &mut signals).await;
    // Also when it went wrong: what was said before is to be read.
    let written = output.written(&mut signals).await;
    let end = end?;
    written?;
    Ok(Outcome {
        leak_found: watch.leak_found(),
        command: (!args.command.is_empty())
            .then(|| command_outcome(&end))
            .flatten(),
    })
}

/// From the first reading to the last line.
async fn follow(
    watch: &mut Watch<'_>,
    session: &mut Session,
    output: &mut Output,
    signals: &mut Signals,
) -> anyhow::Result<End> {
    let ended = watch.until_end(session, output, signals).await;
    let reason = watch.finish(session, output, ended)?;
    let end = watch.end_line(session, reason);
    output.end(&end)?;
    Ok(end)
}

/// The exit code that a shell gives for this end.
fn command_outcome(end: &End) -> Option<u8> {
    let code = end.exit_code.or(end.signal.map(|signal| 128 + signal))?;
    u8::try_from(code).ok()
}

fn start_line(targets: &[Traced], session: &Session) -> crate::report::Start {
    crate::report::Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        targets: targets.iter().map(Traced::line).collect(),
        probes: targets.iter().flat_map(Traced::probe_lines).collect(),
        stacks: match session.walks_by_eh_frame() {
            true => "eh-frame".to_owned(),
            false => "frame-pointer".to_owned(),
        },
        unwind_table_bytes: session.unwind_table_bytes(),
    }
}

/// How stacks are walked: as the user wants, else as well as the kernel allows.
fn walks_by_eh_frame(wanted: Stacks, has_loop: bool) -> anyhow::Result<bool> {
    match (wanted, has_loop) {
        (Stacks::FramePointer, _) => Ok(false),
        (_, true) => Ok(true),
        (Stacks::Auto, false) => {
            log::warn!(
                "this kernel lacks bpf_loop (Linux 5.17), so stacks follow frame pointers: of code that \
                 was built without them only the direct caller is seen"
            );
            Ok(false)
        }
        (Stacks::EhFrame, false) => anyhow::bail!(
            "cannot unwind by .eh_frame: this kernel lacks bpf_loop; update it to Linux 5.17 or \
             later, or leave --stacks out"
        ),
    }
}

fn session_config(args: &TraceArgs, eh_frame: bool, preflight: &Preflight) -> Config {
    Config {
        sizes: Sizes {
            live: args.max_live,
            stacks: args.max_stacks,
            pending: args.max_pending,
            event_bytes: args.event_buffer,
        },
        min_size_bytes: args.min_size,
        max_size_bytes: args.max_size.unwrap_or(u64::MAX),
        eh_frame,
        has_loop: preflight.has_loop(),
        has_find_vma: preflight.has_find_vma(),
        follow_forks: args.follow_forks,
        debug: args.verbose >= 2,
    }
}

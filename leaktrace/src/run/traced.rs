//! One traced process in one epoch, from one exec to the next: what is known of it, its objects and its
//! probes.

mod reading;
mod reporting;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::allocator_code::FreeCode;
use super::exits::Life;
use super::haste::Haste;
use super::late_code::LateCode;
use super::lineage::AtExec;
use super::own_mappings::OwnMappings;
use super::replaced_code::CodeSeen;
use super::shared_memory::Sharers;
use crate::allocators::{self, Pair};
use crate::analysis::{Alerts, Footprint, MemoryTracker, Temporaries, Tracker};
use crate::compose::{PairReading, Unseen};
use crate::preflight::{KernelVersion, uretprobe_hazard};
use crate::probes::{ProbePlan, Step};
use crate::report::{ProbeLine, TargetLine};
use crate::session::{ExitStatus, Session};
use crate::snapshot::{Aged, Losses, Snapshot};
use crate::symbolize::{ElfNaming, JitNames};
use crate::target::{FileId, Mappings, MemoryUse, Object, Process};

/// A process under trace.
pub(super) struct Traced {
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) exe: Option<PathBuf>,
    /// Absent when it had ended before it could be looked at.
    pub(super) process: Option<Process>,
    pub(super) index: u16,
    /// Places in the session's table of the programs that it ran before.
    pub(super) former: Vec<u16>,
    /// Process that it was forked from under trace.
    pub(super) parent: Option<u32>,
    /// 1 for the program that it ran when the session began (or that its parent ran), one more
    /// after each exec.
    pub(super) epoch: u32,
    /// Session time at which it began: not zero for children and after an exec.
    pub(super) begun: Duration,
    pub(super) objects: Vec<Object>,
    /// Files with code that could not be opened, of which the session does not know yet.
    pub(super) unreadable: Vec<FileId>,
    /// Of the objects, those whose functions have been looked for.
    pub(super) objects_planned: usize,
    pub(super) pairs: Vec<PairReading>,
    /// The pairs as the user named them.
    pub(super) specs: Vec<Pair>,
    pub(super) plan: ProbePlan,
    pub(super) mappings: Arc<Mappings>,
    pub(super) late_code: LateCode,
    /// What has become of code that it had.
    pub(super) code_seen: CodeSeen,
    pub(super) tracker: Tracker,
    pub(super) memory: MemoryTracker,
    pub(super) footprint: Footprint,
    /// Names of the code that it makes.
    pub(super) jit: JitNames,
    /// Made at the first reading.
    pub(super) alerts: Option<Alerts>,
    pub(super) rss_at_start_bytes: Option<u64>,
    pub(super) latest: Snapshot,
    /// What of it is as old as the user wants it, when it was read for a report.
    aged: Option<Aged>,
    /// When that was taken.
    read_at: SystemTime,
    /// Filled only when the user asks for it.
    pub(super) temporaries: Temporaries,
    /// Whether the kernel takes the probes out when the main thread ends.
    main_thread_holds_probes: bool,
    pub(super) mmap: bool,
    /// Functions whose probes the output has told of.
    pub(super) functions_told: usize,
    /// Allocators of the program before an exec: their probes are in place when the next one starts.
    pub(super) allocators_before: Vec<FileId>,
    /// What became of them then.
    pub(super) at_exec: AtExec,
    /// What of it was not counted, for how long.
    pub(super) unseen: Option<Unseen>,
    /// Where its functions that free are.
    pub(super) free_code: FreeCode,
    /// The user wants its system calls counted in any case.
    pub(super) syscalls_wanted: bool,
    /// Mappings that it makes without the C library.
    pub(super) own_mappings: OwnMappings,
    /// When the program was executed whose allocator has not been found yet.
    pub(super) waiting_since: Option<Instant>,
    /// It has ended before that was found.
    pub(super) unsettled: bool,
    /// The output has told of it already, while its allocator was looked for.
    pub(super) is_told: bool,
    /// Processes in its memory that are not counted.
    pub(super) sharers: Sharers,
    /// Its process among those whose ends are waited for.
    pub(super) life: Life,
    /// It has ended, and its last reading is taken: what it held then, and how that was judged, stays.
    pub(super) ended: bool,
    /// Whether its last report has judged several stacks together to be leaking.
    groups_leak: bool,
    /// A report of that reading was written, before that of the session's end.
    pub(super) last_told: bool,
    /// Its last report is written.
    pub(super) reported: bool,
}

/// Opens every target before anything is loaded, so that a wrong pid costs nothing.
///
/// # Errors
///
/// When one of them cannot be traced.
pub(super) fn open_all(pids: &[u32], mmap: bool, pairs: &[Pair]) -> anyhow::Result<Vec<Traced>> {
    let mut wanted: Vec<u32> = pids.to_vec();
    let mut seen = std::collections::HashSet::new();
    wanted.retain(|pid| seen.insert(*pid));
    wanted
        .into_iter()
        .map(|pid| Traced::open(pid, mmap, pairs))
        .collect()
}

impl Traced {
    fn open(pid: u32, mmap: bool, pairs: &[Pair]) -> anyhow::Result<Self> {
        let process = Process::open(pid)?;
        let refuse = |hazard: String| anyhow::anyhow!("cannot attach to process {pid}: {hazard}");
        if let Some(hazard) = hazard(&process) {
            return Err(refuse(hazard));
        }
        let mappings = process.mappings()?;
        let mut traced = Self::of_process(Some(process), pid, mmap, pairs);
        traced.mappings = Arc::new(mappings);
        Ok(traced)
    }

    /// Looks at its objects, and for what allocates in them. A program that was just started
    /// (`launched`) has no memory of its own yet.
    ///
    /// # Errors
    ///
    /// When there is nothing in it to trace.
    pub(super) fn find_allocators(
        &mut self,
        launched: bool,
        naming: &mut ElfNaming,
    ) -> anyhow::Result<()> {
        let mappings = Arc::clone(&self.mappings);
        self.open_objects(&mappings, naming);
        let may_map = self.may_map_by_itself(&mappings) || (launched && self.mmap);
        let detection = match allocators::find(&self.objects, &self.specs) {
            Ok(detection) => detection,
            Err(_) if may_map && self.specs.is_empty() => return Ok(()),
            Err(none) => anyhow::bail!("{}", none.message(self.pid)),
        };
        if let Some(missing) = allocators::missing_of_pairs(&detection, &self.specs) {
            anyhow::bail!("cannot follow a pair in process {}: {missing}", self.pid);
        }
        for skipped in &detection.skipped {
            log::info!("{}: {}", skipped.path.display(), skipped.reason);
        }
        Ok(())
    }

    /// A process of which nothing is known yet but that it is there.
    pub(super) fn of_process(
        process: Option<Process>,
        pid: u32,
        mmap: bool,
        pairs: &[Pair],
    ) -> Self {
        let mappings = Arc::new(Mappings::default());
        Self {
            pid,
            comm: process
                .as_ref()
                .map(|process| process.comm().to_owned())
                .unwrap_or_default(),
            exe: process.as_ref().and_then(|process| process.exe().cloned()),
            jit: JitNames::of(process.as_ref()),
            process,
            index: 0,
            former: Vec::new(),
            parent: None,
            epoch: 1,
            begun: Duration::ZERO,
            objects: Vec::new(),
            unreadable: Vec::new(),
            objects_planned: 0,
            pairs: pairs.iter().map(PairReading::of).collect(),
            specs: pairs.to_vec(),
            plan: ProbePlan::default(),
            mappings: Arc::clone(&mappings),
            late_code: LateCode::new(),
            code_seen: CodeSeen::default(),
            tracker: Tracker::new(),
            memory: MemoryTracker::default(),
            footprint: Footprint::default(),
            alerts: None,
            rss_at_start_bytes: None,
            main_thread_holds_probes: false,
            latest: Snapshot {
                elapsed: Duration::ZERO,
                sites: Vec::new(),
                unmatched_frees: 0,
                reserved_bytes: 0,
                losses: Losses::default(),
                unwind_table_bytes: 0,
                rss_bytes: None,
                mappings,
            },
            aged: None,
            read_at: SystemTime::now(),
            temporaries: Temporaries::default(),
            mmap,
            functions_told: 0,
            allocators_before: Vec::new(),
            at_exec: AtExec::default(),
            unseen: None,
            free_code: FreeCode::default(),
            syscalls_wanted: false,
            own_mappings: OwnMappings::None,
            waiting_since: None,
            unsettled: false,
            is_told: false,
            sharers: Sharers::default(),
            life: Life::default(),
            ended: false,
            groups_leak: false,
            last_told: false,
            reported: false,
        }
    }

    /// Addresses of the main program's code.
    pub(super) fn program_code(&self) -> Option<std::ops::Range<u64>> {
        let exe = self.exe.as_ref()?;
        let mut code = self
            .mappings
            .executable()
            .filter(|mapping| mapping.path == *exe);
        let first = code.next()?;
        let end = code.last().unwrap_or(first).end;
        Some(first.start..end)
    }

    /// Notes where the process stands when counting begins, or at the time of the session at which it is
    /// noticed: on a busy machine that can be later.
    pub(super) fn armed(&mut self, noticed: Duration) {
        self.rss_at_start_bytes = self.rss_bytes();
        self.tracker = Tracker::since(self.begun);
        if let Some(memory) = self.process.as_ref().and_then(MemoryUse::of) {
            self.observe_memory(noticed, memory);
        }
        self.begin_footprint();
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable once the process has ended; absent when it had before it could be opened.
    pub(super) fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.process.as_ref().map(Process::pidfd)
    }

    pub(super) fn exit_status(&self, session: &Session) -> Option<ExitStatus> {
        session.exit_status(self.index)
    }

    fn rss_bytes(&self) -> Option<u64> {
        self.process.as_ref().and_then(Process::rss_bytes)
    }

    /// Whether its last reading is taken.
    pub(super) const fn is_settled(&self) -> bool {
        self.ended || self.reported
    }

    pub(super) fn line(&self) -> TargetLine {
        TargetLine {
            pid: self.pid,
            comm: self.comm.clone(),
            exe: self
                .exe
                .as_ref()
                .map(|exe| exe.to_string_lossy().into_owned()),
            container: self
                .process
                .as_ref()
                .and_then(|process| process.container().cloned()),
            parent_pid: self.parent,
            epoch: (self.epoch > 1).then_some(self.epoch),
        }
    }

    pub(super) fn probe_lines(&self) -> Vec<ProbeLine> {
        let path = |object: usize| {
            let object = self.objects.get(object);
            object.map(|object| object.path().to_string_lossy().into_owned())
        };
        let unprobed = self.plan.unprobed.iter().map(|unprobed| ProbeLine {
            pid: self.pid,
            object: path(unprobed.object).unwrap_or_default(),
            function: unprobed.function.to_owned(),
            offset: 0,
            attached: false,
            note: Some(unprobed.reason.clone()),
        });
        self.plan
            .functions()
            .map(|probe| ProbeLine {
                pid: self.pid,
                object: path(probe.object).unwrap_or_default(),
                function: probe.function.to_owned(),
                offset: probe.offset,
                attached: true,
                note: (probe.step == Step::SingleStepped)
                    .then(|| "no cheap place: each call costs an exception more".to_owned()),
            })
            .chain(unprobed)
            .chain(self.syscall_lines())
            .collect()
    }

    /// Takes note of new code, attaches to the allocators in it, and takes note of what is mapped
    /// no more after events were lost.
    pub(super) fn follow_mappings(
        &mut self,
        session: &mut Session,
        naming: &mut ElfNaming,
        events_lost: bool,
    ) {
        // Asked in any case: it also notes of which time the mappings are that are read now.
        let old = session.mappings_are_old(self.index);
        if !events_lost && !old || self.is_uncounted() {
            self.late_code.told_nothing(session.events_taken_at());
            return;
        }
        let looked_at = Instant::now();
        let _haste = Haste::begin();
        let Some(now) = self.mappings_now() else {
            // It has ended; its children have the code.
            session.expect_new_code(self.index);
            return;
        };
        // They are those of the next program, if it has executed one by now.
        if !session.is_present(self.index) {
            return;
        }
        if events_lost {
            session.reconcile_mapped(self.index, &now);
        }
        self.take_mappings(&now, session, naming);
        let known = self.allocators();
        if let Err(error) = self.attach_new_objects(session) {
            log::warn!("{error:#}");
            // Its children are to look for themselves.
            self.unsettled |= self.process.as_ref().is_some_and(Process::has_exited);
        }
        // Until one is settled, everything is late.
        if self.waiting_since.is_none() {
            let mut new = self.allocators();
            new.retain(|file| !known.contains(file));
            if !new.is_empty() && !self.had_probes(&new, session) {
                self.allocator_came_late(session);
            }
            self.late_code.looked(looked_at);
        }
    }

    /// What the process maps; absent when it has just ended.
    pub(super) fn mappings_now(&self) -> Option<Mappings> {
        self.process.as_ref()?.mappings().ok()
    }

    /// The same, unless it has executed another program by now: then they may be that one's.
    pub(super) fn own_mappings_now(&self, session: &Session) -> Option<Mappings> {
        self.mappings_now()
            .filter(|_| session.is_present(self.index))
    }

    /// Gives the mappings to the stack walk, and opens what is new in them.
    pub(super) fn take_mappings(
        &mut self,
        now: &Mappings,
        session: &mut Session,
        naming: &mut ElfNaming,
    ) {
        self.remember_mappings(now, session);
        self.open_objects(now, naming);
        if !self.unreadable.is_empty() {
            session.expect_no_tables(self.unreadable.drain(..));
            self.describe_code(now, session);
        }
    }

    /// Gives the mappings to the stack walk: of code that is known, of another process or program,
    /// the tables are there.
    pub(super) fn remember_mappings(&mut self, now: &Mappings, session: &mut Session) {
        let before = Arc::clone(&self.mappings);
        let mut known = (*before).clone();
        known.remember(now);
        self.mappings = Arc::new(known);
        self.describe_code(now, session);
        self.see_code(&before, now, session);
        self.free_code.place(now);
    }

    fn describe_code(&self, now: &Mappings, session: &mut Session) {
        if let Err(error) = session.describe_code(self.index, self.program_code(), now) {
            log::warn!(
                "failed to update the mappings of process {}: {error:#}",
                self.pid
            );
        }
    }

    /// Functions whose probes have not fired.
    pub(super) fn silent_functions(&self, session: &Session) -> Vec<&'static str> {
        let functions = self.plan.functions();
        functions
            .filter(|probe| !session.has_fired(self.index, probe.call.function))
            .map(|probe| probe.function)
            .collect()
    }

    /// Whether nothing of it is counted, for want of a place.
    pub(super) fn is_uncounted(&self) -> bool {
        self.unseen.is_some_and(Unseen::is_all)
    }
}

/// Why return probes would harm the process, if they would.
pub(super) fn hazard(process: &Process) -> Option<String> {
    let kernel = KernelVersion::running()?;
    uretprobe_hazard(kernel, process.seccomp_mode(), process.has_shadow_stack())
}

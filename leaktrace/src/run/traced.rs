//! One traced process: its objects, its probes, its readings, its reports.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use leaktrace_common::call::Call;

use super::attaching::attach_plan;
use super::objects::{bridges_of, open_objects};
use crate::allocators::{self, Detection, Pair};
use crate::analysis::{Alert, Alerts, MemoryTracker, Order, Tracker, Verdict};
use crate::cli::{self, TraceArgs};
use crate::compose::{self, GroupBy, Material, PairReading};
use crate::preflight::{KernelVersion, uretprobe_hazard};
use crate::probes::{PlanOptions, Point, ProbePlan, Program, Step, plan};
use crate::report::{ProbeLine, Report, TargetLine};
use crate::session::{AttachError, ExitStatus, Session};
use crate::snapshot::{Losses, Snapshot};
use crate::symbolize::ElfNaming;
use crate::target::{
    LINKER_STATE, LINKER_STATE_OFFSET, Mappings, MemoryUse, OBJECTS_CHANGED, Object, Process,
    TargetError,
};

/// A process under trace.
pub(super) struct Traced {
    process: Process,
    objects: Vec<Object>,
    detection: Detection,
    pairs: Vec<PairReading>,
    specs: Vec<Pair>,
    plan: ProbePlan,
    index: u16,
    mappings: Arc<Mappings>,
    naming: ElfNaming,
    tracker: Tracker,
    memory: MemoryTracker,
    /// Made when the first report is.
    alerts: Option<Alerts>,
    rss_at_start_bytes: Option<u64>,
    latest: Snapshot,
    mappings_traced: bool,
    stack_at_start: Option<u64>,
    replaced: bool,
}

/// Looks at every target before anything is loaded, so that a wrong pid costs nothing.
///
/// # Errors
///
/// When one of them cannot be traced.
pub(super) fn open_all(pids: &[u32], pairs: &[Pair]) -> anyhow::Result<Vec<Traced>> {
    let mut wanted: Vec<u32> = pids.to_vec();
    let mut seen = std::collections::HashSet::new();
    wanted.retain(|pid| seen.insert(*pid));
    wanted
        .into_iter()
        .map(|pid| Traced::open(pid, pairs))
        .collect()
}

impl Traced {
    fn open(pid: u32, pairs: &[Pair]) -> anyhow::Result<Self> {
        let process = Process::open(pid)?;
        let refuse = |hazard: String| anyhow::anyhow!("cannot attach to process {pid}: {hazard}");
        if let Some(kernel) = KernelVersion::running()
            && let Some(hazard) =
                uretprobe_hazard(kernel, process.seccomp_mode(), process.has_shadow_stack())
        {
            return Err(refuse(hazard));
        }
        let mappings = process.mappings()?;
        let (objects, naming) = open_objects(&process, &mappings);
        let detection = allocators::find(&objects, pairs)
            .map_err(|none| anyhow::anyhow!("{}", none.message(pid)))?;
        if let Some(missing) = allocators::missing_of_pairs(&detection, pairs) {
            anyhow::bail!("cannot follow a pair in process {pid}: {missing}");
        }
        let latest = Snapshot {
            elapsed: Duration::ZERO,
            sites: Vec::new(),
            unmatched_frees: 0,
            reserved_bytes: 0,
            losses: Losses::default(),
            unwind_table_bytes: 0,
            rss_bytes: None,
            mappings: Arc::new(mappings.clone()),
        };
        Ok(Self {
            process,
            objects,
            detection,
            pairs: pairs.iter().map(PairReading::of).collect(),
            specs: pairs.to_vec(),
            plan: ProbePlan::default(),
            index: 0,
            mappings: Arc::new(mappings),
            naming,
            tracker: Tracker::new(),
            memory: MemoryTracker::default(),
            alerts: None,
            rss_at_start_bytes: None,
            latest,
            mappings_traced: false,
            stack_at_start: None,
            replaced: false,
        })
    }

    /// Plans the probes and attaches them, frees first.
    ///
    /// # Errors
    ///
    /// When the process ended meanwhile or the kernel refuses a probe.
    pub(super) fn attach(&mut self, session: &mut Session, mmap: bool) -> anyhow::Result<()> {
        let pid = self.process.pid();
        self.mappings_traced = mmap;
        self.index = session.add_process(pid, self.program_code(), &self.mappings)?;
        self.request_tables(session);
        if !session.walks_by_eh_frame() {
            let bridges: Vec<_> = self
                .objects
                .iter()
                .flat_map(|object| bridges_of(object, &self.mappings))
                .collect();
            session.add_bridges(self.index, &bridges)?;
        }
        let detection = std::mem::take(&mut self.detection);
        for skipped in &detection.skipped {
            log::info!("{}: {}", skipped.path.display(), skipped.reason);
        }
        self.attach_objects(session, &detection)?;
        self.watch_linker(session);
        // The kernel attaches to a process that has just ended as well, and nothing would follow.
        if self.process.has_exited() {
            anyhow::bail!(TargetError::Exited { pid });
        }
        Ok(())
    }

    /// Asks for the unwind tables of all objects, those first that allocations are most likely to
    /// come from: the program, then who hands out blocks, then the rest, small ones first.
    fn request_tables(&self, session: &mut Session) {
        let mut objects: Vec<(usize, &Object)> = self.objects.iter().enumerate().collect();
        let allocates = |index: usize| {
            self.plan
                .functions()
                .any(|function| function.object == index)
        };
        let exe = self.process.exe();
        objects.sort_by_key(|(index, object)| {
            let is_program = exe.is_some_and(|exe| exe == object.path());
            (!is_program, !allocates(*index), object.size_bytes())
        });
        for (_, object) in objects {
            session.request_table(object);
        }
    }

    /// Has the process tell when it loads objects. Without that they are noticed only when stacks
    /// lead into them.
    fn watch_linker(&self, session: &mut Session) {
        let linker = self.process.linker(&self.mappings);
        let object = self
            .objects
            .iter()
            .find(|object| Some(object.file_id()) == linker);
        let Some(object) = object else { return };
        let functions = object.functions(&[OBJECTS_CHANGED]).unwrap_or_default();
        let points: Vec<Point> = functions
            .iter()
            .map(|function| Point {
                file_offset: function.file_offset,
                cookie: Call::of_linker(self.index).to_cookie(),
            })
            .collect();
        if points.is_empty() {
            return;
        }
        let linked = self
            .mappings
            .executable()
            .find(|mapping| mapping.file == linker);
        if let Ok(Some(svma)) = object.data(LINKER_STATE)
            && let Ok(segments) = object.segments()
            && let Some(bias) = linked.and_then(|mapping| segments.bias(mapping))
        {
            let address = bias.wrapping_add(svma + LINKER_STATE_OFFSET);
            session.set_linker_state(self.index, address);
        }
        let path = object.open_path();
        if let Err(error) = session.attach(Program::CodeMapped, &path, self.pid(), &points) {
            log::info!(
                "process {} does not tell when it loads objects: {error}",
                self.pid()
            );
        }
    }

    /// Plans the probes of what was detected, and attaches them.
    ///
    /// # Errors
    ///
    /// When the process ended meanwhile or the kernel refuses every probe.
    fn attach_objects(
        &mut self,
        session: &mut Session,
        detection: &Detection,
    ) -> anyhow::Result<()> {
        let pid = self.pid();
        let numbers = self.plan.probes.iter().map(|probe| probe.call.function + 1);
        let options = PlanOptions {
            mmap: self.mappings_traced,
            first_function: numbers.max().unwrap_or(0),
        };
        let objects = &self.objects;
        let mut plan = plan(self.index, detection, options, |object, offset, length| {
            let object = objects.get(object)?;
            object.code(offset, length).ok()
        });
        attach_plan(&mut plan, |group, points| {
            let Some(object) = objects.get(group.object) else {
                return Ok(());
            };
            session.attach(group.program, &object.open_path(), pid, points)
        })
        .map_err(|error| match error {
            AttachError::ProcessExited => anyhow::anyhow!(TargetError::Exited { pid }),
            AttachError::Refused(reason) => anyhow::anyhow!(
                "cannot attach to process {pid}: the kernel refused every probe: {reason}; \
                 `leaktrace doctor` says what is missing",
            ),
        })?;
        self.plan.probes.extend(plan.probes);
        self.plan.unprobed.extend(plan.unprobed);
        Ok(())
    }

    /// Attaches what the objects from this one on need, which came while the process was traced.
    fn attach_new_objects(&mut self, session: &mut Session, first: usize) {
        let Ok(mut detection) = allocators::find(&self.objects, &self.specs) else {
            return;
        };
        detection.functions.retain(|found| found.object >= first);
        detection.unfollowed.retain(|found| found.object >= first);
        if let Err(error) = self.attach_objects(session, &detection) {
            log::warn!("{error:#}");
        }
    }

    /// Addresses of the main program's code.
    fn program_code(&self) -> Option<std::ops::Range<u64>> {
        let exe = self.process.exe()?;
        let mut code = self
            .mappings
            .executable()
            .filter(|mapping| mapping.path == *exe);
        let first = code.next()?;
        let end = code.last().unwrap_or(first).end;
        Some(first.start..end)
    }

    /// Notes where the process stands when counting begins.
    pub(super) fn armed(&mut self) {
        self.rss_at_start_bytes = self.process.rss_bytes();
        self.stack_at_start = self.process.stack_start();
        self.read_memory(Duration::ZERO);
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.pidfd()
    }

    pub(super) fn exit_status(&self, session: &Session) -> Option<ExitStatus> {
        session.exit_status(self.index)
    }

    pub(super) fn line(&self) -> TargetLine {
        TargetLine {
            pid: self.pid(),
            comm: self.process.comm().to_owned(),
            exe: self
                .process
                .exe()
                .map(|exe| exe.to_string_lossy().into_owned()),
            container: self.process.container().cloned(),
        }
    }

    pub(super) fn probe_lines(&self) -> Vec<ProbeLine> {
        let path = |object: usize| {
            let object = self.objects.get(object);
            object.map(|object| object.path().to_string_lossy().into_owned())
        };
        let unprobed = self.plan.unprobed.iter().map(|unprobed| ProbeLine {
            pid: self.pid(),
            object: path(unprobed.object).unwrap_or_default(),
            function: unprobed.function.to_owned(),
            offset: 0,
            attached: false,
            note: Some(unprobed.reason.clone()),
        });
        self.plan
            .functions()
            .map(|probe| ProbeLine {
                pid: self.pid(),
                object: path(probe.object).unwrap_or_default(),
                function: probe.function.to_owned(),
                offset: probe.offset,
                attached: true,
                note: (probe.step == Step::SingleStepped)
                    .then(|| "no cheap place: each call costs an exception more".to_owned()),
            })
            .chain(unprobed)
            .collect()
    }

    /// Takes note of new code, and of what is mapped no more after events were lost.
    pub(super) fn follow_mappings(&mut self, session: &mut Session, events_lost: bool) {
        if !events_lost && !session.mappings_are_old(self.index) {
            return;
        }
        // A process that has just ended keeps the mappings that were known.
        let Ok(now) = self.process.mappings() else {
            return;
        };
        if events_lost {
            session.reconcile_mapped(self.index, &now);
        }
        let first_new = self.objects.len();
        for mapping in now.executable() {
            if mapping.file.is_some_and(|id| !self.naming.holds(id))
                && let Ok(object) = Object::open(&self.process, mapping)
            {
                session.request_table(&object);
                if !session.walks_by_eh_frame()
                    && let Err(error) = session.add_bridges(self.index, &bridges_of(&object, &now))
                {
                    log::warn!("process {}: {error:#}", self.pid());
                }
                self.naming.hold(object.clone());
                self.objects.push(object);
            }
        }
        if self.objects.len() > first_new {
            self.attach_new_objects(session, first_new);
        }
        if let Err(error) = session.set_mappings(self.index, &now) {
            log::warn!(
                "failed to update the mappings of process {}: {error:#}",
                self.pid()
            );
        }
        let mut known = (*self.mappings).clone();
        known.remember(&now);
        self.mappings = Arc::new(known);
    }

    /// Takes a reading.
    ///
    /// # Errors
    ///
    /// When a kernel map cannot be read.
    pub(super) fn read(
        &mut self,
        session: &mut Session,
        elapsed: Duration,
        older: Duration,
    ) -> anyhow::Result<()> {
        self.latest = Snapshot {
            elapsed,
            sites: session
                .sites(self.index, older)
                .with_context(|| format!("failed to read what process {} holds", self.pid()))?,
            unmatched_frees: session.unmatched_frees(self.index),
            reserved_bytes: session.reserved_bytes(self.index),
            losses: session.losses(self.index),
            unwind_table_bytes: session.unwind_table_bytes(),
            rss_bytes: self.process.rss_bytes(),
            mappings: Arc::clone(&self.mappings),
        };
        for (number, pair) in (0..).zip(&mut self.pairs) {
            pair.unmatched_frees = session.unmatched_of_pair(self.index, number);
        }
        let stack = self.process.stack_start();
        self.replaced |= stack.is_some() && stack != self.stack_at_start;
        self.tracker.observe(&self.latest);
        self.read_memory(elapsed);
        Ok(())
    }

    /// What the process held last stays known when it has ended.
    fn read_memory(&mut self, elapsed: Duration) {
        if let Some(memory) = MemoryUse::of(&self.process) {
            self.memory.observe(elapsed, memory);
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

    /// Whether any site, listed or not, was judged leaking at the latest reading.
    pub(super) fn is_leaking(&self) -> bool {
        let mut sites = self
            .latest
            .sites
            .iter()
            .filter(|site| site.totals.live_count > 0);
        sites.any(|site| self.tracker.growth(site.index).verdict == Verdict::Leaking)
    }

    fn check_alerts(&mut self, args: &TraceArgs) -> Vec<Alert> {
        let alerts = self
            .alerts
            .get_or_insert_with(|| Alerts::new(args.alert.clone()));
        let leaks: Vec<u64> = match alerts.wants_leaks() {
            true => self
                .latest
                .sites
                .iter()
                .filter(|site| site.totals.live_count > 0)
                .filter(|site| self.tracker.growth(site.index).verdict == Verdict::Leaking)
                .map(|site| site.stack.id)
                .collect(),
            false => Vec::new(),
        };
        alerts.check(&self.memory, &leaks)
    }

    /// A report of the latest reading that lists `top` sites (0: all).
    pub(super) fn report(
        &mut self,
        args: &TraceArgs,
        seq: u64,
        is_final: bool,
        order: Order,
        top: usize,
    ) -> Report {
        let alerts = self.check_alerts(args);
        let material = Material {
            pairs: &self.pairs,
            seq,
            is_final,
            pid: self.process.pid(),
            comm: self.process.comm(),
            snapshot: &self.latest,
            tracker: &self.tracker,
            alerts: &alerts,
            churn: args.churn,
            memory: &self.memory,
            group_by: group_by(args.group_by),
            rss_at_start_bytes: self.rss_at_start_bytes,
            mappings_traced: self.mappings_traced,
            main_thread_ended: self.process.main_thread_has_ended(),
            filtered: args.min_size > 0 || args.max_size.is_some() || !args.older.is_zero(),
            naming_failures: self.naming.failures(),
            replaced: self.replaced,
        };
        compose::report(&material, order, top, &mut self.naming)
    }
}

const fn group_by(by: cli::GroupBy) -> GroupBy {
    match by {
        cli::GroupBy::Stack => GroupBy::Stack,
        cli::GroupBy::Function => GroupBy::Function,
        cli::GroupBy::Module => GroupBy::Module,
        cli::GroupBy::Line => GroupBy::Line,
    }
}

//! Puts probes into the objects of a traced process, those that it has and those that it loads, and
//! has the unwind tables of these objects made.

use leaktrace_common::call::Call;

use super::attaching::attach_more;
use super::descriptors::Reserve;
use super::objects::bridges_of;
use super::traced::Traced;
use crate::allocators::{self, Detection};
use crate::probes::{PlanOptions, Point, Program, plan};
use crate::session::{AttachError, ProbedObject, Session};
use crate::symbolize::ElfNaming;
use crate::target::{
    LINKER_STATE, LINKER_STATE_OFFSET, Mappings, OBJECTS_CHANGED, Object, Process, Root,
    TargetError,
};
use crate::unwind::{Builder, OPERATORS};

impl Traced {
    /// Enters the process into the session, and attaches its probes, frees first.
    ///
    /// # Errors
    ///
    /// When the process ended meanwhile or the kernel refuses every probe.
    pub(super) fn attach(&mut self, session: &mut Session) -> anyhow::Result<()> {
        session.expect_no_tables(self.unreadable.drain(..));
        self.index = session.add_process(self.pid, self.program_code(), &self.mappings)?;
        self.attach_new_objects(session)?;
        self.count_own_mappings(session)?;
        // The kernel attaches to a process that has just ended as well, and nothing would follow.
        if self.process.as_ref().is_some_and(Process::has_exited) {
            anyhow::bail!(TargetError::Exited { pid: self.pid });
        }
        Ok(())
    }

    /// Attaches what the objects need that were opened since this was called last.
    ///
    /// # Errors
    ///
    /// When the process ended meanwhile or the kernel refuses every probe.
    pub(super) fn attach_new_objects(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let first_new = std::mem::replace(&mut self.objects_planned, self.objects.len());
        if first_new == self.objects.len() {
            return Ok(());
        }
        let _reserve = Reserve::begin();
        if !session.walks_by_eh_frame() {
            let bridges: Vec<_> = self.objects[first_new..]
                .iter()
                .flat_map(|object| bridges_of(object, &self.mappings))
                .collect();
            if let Err(error) = session.add_bridges(self.index, &bridges) {
                log::warn!("stacks of process {} can miss a frame: {error:#}", self.pid);
            }
        }
        let mut attached = Ok(());
        if let Ok(mut detection) = allocators::find(&self.objects, &self.specs) {
            detection
                .functions
                .retain(|found| found.object >= first_new);
            detection
                .unfollowed
                .retain(|found| found.object >= first_new);
            attached = self.attach_detected(session, &detection);
        }
        // In any case: stacks of others lead through their code.
        self.request_tables(session, first_new);
        self.watch_linker(session, first_new);
        attached
    }

    /// Opens the objects that have code in the process and are not open yet, and holds them: for
    /// the allocators now, for names later, also when the process or the file is gone by then.
    pub(super) fn open_objects(&mut self, mappings: &Mappings, naming: &mut ElfNaming) {
        let Some(process) = &self.process else { return };
        let roots = [Root::of(process), Root::own()];
        let roots: Vec<Root> = roots.into_iter().flatten().collect();
        for mapping in mappings.executable() {
            let Some(id) = mapping.file else { continue };
            if self.objects.iter().any(|object| object.file_id() == id) {
                continue;
            }
            match Object::open(process, mapping) {
                Ok(object) => {
                    let is_program = self.exe.as_deref() == Some(object.path());
                    let object = naming.held(&object).unwrap_or_else(|| {
                        let found = object.with_debug_file(&roots);
                        let object = naming.complete(found, is_program);
                        look_up_at_once(&object);
                        naming.hold(object.clone());
                        object
                    });
                    self.objects.push(object);
                }
                Err(error) => {
                    log::info!("left out: {error}");
                    self.unreadable.push(id);
                }
            }
        }
    }

    /// Plans the probes of what was detected, and attaches them.
    fn attach_detected(
        &mut self,
        session: &mut Session,
        detection: &Detection,
    ) -> anyhow::Result<()> {
        let (pid, index) = (self.pid, self.index);
        let numbers = self.plan.probes.iter().map(|probe| probe.call.function + 1);
        let options = PlanOptions {
            mmap: self.mmap,
            first_function: numbers.max().unwrap_or(0),
        };
        let objects = &self.objects;
        let plan = plan(index, detection, options, |object, offset, length| {
            let object = objects.get(object)?;
            object.code(offset, length).ok()
        });
        attach_more(&mut self.plan, plan, |group, points| {
            let Some(object) = objects.get(group.object) else {
                return Ok(());
            };
            let probed = ProbedObject {
                path: &object.open_path(),
                file: object.file_id(),
                pid,
            };
            session.attach(group.program, probed, index, points)
        })
        .map_err(|error| match error {
            AttachError::ProcessExited => anyhow::anyhow!(TargetError::Exited { pid }),
            AttachError::Refused(reason) => anyhow::anyhow!(
                "cannot attach to process {pid}: the kernel refused every probe: {reason}; \
                 `leaktrace doctor` says what is missing",
            ),
        })?;
        self.free_code.add(detection, &self.objects);
        let now = self.code_seen.latest().unwrap_or(&self.mappings);
        self.free_code.place(now);
        Ok(())
    }

    /// Has the unwind tables of all objects made, before there is a session that takes them.
    pub(super) fn begin_tables(&self, builder: &mut Builder) {
        for object in self.by_urgency(0) {
            builder.request(object.clone());
        }
    }

    /// Asks for the unwind tables of the objects from this one on.
    fn request_tables(&self, session: &mut Session, first: usize) {
        for object in self.by_urgency(first) {
            session.request_table(object);
        }
    }

    /// The objects from this one on, those first that allocations are most likely to come from: the
    /// program, then who hands out blocks, then the rest, small ones first.
    fn by_urgency(&self, first: usize) -> Vec<&Object> {
        let mut objects: Vec<&Object> = self.objects.iter().skip(first).collect();
        objects.sort_by_key(|object| {
            let is_program = self.exe.as_deref() == Some(object.path());
            (!is_program, !allocates(object), object.size_bytes())
        });
        objects
    }

    /// Has the process tell when it loads objects, if its dynamic linker is among the objects from
    /// this one on. Without that they are noticed only when stacks lead into them.
    fn watch_linker(&mut self, session: &mut Session, first: usize) {
        let linker = self
            .process
            .as_ref()
            .and_then(|process| process.linker(&self.mappings));
        let object = self.objects[first..]
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
        let probed = ProbedObject {
            path: &object.open_path(),
            file: object.file_id(),
            pid: self.pid,
        };
        if let Err(error) = session.attach(Program::CodeMapped, probed, self.index, &points) {
            log::info!(
                "process {} does not tell when it loads objects: {error}",
                self.pid
            );
        } else {
            self.late_code.will_tell();
        }
    }
}

/// Whether the object defines functions that hand out blocks.
fn allocates(object: &Object) -> bool {
    let names: Vec<&str> = allocators::names().collect();
    object
        .functions(&names)
        .is_ok_and(|functions| !functions.is_empty())
}

/// All that will be asked of the object's symbols, in one go: there can be half a million. One that
/// cannot be read is told of when it is asked.
fn look_up_at_once(object: &Object) {
    let names: Vec<&str> = allocators::names()
        .chain(OPERATORS)
        .chain([OBJECTS_CHANGED])
        .collect();
    let _ = object.functions(&names);
}

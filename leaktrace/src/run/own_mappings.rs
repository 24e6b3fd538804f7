//! Processes that map memory without the C library: which they are, and what is done about it.

use super::traced::Traced;
use crate::report::ProbeLine;
use crate::session::{MAPPING_SYSCALLS, Session};
use crate::target::{Mappings, Object};

/// What the probe table calls the object that system calls are in.
const KERNEL: &str = "[system calls]";

/// Sections by which a program of Go is known; some linkers put a prefix before them.
const SECTIONS_OF_GO: [&str; 2] = [".gopclntab", ".go.buildinfo"];

/// Whether and why mappings are counted by system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnMappings {
    /// The functions of the C library tell of them.
    None,
    /// They are counted.
    Counted,
    /// They are there and not counted.
    NotCounted,
}

impl Traced {
    /// Counts mappings by system calls where the functions do not tell of all of them.
    ///
    /// # Errors
    ///
    /// When nothing else of the process could be counted and the kernel does not tell of them.
    pub(super) fn count_own_mappings(&mut self, session: &mut Session) -> anyhow::Result<()> {
        if self.own_mappings != OwnMappings::None || !self.needs_syscalls() {
            return Ok(());
        }
        let pid = self.pid;
        match session.count_syscalls(self.index) {
            Ok(()) => {
                self.own_mappings = OwnMappings::Counted;
                if self.plan.probes.is_empty() {
                    log::warn!(
                        "no allocation functions found in process {pid}: only its mappings are \
                         counted, by the system calls {}{}",
                        MAPPING_SYSCALLS.join(", "),
                        match self.objects.iter().any(is_go) {
                            true =>
                                "; for what is inside Go's heap see its own heap profile (pprof)",
                            false => "",
                        }
                    );
                }
            }
            Err(reason) if self.plan.probes.is_empty() => anyhow::bail!(
                "no allocation functions found in process {pid}, and its mappings cannot be counted \
                 by system calls: {reason}; `leaktrace doctor` says what is missing"
            ),
            Err(reason) => {
                self.own_mappings = OwnMappings::NotCounted;
                log::warn!(
                    "mappings that process {pid} makes by system calls of its own are not counted: \
                     {reason}"
                );
            }
        }
        Ok(())
    }

    fn needs_syscalls(&self) -> bool {
        let by_functions = self
            .plan
            .functions()
            .any(|probe| probe.call.kind.is_mapping());
        // Static programs are apt to make system calls in line. So is musl, whose linker is its C
        // library: a detached thread unmaps its own stack.
        let linker = self
            .process
            .as_ref()
            .and_then(|process| process.linker(&self.mappings));
        let linker_allocates = self.plan.functions().any(|probe| {
            let object = self.objects.get(probe.object);
            object.map(Object::file_id) == linker
        });
        let in_line = self.process.is_some() && (linker.is_none() || linker_allocates);
        self.mmap
            && (self.syscalls_wanted || !by_functions || in_line || self.objects.iter().any(is_go))
    }

    /// Whether a process without an allocator can hold memory all the same.
    pub(super) fn may_map_by_itself(&self, mappings: &Mappings) -> bool {
        self.mmap && (mappings.has_own_memory() || self.objects.iter().any(is_go))
    }

    /// What the table of probes says of system calls.
    pub(super) fn syscall_lines(&self) -> impl Iterator<Item = ProbeLine> + '_ {
        let calls = match self.own_mappings {
            OwnMappings::None => &[][..],
            _ => &MAPPING_SYSCALLS[..],
        };
        calls.iter().map(|call| ProbeLine {
            pid: self.pid,
            object: KERNEL.to_owned(),
            function: (*call).to_owned(),
            offset: 0,
            attached: self.own_mappings == OwnMappings::Counted,
            note: Some(match self.own_mappings {
                OwnMappings::Counted => "by a trace event of the kernel".to_owned(),
                _ => "the kernel does not tell of it".to_owned(),
            }),
        })
    }
}

/// Whether an object has Go's runtime, which makes system calls by itself, also beside a C library.
fn is_go(object: &Object) -> bool {
    object.sections().is_ok_and(|sections| {
        sections.iter().any(|section| {
            SECTIONS_OF_GO
                .iter()
                .any(|known| section.name.ends_with(known))
        })
    })
}

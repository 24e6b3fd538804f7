//! Obeys a probe plan: attaches the loaded programs to the points it is told, and takes them off
//! again in the reverse order.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use aya::programs::{ProgramError, UProbe};
use leaktrace_common::call::Call;

use super::Session;
use super::inherited::Place;
use super::multi::{self, Points};
use crate::probes::{Point, Program, Role};
use crate::target::{FileId, threads};

/// The programs that a plan can ask for, those first that the kernel takes longest to verify.
pub(super) const PROGRAMS: [Program; 7] = [
    Program::AllocateEnter,
    Program::MappingEnter,
    Program::AllocateReturn,
    Program::AllocateRet,
    Program::FreeEnter,
    Program::MappingReturn,
    Program::CodeMapped,
];

/// Name of a program in the BPF object.
pub(super) const fn program_name(program: Program) -> &'static str {
    match program {
        Program::FreeEnter => "free_enter",
        Program::AllocateEnter => "allocate_enter",
        Program::AllocateReturn => "allocate_return",
        Program::AllocateRet => "allocate_ret",
        Program::MappingEnter => "mapping_enter",
        Program::CodeMapped => "code_mapped",
        Program::MappingReturn => "mapping_return",
    }
}

/// Why probes could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The process ended meanwhile.
    #[error("the process exited")]
    ProcessExited,
    /// The kernel refused.
    #[error("{0}")]
    Refused(String),
}

/// The object that probes are put into.
#[derive(Clone, Copy, Debug)]
pub struct ProbedObject<'a> {
    /// Leads to it, also after its file was replaced.
    pub path: &'a str,
    /// Its identity.
    pub file: FileId,
    /// Process whose hits count.
    pub pid: u32,
}

/// An attached program; closing it detaches. The descriptor of a multi link, or what aya keeps
/// for perf events, which needs the program to be asked.
pub(super) enum Link {
    Multi(OwnedFd),
    Perf {
        program: Program,
        id: aya::programs::uprobe::UProbeLinkId,
    },
}

impl Session {
    /// Attaches a program to points of an object, for hits by the process with this index, and by
    /// its children when forks are followed.
    ///
    /// # Errors
    ///
    /// When the process is gone or the kernel refuses; probes attached before stay.
    pub fn attach(
        &mut self,
        program: Program,
        object: ProbedObject<'_>,
        process: u16,
        points: &[Point],
    ) -> Result<(), AttachError> {
        if self.inherited.is_some() {
            return self.attach_inherited(program, object, process, points);
        }
        let ProbedObject { path, pid, .. } = object;
        match self.programs.get(program_name(program)) {
            Some(fd) => {
                let (offsets, cookies): (Vec<u64>, Vec<u64>) = points
                    .iter()
                    .map(|point| (point.file_offset, point.cookie))
                    .unzip();
                let points = Points {
                    path,
                    tgid: pid,
                    offsets: &offsets,
                    cookies: &cookies,
                    at_return: program.role() == Role::Return,
                };
                let link = multi::link(fd, &points).map_err(|error| refused(&error))?;
                self.links.push((process, Link::Multi(link)));
                Ok(())
            }
            None => self.attach_perf_events(program, object, process, points),
        }
    }

    /// Takes every probe off, the last one attached first. The target runs on untouched.
    ///
    /// Programs are told to do nothing first, so that no call is seen to begin whose end is not.
    /// Closing a link waits for a grace period of the kernel; they are waited for together.
    pub fn detach(&mut self) {
        self.disarm();
        self.inherited = None;
        self.syscalls = None;
        let links = std::mem::take(&mut self.links);
        self.close(links);
    }

    /// Takes probes off, the last one first.
    pub(super) fn close(&mut self, mut links: Vec<(u16, Link)>) {
        std::thread::scope(|scope| {
            while let Some((_, link)) = links.pop() {
                match link {
                    Link::Multi(fd) => {
                        scope.spawn(move || drop(fd));
                    }
                    Link::Perf { program, id } => detach_perf_event(&mut self.ebpf, program, id),
                }
            }
        });
    }

    fn attach_inherited(
        &mut self,
        program: Program,
        object: ProbedObject<'_>,
        process: u16,
        points: &[Point],
    ) -> Result<(), AttachError> {
        let threads = threads(object.pid).map_err(|_| AttachError::ProcessExited)?;
        let Some(inherited) = &mut self.inherited else {
            return Ok(());
        };
        let loaded: &UProbe = self
            .ebpf
            .program(program_name(program))
            .ok_or_else(|| AttachError::Refused("program is not loaded".to_owned()))?
            .try_into()
            .map_err(|error: ProgramError| AttachError::Refused(error.to_string()))?;
        let loaded = loaded
            .fd()
            .map_err(|error| AttachError::Refused(error.to_string()))?;
        for point in points {
            let place = Place {
                file: object.file,
                offset: point.file_offset,
                program,
                ledger: Call::from_cookie(point.cookie).lane.ledger(),
            };
            inherited
                .attach(
                    place,
                    object.path,
                    loaded,
                    point.cookie,
                    (process, &threads),
                )
                .map_err(|error| refused(&error))?;
        }
        Ok(())
    }

    fn attach_perf_events(
        &mut self,
        program: Program,
        object: ProbedObject<'_>,
        process: u16,
        points: &[Point],
    ) -> Result<(), AttachError> {
        let ProbedObject { path, pid, .. } = object;
        let tgid = NonZeroU32::new(pid).ok_or(AttachError::ProcessExited)?;
        for place in points {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(place.file_offset),
                cookie: Some(place.cookie),
            };
            let loaded: &mut UProbe = self
                .ebpf
                .program_mut(program_name(program))
                .ok_or_else(|| AttachError::Refused("program is not loaded".to_owned()))?
                .try_into()
                .map_err(|error: ProgramError| AttachError::Refused(error.to_string()))?;
            let id = loaded
                .attach(point, path, UProbeScope::OneProcess(tgid))
                .map_err(|error| AttachError::Refused(error.to_string()))?;
            self.links.push((process, Link::Perf { program, id }));
        }
        Ok(())
    }
}

fn detach_perf_event(
    ebpf: &mut aya::Ebpf,
    program: Program,
    id: aya::programs::uprobe::UProbeLinkId,
) {
    let program = ebpf
        .program_mut(program_name(program))
        .and_then(|program| <&mut UProbe>::try_from(program).ok());
    if let Some(program) = program {
        // A probe that is gone already needs no detaching.
        let _ = program.detach(id);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.detach();
    }
}

fn refused(error: &io::Error) -> AttachError {
    match error.raw_os_error() {
        Some(libc::ESRCH) => AttachError::ProcessExited,
        _ => AttachError::Refused(error.to_string()),
    }
}

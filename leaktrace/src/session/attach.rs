//! Obeys a probe plan: attaches the loaded programs to the points it is told, and takes them off
//! again in the reverse order.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use aya::programs::{ProgramError, UProbe};

use super::Session;
use super::multi::{self, Points};
use crate::probes::{Point, Program, Role};

/// The programs that a plan can ask for.
pub(super) const PROGRAMS: [Program; 7] = [
    Program::FreeEnter,
    Program::AllocateReturn,
    Program::AllocateRet,
    Program::AllocateEnter,
    Program::MappingReturn,
    Program::MappingEnter,
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
    /// Attaches a program to points of the object behind `path`, for hits
    /// by the process `tgid`.
    ///
    /// # Errors
    ///
    /// When the process is gone or the kernel refuses; probes attached before stay.
    pub fn attach(
        &mut self,
        program: Program,
        path: &str,
        tgid: u32,
        points: &[Point],
    ) -> Result<(), AttachError> {
        match self.programs.get(program_name(program)) {
            Some(fd) => {
                let (offsets, cookies): (Vec<u64>, Vec<u64>) = points
                    .iter()
                    .map(|point| (point.file_offset, point.cookie))
                    .unzip();
                let points = Points {
                    path,
                    tgid,
                    offsets: &offsets,
                    cookies: &cookies,
                    at_return: program.role() == Role::Return,
                };
                let link = multi::link(fd, &points).map_err(|error| refused(&error))?;
                self.links.push(Link::Multi(link));
                Ok(())
            }
            None => self.attach_perf_events(program, path, tgid, points),
        }
    }

    /// Takes every probe off, the last one attached first. The target runs on untouched.
    ///
    /// Programs are told to do nothing first, so that no call is seen to begin whose end is not.
    /// Closing a link waits for a grace period of the kernel; they are waited for together.
    pub fn detach(&mut self) {
        self.disarm();
        let mut links = std::mem::take(&mut self.links);
        std::thread::scope(|scope| {
            while let Some(link) = links.pop() {
                match link {
                    Link::Multi(fd) => {
                        scope.spawn(move || drop(fd));
                    }
                    Link::Perf { program, id } => detach_perf_event(&mut self.ebpf, program, id),
                }
            }
        });
    }

    fn attach_perf_events(
        &mut self,
        program: Program,
        path: &str,
        tgid: u32,
        points: &[Point],
    ) -> Result<(), AttachError> {
        let tgid = NonZeroU32::new(tgid).ok_or(AttachError::ProcessExited)?;
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
            self.links.push(Link::Perf { program, id });
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

//! Obeys a probe plan: attaches the loaded programs to the points it is told, and takes them off
//! again in the reverse order.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope};
use aya::programs::{ProgramError, UProbe};

use super::Session;
use super::multi::{self, Points};

/// The programs that a plan can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// Entry of a function that frees.
    FreeEnter,
    /// Entry of a function that allocates.
    AllocateEnter,
    /// Return from a function that allocates.
    AllocateReturn,
    /// Entry of mmap and its family.
    MappingEnter,
    /// Return from mmap and its family.
    MappingReturn,
}

impl Program {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::FreeEnter,
        Self::AllocateEnter,
        Self::AllocateReturn,
        Self::MappingEnter,
        Self::MappingReturn,
    ];

    /// Name in the BPF object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FreeEnter => "free_enter",
            Self::AllocateEnter => "allocate_enter",
            Self::AllocateReturn => "allocate_return",
            Self::MappingEnter => "mapping_enter",
            Self::MappingReturn => "mapping_return",
        }
    }

    const fn runs_at_return(self) -> bool {
        matches!(self, Self::AllocateReturn | Self::MappingReturn)
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
    Perf { program: Program, id: aya::programs::uprobe::UProbeLinkId },
}

impl Session {
    /// Attaches a program to points (file offset, cookie) of the object behind `path`, for hits
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
        points: &[(u64, u64)],
    ) -> Result<(), AttachError> {
        match self.programs.get(program.name()) {
            Some(fd) => {
                let (offsets, cookies): (Vec<u64>, Vec<u64>) = points.iter().copied().unzip();
                let points = Points {
                    path,
                    tgid,
                    offsets: &offsets,
                    cookies: &cookies,
                    at_return: program.runs_at_return(),
                };
                let link = multi::link(fd, &points).map_err(|error| refused(&error))?;
                self.links.push(Link::Multi(link));
                Ok(())
            }
            None => self.attach_perf_events(program, path, tgid, points),
        }
    }

    /// Takes every probe off, the last one attached first. The target runs on untouched.
    pub fn detach(&mut self) {
        while let Some(link) = self.links.pop() {
            match link {
                Link::Multi(fd) => drop(fd),
                Link::Perf { program, id } => {
                    let program: Result<&mut UProbe, _> = match self.ebpf.program_mut(program.name())
                    {
                        Some(program) => program.try_into(),
                        None => continue,
                    };
                    if let Ok(program) = program {
                        // A probe that is gone already needs no detaching.
                        let _ = program.detach(id);
                    }
                }
            }
        }
    }

    fn attach_perf_events(
        &mut self,
        program: Program,
        path: &str,
        tgid: u32,
        points: &[(u64, u64)],
    ) -> Result<(), AttachError> {
        let tgid = NonZeroU32::new(tgid).ok_or(AttachError::ProcessExited)?;
        for (file_offset, cookie) in points {
            let point = UProbeAttachPoint {
                location: UProbeAttachLocation::AbsoluteOffset(*file_offset),
                cookie: Some(*cookie),
            };
            let loaded: &mut UProbe = self
                .ebpf
                .program_mut(program.name())
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

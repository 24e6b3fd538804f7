//! Mappings by system calls, for programs that do not go through the functions of a C library: Go,
//! static programs without symbols. The kernel's trace events of these calls fire for every process,
//! so that they are attached only when a traced process needs them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::programs::{ProgramError, TracePoint};

use super::Session;
use super::perf_event::{Inherit, link, open_event};
use super::processes::in_initial_pid_namespace;
use super::tracefs::Tracefs;

/// The system calls that change which addresses are mapped.
pub const MAPPING_SYSCALLS: [&str; 6] = ["mmap", "munmap", "mremap", "brk", "shmat", "shmdt"];

/// Those of them that a kernel may be built without.
const OPTIONAL: [&str; 2] = ["shmat", "shmdt"];

/// The attached programs; dropping them detaches.
pub(super) struct SyscallProbes(#[expect(dead_code, reason = "held open")] Vec<Attached>);

#[expect(dead_code, reason = "held open")]
struct Attached {
    // Dropped before the event that it is linked to.
    link: OwnedFd,
    event: OwnedFd,
}

impl Session {
    /// Counts the mappings that a process makes by system calls of its own, as well as those that it
    /// makes through probed functions.
    ///
    /// # Errors
    ///
    /// Why the kernel does not tell of these calls.
    pub fn count_syscalls(&mut self, process: u16) -> Result<(), String> {
        if !in_initial_pid_namespace() {
            return Err("leaktrace runs in a pid namespace of its own".to_owned());
        }
        if self.syscalls.is_none() {
            self.syscalls = Some(self.attach_syscalls()?);
        }
        self.processes
            .update(usize::from(process), |state| state.syscalls = 1);
        Ok(())
    }

    fn attach_syscalls(&mut self) -> Result<SyscallProbes, String> {
        let tracefs = Tracefs::open().map_err(|error| format!("no tracefs: {error}"))?;
        let mut attached = Vec::new();
        // Ends before beginnings, so that no call is seen to begin whose end is not.
        for (name, edge) in [
            ("mapping_syscall_exit", "exit"),
            ("mapping_syscall_enter", "enter"),
        ] {
            let program: &mut TracePoint = self
                .ebpf
                .program_mut(name)
                .ok_or("the program is not in the object")?
                .try_into()
                .map_err(|error: ProgramError| error.to_string())?;
            program.load().map_err(|error| error.to_string())?;
            let program = program.fd().map_err(|error| error.to_string())?;
            for call in MAPPING_SYSCALLS {
                let event = format!("syscalls/sys_{edge}_{call}");
                match attach(&tracefs, &event, program) {
                    Ok(probe) => attached.push(probe),
                    Err(error) if OPTIONAL.contains(&call) && is_missing(&error) => {}
                    Err(error) => return Err(format!("no trace event {event}: {error}")),
                }
            }
        }
        Ok(SyscallProbes(attached))
    }
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn attach(tracefs: &Tracefs, event: &str, program: &impl AsFd) -> io::Result<Attached> {
    let id = tracefs.event_id(event)?;
    // The program runs for all threads once it is linked; the event itself is this thread's.
    let event = open_event(id, 0, Inherit::No)?;
    let link = link(program, event.as_raw_fd(), 0)?;
    Ok(Attached { link, event })
}

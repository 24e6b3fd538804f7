//! The table of traced processes.

use crate::reuse::Reuse;

/// What the programs keep about one traced process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessState {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// How many mapping tables the process was given. They are written to two places in turn: the
    /// lowest bit says which is current.
    pub mapping_table: u32,
    /// Address of the kernel's uretprobe trampoline in this process; zero until it was seen.
    pub trampoline: u64,
    /// Calls of free (or realloc) with a block that is not in the ledger, most of them
    /// allocated before the session.
    pub unmatched_frees: u64,
    /// First address of the main program's code; zero when unknown.
    pub program_start: u64,
    /// First address behind it.
    pub program_end: u64,
    /// First return address that has a bridge; zero when there is none.
    pub bridges_start: u64,
    /// Behind the last one.
    pub bridges_end: u64,
    /// Set when the process has exited; `exit_code` is then valid.
    pub exited: u32,
    /// Its wait status: exit code << 8 | signal.
    pub exit_code: u32,
    /// Set when a frame was outside all known executable mappings: user space should look again.
    pub mapping_missed: u32,
    /// Index of the process's first epoch. An exec replaces the program and starts another epoch,
    /// which has an index of its own.
    pub first: u32,
    /// In the first epoch's entry: index of the present epoch, to which hits count;
    /// [`NO_PROCESS`] when the table had no room for it.
    pub present: u32,
    /// In the first epoch's entry: index of the epoch whose probes count. Those of the epoch
    /// before may still be in place, and fire too.
    pub probes_of: u32,
    /// Index of the process whose mapping tables describe this one: its own, or that of a process from
    /// which it was forked, as long as that has them.
    pub code_of: u32,
    /// Index of the process that forked, or of the epoch before; its own when user space chose it.
    pub parent: u32,
    /// Set when the kernel chose the process as the victim of an out-of-memory kill.
    pub oom_victim: u32,
    /// The dynamic linker's state when it told of a change last.
    pub linker_was: u32,
    /// Address of the dynamic linker's state, a 32-bit number; 0 when unknown.
    pub linker_state: u64,
    /// How often the dynamic linker has begun or ended to remove code. Advanced by the programs.
    pub removals: u32,
    /// The value of `removals` before the mappings were read that the walk uses: while it is lower,
    /// other code may be where they say.
    pub removals_known: u32,
    /// Set when the system calls that change mappings are counted.
    pub syscalls: u32,
    /// Set when another thread than the main one has called the exec that began this epoch.
    pub executed_by_other_thread: u32,
    /// Time of that exec, CLOCK_MONOTONIC; 0 for what was not executed under trace.
    pub executed_at_ns: u64,
    /// Time when the process exited, CLOCK_MONOTONIC; 0 while it runs.
    pub ended_at_ns: u64,
    /// Number of the entry among all that the session has made, from 1 on: places of the table are
    /// used again, numbers are not.
    pub serial: u32,
    /// Index of the process whose bridges this one has: its own, or those of a process from which it
    /// was forked.
    pub bridges_of: u32,
}

/// The linker's state while it removes objects: RT_DELETE of link.h.
pub const LINKER_REMOVES: u32 = 2;

/// Stands for an entry that the table of processes has no room for.
pub const NO_PROCESS: u32 = u32::MAX;

/// Where the kernel keeps what the programs read of a task, bytes from the start of
/// `task_struct`; 0 when unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `exit_code`
    pub exit_code: u32,
    /// `pid`: the thread's id.
    pub pid: u32,
    /// `tgid`: the process's id.
    pub tgid: u32,
    /// `mm`: the address space.
    pub mm: u32,
    /// `signal`: what the threads of a process share.
    pub signal: u32,
    /// `group_leader`: the main thread.
    pub group_leader: u32,
    /// In `signal_struct`: how many threads live.
    pub signal_live: u32,
    /// There: flags.
    pub signal_flags: u32,
    /// There: the exit code of exit_group and of a deadly signal.
    pub group_exit_code: u32,
    /// In the address space, `brk`: the end of the data segment, bytes from the start of `mm_struct`.
    pub mm_brk: u32,
}

/// Switches that user space sets while programs run; the only entry of the map `CONTROL`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Zero: programs return at once. Set when all probes are attached.
    pub armed: u32,
    /// Sites handed out so far that were never used before; the next one gets this index. Advanced by
    /// the programs.
    pub next_site: u32,
    /// Places of the table of processes that are or were in use; the next one gets this index. Advanced
    /// by user space before the session is armed, by the programs afterwards.
    pub next_process: u32,
    /// Layout of the kernel's tasks.
    pub task: TaskOffsets,
    /// Entries of the table of processes that were made so far.
    pub serials: u32,
    /// When counting began, CLOCK_MONOTONIC.
    pub armed_at_ns: u64,
    /// Places of the table of processes that can be used again.
    pub free_processes: Reuse,
    /// Sites that can be used again.
    pub free_sites: Reuse,
}

const _: () = assert!(size_of::<ProcessState>() == 144);
const _: () = assert!(size_of::<Control>() == 80);

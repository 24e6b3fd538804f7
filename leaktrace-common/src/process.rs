//! The table of traced processes.

/// What the programs keep about one traced process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessState {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Which of the two mapping tables of the process is current: 0 or 1.
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
    /// Set when a thread of the process has exited; `exit_code` is then valid.
    pub exited: u32,
    /// Wait status of the last thread that exited: exit code << 8 | signal.
    pub exit_code: u32,
    /// Set when a frame was outside all known executable mappings: user space should look again.
    pub mapping_missed: u32,
    /// Always zero.
    pub padding: u32,
}

/// Switches that user space sets while programs run; the only entry of the map `CONTROL`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Zero: programs return at once. Set when all probes are attached.
    pub armed: u32,
    /// Sites handed out so far; the next one gets this index. Advanced by the programs.
    pub next_site: u32,
    /// Offset of `exit_code` in the kernel's `task_struct`; 0 when unknown.
    pub task_exit_code_offset: u32,
    /// Always zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<ProcessState>() == 72);
const _: () = assert!(size_of::<Control>() == 16);

//! The stacks that the kernel's own walker finds at a place of a process: `bpf_get_stackid` in a BPF
//! program of some thirty instructions that counts what it returns. Kept apart from leaktrace.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Frames of a stack, which is as many as the kernel hands out by default.
const FRAMES: usize = 127;
/// Stacks with equal hashes drop each other: four times as many as any program here has.
const STACKS: u32 = 1 << 16;

const BPF_MAP_TYPE_HASH: u32 = 1;
const BPF_MAP_TYPE_STACK_TRACE: u32 = 7;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_PROG_LOAD: libc::c_long = 5;

/// Counts stacks from its making until it is read.
#[derive(Debug)]
pub(crate) struct KernelStacks {
    stacks: OwnedFd,
    counts: OwnedFd,
    _program: OwnedFd,
    probe: OwnedFd,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// How often each stack was found, innermost frame first.
    pub(crate) stacks: HashMap<Vec<u64>, u64>,
    /// Walks that gave no stack: none was found, or another with the same hash was there.
    pub(crate) dropped: u64,
}

impl KernelStacks {
    /// Probes the instruction at this file offset, in one process.
    pub(crate) fn attach(pid: u32, object: &Path, file_offset: u64) -> Self {
        let stacks = create_map(BPF_MAP_TYPE_STACK_TRACE, 4, (FRAMES * 8) as u32);
        let counts = create_map(BPF_MAP_TYPE_HASH, 8, 8);
        let program = load(&program(stacks.as_raw_fd(), counts.as_raw_fd()));
        let probe = open_probe(pid, object, file_offset, &program);
        Self {
            stacks,
            counts,
            _program: program,
            probe,
        }
    }

    /// What was counted until now.
    pub(crate) fn read(self) -> Counted {
        disable(&self.probe);
        let mut counted = Counted::default();
        let (mut key, mut next) = (u64::MAX, 0u64);
        while element(BPF_MAP_GET_NEXT_KEY, &self.counts, &mut key, &mut next) {
            key = next;
            let mut count = 0u64;
            if !element(BPF_MAP_LOOKUP_ELEM, &self.counts, &mut key, &mut count) {
                continue;
            }
            match u32::try_from(key) {
                Ok(id) => {
                    *counted.stacks.entry(self.stack(id)).or_default() += count;
                }
                // An error number, as the 64 bits that a helper returns.
                Err(_) => counted.dropped += count,
            }
        }
        counted
    }

    fn stack(&self, mut id: u32) -> Vec<u64> {
        let mut frames = [0u64; FRAMES];
        element(BPF_MAP_LOOKUP_ELEM, &self.stacks, &mut id, &mut frames);
        let depth = frames.iter().position(|frame| *frame == 0);
        frames[..depth.unwrap_or(FRAMES)].to_vec()
    }
}

/// `counts[bpf_get_stackid(ctx, stacks, BPF_F_USER_STACK)] += 1`.
fn program(stacks: i32, counts: i32) -> Vec<u64> {
    const GET_STACKID: i32 = 27;
    const LOOKUP: i32 = 1;
    const UPDATE: i32 = 2;
    const USER_STACK: i32 = 1 << 8;
    const ONLY_NEW: i32 = 1;
    let [stacks_low, stacks_high] = map(2, stacks);
    let [counts_low, counts_high] = map(1, counts);
    let count = [
        counts_low,
        counts_high,
        code(0xbf, 2, 10, 0, 0),     // r2 = fp
        code(0x07, 2, 0, 0, -8),     // r2 -= 8
        code(0x85, 0, 0, 0, LOOKUP), // r0 = lookup(r1, r2)
    ];
    let mut program = vec![
        stacks_low,
        stacks_high,
        code(0xb7, 3, 0, 0, USER_STACK),  // r3 = flags
        code(0x85, 0, 0, 0, GET_STACKID), // r0 = bpf_get_stackid(r1, r2, r3)
        code(0x7b, 10, 0, -8, 0),         // key = r0
    ];
    program.extend(count);
    program.extend([
        code(0x15, 0, 0, 4, 0),    // if r0 == 0 goto new
        code(0xb7, 1, 0, 0, 1),    // r1 = 1
        code(0xdb, 0, 1, 0, 0),    // lock *r0 += r1
        code(0xb7, 0, 0, 0, 0),    // r0 = 0
        code(0x95, 0, 0, 0, 0),    // exit
        code(0x7a, 10, 0, -16, 1), // new: value = 1
        counts_low,
        counts_high,
        code(0xbf, 2, 10, 0, 0),       // r2 = fp
        code(0x07, 2, 0, 0, -8),       // r2 -= 8
        code(0xbf, 3, 10, 0, 0),       // r3 = fp
        code(0x07, 3, 0, 0, -16),      // r3 -= 16
        code(0xb7, 4, 0, 0, ONLY_NEW), // r4 = BPF_NOEXIST
        code(0x85, 0, 0, 0, UPDATE),   // r0 = update(r1, r2, r3, r4)
        code(0x15, 0, 0, 8, 0),        // if r0 == 0 goto end
    ]);
    // Another thread was first.
    program.extend(count);
    program.extend([
        code(0x15, 0, 0, 2, 0), // if r0 == 0 goto end
        code(0xb7, 1, 0, 0, 1), // r1 = 1
        code(0xdb, 0, 1, 0, 0), // lock *r0 += r1
        code(0xb7, 0, 0, 0, 0), // end: r0 = 0
        code(0x95, 0, 0, 0, 0), // exit
    ]);
    program
}

/// One instruction, as the kernel's `struct bpf_insn` has it.
fn code(operation: u8, to: u8, from: u8, offset: i16, immediate: i32) -> u64 {
    u64::from(operation)
        | u64::from(to) << 8
        | u64::from(from) << 12
        | u64::from(offset.cast_unsigned()) << 16
        | u64::from(immediate.cast_unsigned()) << 32
}

/// The two instructions that load the address of a map.
fn map(register: u8, fd: i32) -> [u64; 2] {
    const MAP_FD: u8 = 1;
    [code(0x18, register, MAP_FD, 0, fd), 0]
}

#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
}

/// `struct perf_event_attr` up to `config2`: for uprobes the path and the offset.
#[repr(C)]
#[derive(Default)]
struct EventAttributes {
    kind: u32,
    size: u32,
    config: u64,
    unused: [u64; 4],
    unused_words: [u32; 2],
    path: u64,
    offset: u64,
}

fn create_map(kind: u32, key_bytes: u32, value_bytes: u32) -> OwnedFd {
    let mut attributes = MapAttributes {
        kind,
        key_bytes,
        value_bytes,
        entries: STACKS,
        flags: 0,
    };
    owned(bpf(BPF_MAP_CREATE, &mut attributes)).expect("cannot create a BPF map")
}

fn load(instructions: &[u64]) -> OwnedFd {
    const BPF_PROG_TYPE_KPROBE: u32 = 2;
    let mut attributes = ProgramAttributes {
        kind: BPF_PROG_TYPE_KPROBE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
    };
    owned(bpf(BPF_PROG_LOAD, &mut attributes)).expect("cannot load a BPF program")
}

fn open_probe(pid: u32, object: &Path, file_offset: u64, program: &OwnedFd) -> OwnedFd {
    const ANY_CPU: libc::c_long = -1;
    const NO_GROUP: libc::c_long = -1;
    const CLOSE_ON_EXEC: libc::c_long = 8;
    const SET_BPF: libc::c_ulong = 0x4004_2408;
    const ENABLE: libc::c_ulong = 0x2400;
    let path = CString::new(object.to_string_lossy().as_bytes()).expect("a path without a zero");
    let kind = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")
        .expect("the kernel has no uprobes");
    let attributes = EventAttributes {
        kind: kind.trim().parse().expect("the type is a number"),
        size: size_of::<EventAttributes>() as u32,
        path: path.as_ptr() as u64,
        offset: file_offset,
        ..Default::default()
    };
    // SAFETY: the attributes and the path that they point to outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            libc::c_long::from(pid),
            ANY_CPU,
            NO_GROUP,
            CLOSE_ON_EXEC,
        )
    };
    let event = owned(fd).expect("cannot open a uprobe");
    for (request, argument) in [(SET_BPF, program.as_raw_fd()), (ENABLE, 0)] {
        // SAFETY: both requests take a number, and the descriptors are open.
        let done = unsafe { libc::ioctl(event.as_raw_fd(), request, argument) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
    event
}

fn disable(event: &OwnedFd) {
    const DISABLE: libc::c_ulong = 0x2401;
    // SAFETY: the request takes no argument, and the descriptor is open.
    let done = unsafe { libc::ioctl(event.as_raw_fd(), DISABLE, 0) };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

/// Whether the map had an answer for the key.
fn element<K, V>(command: libc::c_long, map: &OwnedFd, key: &mut K, value: &mut V) -> bool {
    let mut attributes = ElementAttributes {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: &raw mut *key as u64,
        value: &raw mut *value as u64,
        flags: 0,
    };
    bpf(command, &mut attributes) == 0
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> libc::c_long {
    // SAFETY: the attributes and what they point to outlive the call, and the size is theirs.
    unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nothing else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

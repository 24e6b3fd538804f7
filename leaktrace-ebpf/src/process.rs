//! Which process a hit counts to, and what is kept of each: forks, execs and exits move entries of
//! the table of processes. Counts no block.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_ktime_get_ns};
use aya_ebpf::programs::RawTracePointContext;
use leaktrace_common::call::Call;
use leaktrace_common::event::{Event, EventKind};
use leaktrace_common::limits::MAX_PAIRS;
use leaktrace_common::limits::MAX_PROCESSES;
use leaktrace_common::loss::Loss;
use leaktrace_common::process::{NO_PROCESS, ProcessState, TaskOffsets};

use crate::maps::{CONTROL, FOLLOW_FORKS, PAIR_UNMATCHED, PROCESSES, TRACED};
use crate::{atomic, loss, maps, pending, reuse};

/// Index of the process that a hit of this probe counts to; `None` when it does not count.
///
/// When forks are followed, probes fire in children as well, and the running process decides.
/// Otherwise the kernel lets through the hits of one process only, and the probe's cookie names
/// its entry; that spares a look-up in a hash map.
#[inline(always)]
pub fn of_hit(call: Call) -> Option<u32> {
    if FOLLOW_FORKS.load() != 0 {
        return index_of(running_tgid());
    }
    let probed = u32::from(call.process);
    let own = PROCESSES.get_ptr(probed)?;
    // SAFETY: the pointer is a live map value; `first` is written once, before the probe exists.
    let first = PROCESSES.get_ptr_mut(unsafe { (*own).first })?;
    // SAFETY: the pointer is a live map value; volatile because the other side writes it.
    let (tgid, present, probes_of) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*first).tgid),
            core::ptr::read_volatile(&raw const (*first).present),
            core::ptr::read_volatile(&raw const (*first).probes_of),
        )
    };
    if probes_of != probed || present == NO_PROCESS {
        return None;
    }
    if tgid == 0 {
        learn_tgid(first, present);
    }
    Some(present)
}

/// In a pid namespace of its own, user space does not know the id by which programs see the
/// process; the first hit tells it.
#[inline(never)]
fn learn_tgid(state: *mut ProcessState, index: u32) {
    let tgid = running_tgid();
    // SAFETY: the pointer is a live map value; every writer writes the same value.
    unsafe { core::ptr::write_volatile(&raw mut (*state).tgid, tgid) };
    // Ignored: the table has room for every process, and without the entry only the exit is missed.
    let _ = TRACED.insert(tgid, index, 0);
}

/// Index of the running process, if its system calls are counted.
#[inline(always)]
pub fn of_syscall() -> Option<u32> {
    let index = index_of(running_tgid())?;
    let state = PROCESSES.get_ptr(index)?;
    // SAFETY: the pointer is a live map value; volatile because user space writes it.
    let counted = unsafe { core::ptr::read_volatile(&raw const (*state).syscalls) != 0 };
    counted.then_some(index)
}

/// End of the running process's data segment; 0 when the kernel's layout is not known.
#[inline(always)]
pub fn data_segment_end() -> u64 {
    let Some(task) = task_offsets() else { return 0 };
    if task.mm_brk == 0 {
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    let running = unsafe { bpf_get_current_task() };
    let mm: u64 = member(running, task.mm);
    member(mm, task.mm_brk)
}

#[inline(always)]
fn running_tgid() -> u32 {
    (bpf_get_current_pid_tgid() >> 32) as u32
}

#[inline(always)]
fn index_of(tgid: u32) -> Option<u32> {
    // SAFETY: the pointer is a live map value.
    TRACED.get_ptr(tgid).map(|index| unsafe { *index })
}

/// Counts a free of a block that the ledger does not have.
#[inline(always)]
pub fn count_unmatched_free(process: u32) {
    if let Some(state) = PROCESSES.get_ptr_mut(process) {
        // SAFETY: the pointer is a live map value.
        unsafe { atomic::add(&raw mut (*state).unmatched_frees, 1) };
    }
}

/// Counts a free of what the ledger of a pair does not have.
#[inline(always)]
pub fn count_unmatched_of_pair(process: u32, pair: u8) {
    let index = process * MAX_PAIRS + u32::from(pair);
    if let Some(count) = PAIR_UNMATCHED.get_ptr_mut(index) {
        atomic::add(count, 1);
    }
}

/// Index of the process whose bridges this one has.
#[inline(always)]
pub fn bridges_of(process: u32) -> u32 {
    match PROCESSES.get_ptr(process) {
        // SAFETY: the pointer is a live map value; volatile because user space writes it.
        Some(state) => unsafe { core::ptr::read_volatile(&raw const (*state).bridges_of) },
        None => process,
    }
}

/// A traced process has forked: the child gets an entry, and starts with its parent's code. A
/// child that shares the address space (vfork) counts to its parent, whose memory it uses.
#[inline(always)]
pub fn forked(ctx: &RawTracePointContext) {
    let Some(parent) = index_of(running_tgid()) else {
        return;
    };
    let Some(task) = task_offsets() else { return };
    let (parent_task, child_task): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let child_tgid: u32 = member(child_task, task.tgid);
    if child_tgid == 0 || child_tgid == running_tgid() {
        return;
    }
    if member::<u64>(parent_task, task.mm) == member::<u64>(child_task, task.mm) {
        // Ignored: without the entry the few calls of a vfork child are not counted.
        let _ = TRACED.insert(child_tgid, parent, 0);
        return;
    }
    let Some((child, state)) = new_entry() else {
        return loss::count(parent, Loss::ProcessTableFull, 0);
    };
    let Some(old) = PROCESSES.get_ptr(parent) else {
        return;
    };
    // SAFETY: both pointers are live map values; nobody else knows the new entry yet.
    unsafe {
        (*state).trampoline = (*old).trampoline;
        (*state).program_start = (*old).program_start;
        (*state).program_end = (*old).program_end;
        (*state).bridges_start = (*old).bridges_start;
        (*state).bridges_end = (*old).bridges_end;
        (*state).linker_state = (*old).linker_state;
        (*state).first = child;
        (*state).present = child;
        (*state).probes_of = child;
        (*state).code_of = (*old).code_of;
        (*state).bridges_of = (*old).bridges_of;
        // As much in doubt as its parent's: it may have the code that came after that which went.
        (*state).removals_known = (*old).removals_known;
        (*state).removals = (*old).removals;
        (*state).parent = parent;
        (*state).syscalls = (*old).syscalls;
        // Last: user space takes the entry as filled when it has an id.
        core::ptr::write_volatile(&raw mut (*state).tgid, child_tgid);
    }
    enter(child_tgid, child, parent);
}

/// A traced process runs another program now: another epoch begins, with an entry of its own.
#[inline(always)]
pub fn executed(ctx: &RawTracePointContext) {
    let tgid = running_tgid();
    let Some(before) = index_of(tgid) else { return };
    // The thread that called exec has taken over the process's id.
    let old_tid: u64 = ctx.arg(1);
    forget_thread(old_tid as u32, before);
    forget_thread(tgid, before);
    let Some(old) = PROCESSES.get_ptr(before) else {
        return;
    };
    // SAFETY: the pointer is a live map value.
    let (old_tgid, old_first) = unsafe { ((*old).tgid, (*old).first) };
    let Some((index, state)) = new_entry() else {
        loss::count(before, Loss::ProcessTableFull, 0);
        // Ignored: it was found above.
        let _ = TRACED.remove(tgid);
        if old_tgid == tgid {
            set_present(old_first, NO_PROCESS);
        }
        return;
    };
    // A vfork child counted to its parent; it is a process of its own from now on.
    let first = if old_tgid == tgid { old_first } else { index };
    // SAFETY: the pointer is a live map value; nobody else knows the new entry yet.
    unsafe {
        (*state).first = first;
        (*state).present = index;
        (*state).probes_of = index;
        (*state).code_of = index;
        (*state).bridges_of = index;
        (*state).parent = before;
        (*state).executed_by_other_thread = u32::from(old_tid as u32 != tgid);
        (*state).executed_at_ns = bpf_ktime_get_ns();
        // Last: user space takes the entry as filled when it has an id.
        core::ptr::write_volatile(&raw mut (*state).tgid, tgid);
    }
    if first != index {
        set_present(first, index);
    }
    enter(tgid, index, before);
}

#[inline(always)]
fn set_present(first: u32, index: u32) {
    if let Some(state) = PROCESSES.get_ptr_mut(first) {
        // SAFETY: the pointer is a live map value.
        unsafe { core::ptr::write_volatile(&raw mut (*state).present, index) };
    }
}

/// A free entry of the table of processes, with a number of its own.
#[inline(always)]
fn new_entry() -> Option<(u32, *mut ProcessState)> {
    let index = match reuse::process() {
        Some(index) => index,
        None => unused_place()?,
    };
    let control = CONTROL.get_ptr_mut(0)?;
    let state = PROCESSES.get_ptr_mut(index)?;
    // SAFETY: both pointers are live map values; nobody else knows the new entry yet.
    unsafe { (*state).serial = atomic::fetch_add(&raw mut (*control).serials, 1) + 1 };
    Some((index, state))
}

#[inline(always)]
fn unused_place() -> Option<u32> {
    let control = CONTROL.get_ptr_mut(0)?;
    // SAFETY: the pointer is a live map value.
    let next = unsafe { &raw mut (*control).next_process };
    // SAFETY: as above. Looked at first, so that a full table does not make the counter wrap.
    if unsafe { core::ptr::read_volatile(next) } >= MAX_PROCESSES {
        return None;
    }
    let index = atomic::fetch_add(next, 1);
    (index < MAX_PROCESSES).then_some(index)
}

/// Makes a filled entry known: to the programs, and to user space, which looks at the table also
/// when the event is lost.
#[inline(always)]
fn enter(tgid: u32, index: u32, parent: u32) {
    if TRACED.insert(tgid, index, 0).is_err() {
        loss::count(parent, Loss::ProcessTableFull, 0);
    }
    maps::send(&Event {
        kind: EventKind::NewProcess as u32,
        process: index,
        ..Event::default()
    });
}

/// Flag of `signal_struct` (linux/sched/signal.h): all threads exit, with one code.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// Gives the thread's slot back. With the last thread, keeps the exit status and forgets the process.
#[inline(always)]
pub fn thread_exit(ctx: &RawTracePointContext) {
    let id = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((id >> 32) as u32, id as u32);
    let Some(process) = index_of(tgid) else {
        return;
    };
    forget_thread(tid, process);
    let Some(state) = PROCESSES.get_ptr_mut(process) else {
        return;
    };
    let Some(task) = task_offsets() else { return };
    let exiting: u64 = ctx.arg(0);
    let shared: u64 = member(exiting, task.signal);
    if shared == 0 || member::<u32>(shared, task.signal_live) != 0 {
        return;
    }
    // SAFETY: the pointer is a live map value.
    if unsafe { (*state).tgid } != tgid {
        // A vfork child that never executed a program: it was counted to its parent.
        // Ignored: it was found above.
        let _ = TRACED.remove(tgid);
        return;
    }
    // As wait(2) has it: what exit_group or a signal has said, else the main thread's own.
    let exit_code: u32 = match member::<u32>(shared, task.signal_flags) & SIGNAL_GROUP_EXIT {
        0 => member(member(exiting, task.group_leader), task.exit_code),
        _ => member(shared, task.group_exit_code),
    };
    // SAFETY: the pointer is a live map value.
    unsafe {
        core::ptr::write_volatile(&raw mut (*state).exit_code, exit_code);
        core::ptr::write_volatile(&raw mut (*state).ended_at_ns, bpf_ktime_get_ns());
        core::ptr::write_volatile(&raw mut (*state).exited, 1);
    }
    // The id can be another process's from now on. Ignored: it was found above.
    let _ = TRACED.remove(tgid);
}

/// The kernel kills a process because memory is out: the argument is its task since Linux 6.8,
/// before that a thread id.
#[inline(always)]
pub fn chosen_as_oom_victim(ctx: &RawTracePointContext) {
    let argument: u64 = ctx.arg(0);
    let tgid = if argument >> 32 == 0 {
        argument as u32
    } else {
        match task_offsets() {
            Some(task) => member(argument, task.tgid),
            None => return,
        }
    };
    let Some(process) = index_of(tgid) else {
        return;
    };
    if let Some(state) = PROCESSES.get_ptr_mut(process) {
        // SAFETY: the pointer is a live map value.
        unsafe { core::ptr::write_volatile(&raw mut (*state).oom_victim, 1) };
    }
}

#[inline(always)]
fn forget_thread(tid: u32, process: u32) {
    pending::forget(tid, process);
}

/// Where tasks have what is read here; `None` when user space could not find out.
#[inline(always)]
fn task_offsets() -> Option<TaskOffsets> {
    let control = CONTROL.get_ptr(0)?;
    // SAFETY: the pointer is a live map value that user space wrote before any program ran.
    let task = unsafe { (*control).task };
    (task.tgid != 0).then_some(task)
}

/// A member of a task; zero when it cannot be read.
#[inline(always)]
fn member<T: Default>(task: u64, offset: u32) -> T {
    let mut value = T::default();
    // SAFETY: the helper checks the address; the destination is ours. A failed read leaves zeros.
    unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            (task + u64::from(offset)) as *const _,
        );
    }
    value
}

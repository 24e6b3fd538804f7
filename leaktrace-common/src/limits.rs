//! Sizes that both sides build on. Those that an option changes are defaults here.

/// Frames stored for one stack, the caller of the allocation function included.
pub const MAX_FRAMES: usize = RECORD_FRAMES + DEEP_FRAMES;

/// Frames that stand in a [`crate::stack::StackRecord`], which is exactly 1 KiB with them.
pub const RECORD_FRAMES: usize = 126;

/// Further frames, in a [`crate::stack::DeepFrames`]: 3 KiB, for those few stacks that have them.
pub const DEEP_FRAMES: usize = 384;

/// Frames of a stack on a kernel without bpf_loop.
pub const MAX_FRAMES_WITHOUT_LOOP: usize = 64;

/// Executable mappings of one process that the stack walk knows.
pub const MAX_MAPPINGS: usize = 1024;

/// Processes and programs (an exec starts another one) of one session at a time. A power of two.
pub const MAX_PROCESSES: u32 = 256;

/// Functions of one process whose first call is noted; a power of two.
pub const NOTED_FUNCTIONS: u32 = 256;

/// Pairs of functions that a user can have traced besides the allocators.
pub const MAX_PAIRS: u32 = 8;

/// Bridges of all processes of a session: calls inside `operator new` and its like.
pub const MAX_BRIDGES: u32 = 4096;

/// Bridges that follow one another: new[] calls new, which calls malloc.
pub const MAX_BRIDGE_CHAIN: u32 = 3;

/// Scratch areas a CPU. A uprobe handler can be preempted by another on the same CPU, so one area
/// a CPU is not safe (0.3% corrupted stacks were measured on 6.12 with preempt=full).
pub const SCRATCH_SLOTS: u32 = 4;

/// Scratch areas that all CPUs share, for when those of a CPU are in use: on a fully preemptible
/// kernel every runnable thread can be preempted inside a probe.
pub const SHARED_SCRATCH_SLOTS: u32 = 128;

/// Shared areas that one call tries.
pub const SHARED_SCRATCH_TRIES: u32 = 16;

/// Walks that are kept, so that they need not be made again: 1.4 MB. A power of two.
pub const MEMOS: u32 = 1024;

/// Kept walks that are looked at for a stack.
pub const MEMO_TRIES: u32 = 4;

/// Size of a page.
pub const PAGE_BYTES: u64 = crate::arch::PAGE_BYTES;

/// How far below the remembered stack pointer a nested call of an allocation function can run.
/// An entry further down runs on another stack (signal stack, coroutine), so it is not nested.
pub const MAX_NESTED_STACK_BYTES: u64 = 256 * 1024;

/// How far above the stack pointer a saved frame pointer can lie.
pub const MAX_STACK_SPAN_BYTES: u64 = 64 * 1024 * 1024;

/// Default number of live allocations that the ledger holds.
pub const DEFAULT_LIVE_ENTRIES: u32 = 4 * 1024 * 1024;

/// Free places that the queue of sites has room for; a power of two. Sites beyond are not used again.
pub const FREE_SITES: u32 = 128 * 1024;

/// How often a program tries to take a free place that others take at the same time.
pub const REUSE_TRIES: u32 = 8;

/// Of so many live allocations, those that the map has room for which takes what the table has none
/// for: twice as many as that will be when the table is as full as it may be.
pub const fn spilled_entries(live_entries: u32) -> u32 {
    let share = live_entries / 4;
    if share < 64 { 64 } else { share }
}

/// Default number of distinct stacks.
pub const DEFAULT_STACK_ENTRIES: u32 = 128 * 1024;

/// Of so many distinct stacks, those that there is room for with more frames than a record has.
pub const fn deep_stack_entries(stack_entries: u32) -> u32 {
    let share = stack_entries / 8;
    if share < 64 { 64 } else { share }
}

/// Sites whose live bytes are counted by time of birth too, 512 bytes each: those that are seen
/// first. Verdicts on the others go without.
pub const BIRTH_SITES: u32 = 32 * 1024;

/// Default number of threads that can be inside an allocation function at the same time.
pub const DEFAULT_PENDING_ENTRIES: u32 = 64 * 1024;

/// Default size of the ring buffer that carries mapping and process events.
pub const DEFAULT_EVENT_BYTES: u32 = 4 * 1024 * 1024;

/// Chunks of unwind tables that one inner map holds: 64 KiB. A power of two.
pub const SHARD_CHUNKS: u32 = 64;

/// Inner maps for unwind tables: 512 MiB, the tables of some 4 GiB of code.
pub const MAX_SHARDS: u32 = 8192;

/// Size of the ring buffer that carries stacks which user space has to finish: some 800.
pub const UNFINISHED_BYTES: u32 = 16 * 1024 * 1024;

//! Every map and every constant that user space sets before load. Sizes are defaults; user space
//! overrides them by name.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array as InnerArray, ArrayOfMaps};
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf};
use leaktrace_common::bucket::{BUCKET_SLOTS, Bucket};
use leaktrace_common::event::Event;
use leaktrace_common::ledger::{LiveBlock, LiveKey, PendingCall, SiteBirths, SiteTotals};
use leaktrace_common::limits;
use leaktrace_common::loss::{LOSS_REASONS, LossTotals};
use leaktrace_common::mapping::MappingTable;
use leaktrace_common::process::{Control, ProcessState};
use leaktrace_common::stack::{Bridge, BridgeKey, DeepFrames, SITES_WITHOUT_STACK, StackRecord};
use leaktrace_common::unwind::{Chunk, MAX_RARE_RULES, Memo, RareRule};

use crate::scratch::Scratch;

const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// Smallest size that is counted, bytes.
#[unsafe(no_mangle)]
pub static MIN_SIZE_BYTES: Global<u64> = Global::new(0);

/// Largest size that is counted, bytes.
#[unsafe(no_mangle)]
pub static MAX_SIZE_BYTES: Global<u64> = Global::new(u64::MAX);

/// Entries of `SITE_TOTALS`: site indices are below this.
#[unsafe(no_mangle)]
pub static SITE_ENTRIES: Global<u32> =
    Global::new(limits::DEFAULT_STACK_ENTRIES + SITES_WITHOUT_STACK);

/// Entries of `LIVE`.
#[unsafe(no_mangle)]
pub static BUCKETS: Global<u32> = Global::new(limits::DEFAULT_LIVE_ENTRIES / BUCKET_SLOTS as u32);

/// 1 when children of traced processes are traced too.
#[unsafe(no_mangle)]
pub static FOLLOW_FORKS: Global<u32> = Global::new(0);

/// Whether stacks are walked by .eh_frame rather than by frame pointers alone.
#[unsafe(no_mangle)]
pub static EH_FRAME: Global<u32> = Global::new(1);

/// Whether the kernel has bpf_loop (Linux 5.17). Without it, stacks are walked by frame pointers.
#[unsafe(no_mangle)]
pub static HAS_LOOP: Global<u32> = Global::new(1);

/// Whether the kernel has bpf_find_vma (Linux 5.17), by which attached memory is measured.
#[unsafe(no_mangle)]
pub static HAS_FIND_VMA: Global<u32> = Global::new(1);

/// Always 0, which the compiler does not know, see [`crate::kernel_stack`].
#[unsafe(no_mangle)]
pub static NEVER: Global<u32> = Global::new(0);

/// Key: always 0. Written by user space (`armed`) and programs (`next_site`, `next_process`, what was taken of free places).
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Key: index of the process. Written by both sides. Full: a child, or the program after an exec,
/// is not counted, and that counts as `ProcessTableFull`.
#[map]
pub static PROCESSES: Array<ProcessState> =
    Array::with_max_entries(limits::MAX_PROCESSES, BPF_F_MMAPABLE);

/// A queue of places in `PROCESSES` that can be used again, see [`crate::reuse`]. Written by user space.
#[map]
pub static FREE_PROCESSES: Array<u32> =
    Array::with_max_entries(limits::MAX_PROCESSES, BPF_F_MMAPABLE);

/// The same for sites.
#[map]
pub static FREE_SITES: Array<u32> = Array::with_max_entries(limits::FREE_SITES, BPF_F_MMAPABLE);

/// Key: tgid. Value: index of the process. Written by both sides; read at forks, execs and exits,
/// and at every hit when forks are followed.
#[map]
pub static TRACED: HashMap<u32, u32> = HashMap::with_max_entries(limits::MAX_PROCESSES * 2, 0);

/// Key: `Lane::slot_of` a tid. The thread's outermost call in a lane. Written by programs, entries removed at thread exit.
/// Full: the call is not followed and counts as `PendingMapFull`.
#[map]
pub static PENDING: HashMap<u32, PendingCall> =
    HashMap::with_max_entries(limits::DEFAULT_PENDING_ENTRIES, BPF_F_NO_PREALLOC);

/// What a thread's pending call is before its first one: all zeros. In a map because on the BPF stack
/// it would take a quarter of the room, and tens of thousands of the verifier's steps.
#[map]
pub static IDLE_CALL: Array<PendingCall> = Array::with_max_entries(1, 0);

/// The ledger. Key: [`LiveKey::bucket`]. Live blocks, written by programs, walked by user space for ages
/// and for where blocks lie. A bucket that is full spills over into `SPILLED`.
#[map]
pub static LIVE: Array<Bucket> = Array::with_max_entries(
    limits::DEFAULT_LIVE_ENTRIES / BUCKET_SLOTS as u32,
    BPF_F_MMAPABLE,
);

/// Live blocks whose bucket was full, and the few that fit into no slot. As `LIVE`.
/// Full: the block is not recorded and counts as `LiveMapFull`.
#[map]
pub static SPILLED: HashMap<LiveKey, LiveBlock> = HashMap::with_max_entries(
    limits::spilled_entries(limits::DEFAULT_LIVE_ENTRIES),
    BPF_F_NO_PREALLOC,
);

/// Key: hash of a stack. Value: index of its site. Written by programs.
/// Full: the allocation counts under `site_without_stack` and as `StackMapFull`.
#[map]
pub static STACK_SITES: HashMap<u64, u32> =
    HashMap::with_max_entries(limits::DEFAULT_STACK_ENTRIES, BPF_F_NO_PREALLOC);

/// Key: index of a site. Value: its frames, written once, before the site is handed out.
#[map]
pub static STACKS: HashMap<u32, StackRecord> =
    HashMap::with_max_entries(limits::DEFAULT_STACK_ENTRIES, BPF_F_NO_PREALLOC);

/// Key: index of a site whose stack has more frames than its record. Value: the others, written
/// before the record is. Full: the stack ends with the record, as `StackEnd::TooDeep`.
#[map]
pub static DEEP_STACKS: HashMap<u32, DeepFrames> = HashMap::with_max_entries(
    limits::deep_stack_entries(limits::DEFAULT_STACK_ENTRIES),
    BPF_F_NO_PREALLOC,
);

/// Key: index of a site. Atomic adds by programs, mapped into user space for reading.
#[map]
pub static SITE_TOTALS: Array<SiteTotals> = Array::with_max_entries(
    limits::DEFAULT_STACK_ENTRIES + SITES_WITHOUT_STACK,
    BPF_F_MMAPABLE,
);

/// Key: index of a site. Its live bytes by time of birth. Atomic adds by programs, mapped into user
/// space for reading. Sites with an index beyond the end have none.
#[map]
pub static SITE_BIRTHS: Array<SiteBirths> =
    Array::with_max_entries(limits::BIRTH_SITES, BPF_F_MMAPABLE);

/// Key: process × `LOSS_REASONS` + number of a `Loss`. Atomic adds by programs, mapped into user space for reading.
#[map]
pub static LOSSES: Array<LossTotals> =
    Array::with_max_entries(limits::MAX_PROCESSES * LOSS_REASONS as u32, BPF_F_MMAPABLE);

/// Key: process × `MAX_PAIRS` + pair. Frees of what the pair's ledger does not have. Atomic adds by
/// programs, mapped into user space for reading.
#[map]
pub static PAIR_UNMATCHED: Array<u64> =
    Array::with_max_entries(limits::MAX_PROCESSES * limits::MAX_PAIRS, BPF_F_MMAPABLE);

/// Key: `note_index` of a process's function. Set to 1 when the probe fires first.
#[map]
pub static PROBE_HITS: Array<u64> = Array::with_max_entries(
    limits::MAX_PROCESSES * limits::NOTED_FUNCTIONS,
    BPF_F_MMAPABLE,
);

/// Key: 2 × process + (0 or 1). Written by user space, the half that is not current.
#[map]
pub static MAPPINGS: Array<MappingTable> = Array::with_max_entries(limits::MAX_PROCESSES * 2, 0);

/// Key: a return address in `operator new` or its like. Value: the way to its caller. Written by
/// user space before the session is armed and when new code is mapped.
#[map]
pub static BRIDGES: HashMap<BridgeKey, Bridge> = HashMap::with_max_entries(limits::MAX_BRIDGES, 0);

/// Unwind tables. Key: number of a chunk / `SHARD_CHUNKS`; in the inner map, the rest. Written by
/// user space, before a mapping refers to the chunk; never changed then.
#[btf_map]
pub static UNWIND: ArrayOfMaps<
    InnerArray<Chunk, { limits::SHARD_CHUNKS as usize }, { BPF_F_MMAPABLE as usize }>,
    { limits::MAX_SHARDS as usize },
> = ArrayOfMaps::new();

/// Key: value of a row of kind `Rare`. Written by user space, before a row refers to it.
#[map]
pub static RARE_RULES: Array<RareRule> = Array::with_max_entries(MAX_RARE_RULES, BPF_F_MMAPABLE);

/// Changes of mappings, in order. Full: the event counts as `EventLost`.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limits::DEFAULT_EVENT_BYTES, 0);

/// Stacks that user space has to finish. Full: such a stack ends where its walk has ended.
#[map]
pub static UNFINISHED: RingBuf = RingBuf::with_byte_size(limits::UNFINISHED_BYTES, 0);

/// Working memory of the stack walk, see [`crate::scratch`].
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(limits::SCRATCH_SLOTS, 0);

/// More of it, for when the areas of a CPU are in use.
#[map]
pub static SHARED_SCRATCH: Array<Scratch> =
    Array::with_max_entries(limits::SHARED_SCRATCH_SLOTS, 0);

/// Key: made of what a walk begins with. Walks that were made, see [`crate::walk`].
#[map]
pub static MEMOS: Array<Memo> = Array::with_max_entries(limits::MEMOS, 0);

/// Always empty, see [`crate::kernel_stack`].
#[map]
pub static NO_PROGRAMS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Reserves room for an event, fills it and sends it; `false` when the ring buffer is full.
#[inline(always)]
pub fn send(event: &Event) -> bool {
    match EVENTS.reserve::<Event>(0) {
        Some(mut place) => {
            place.write(*event);
            place.submit(0);
            true
        }
        None => false,
    }
}

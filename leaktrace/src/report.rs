//! What a report says, ready to be written in any format. Serialises to the JSON lines of the
//! interface; computes nothing.

use std::time::SystemTime;

use serde::{Serialize, Serializer};

pub use crate::analysis::Verdict;
pub use crate::symbolize::Frame;
pub use crate::target::Container;

/// A line of the JSON output.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(
    clippy::large_enum_variant,
    reason = "a line is made, written and dropped, and most lines are reports"
)]
pub enum Line {
    /// All probes are attached and armed.
    Start(Start),
    /// A process was forked, or executes another program, under trace.
    Target(NewTarget),
    /// What one process holds now.
    Report(Report),
    /// The session is over.
    End(End),
}

/// What is traced, and how.
#[derive(Clone, Debug, Serialize)]
pub struct Start {
    /// Version of leaktrace.
    pub version: String,
    /// The traced processes.
    pub targets: Vec<TargetLine>,
    /// Every probe of the plan, with its state.
    pub probes: Vec<ProbeLine>,
    /// How stacks are taken: `eh-frame` or `frame-pointer`.
    pub stacks: String,
    /// Kernel memory that unwind tables take so far, bytes.
    pub unwind_table_bytes: u64,
}

/// What is traced from now on too.
#[derive(Clone, Debug, Serialize)]
pub struct NewTarget {
    /// `fork`, `exec`, `exit`, or `load`: more of its functions are probed.
    pub event: &'static str,
    /// The process.
    #[serde(flatten)]
    pub target: TargetLine,
    /// Its probes; those that a forked child has from its parent are not repeated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeLine>,
    /// Exit code of a process that has exited, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed it because memory was out; absent when nothing says so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
}

/// A traced process.
#[derive(Clone, Debug, Serialize)]
pub struct TargetLine {
    /// Process id.
    pub pid: u32,
    /// Name of the process's main thread.
    pub comm: String,
    /// Path of the executable, as the process sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// The container that the process is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Process that it was forked from under trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_pid: Option<u32>,
    /// Which of its programs it runs, from 2 on: an exec starts the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
}

/// A probe.
#[derive(Clone, Debug, Serialize)]
pub struct ProbeLine {
    /// Process it belongs to.
    pub pid: u32,
    /// Path of the object, as the process sees it.
    pub object: String,
    /// Function.
    pub function: String,
    /// Bytes behind the function's first instruction where the probe stands.
    pub offset: u64,
    /// Whether it is in place.
    pub attached: bool,
    /// Why it is not, or why its place is a slow one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What one process holds at one time.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Number of the report, from 1.
    pub seq: u64,
    /// Whether this is the last one.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// When it was read, in UTC, as RFC 3339 writes it.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// Seconds since the probes were armed.
    pub elapsed_s: f64,
    /// Process id.
    pub pid: u32,
    /// Name of the process's main thread.
    pub comm: String,
    /// Process that it was forked from under trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_pid: Option<u32>,
    /// Which of its programs this is about, from 2 on: an exec starts the next. What it held
    /// before went with the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// Seconds in which the program, or an allocator that it loaded, may not have been counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_s: Option<f64>,
    /// Blocks and mappings younger than so many seconds are not counted among the live ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_s: Option<f64>,
    /// The age from which on blocks are counted, where that is not `older_s` because very many are live:
    /// the next above it that the kernel's counters know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_counted_s: Option<f64>,
    /// The whole process.
    pub process: ProcessLine,
    /// What bounds its memory.
    pub limits: Vec<LimitLine>,
    /// When the first bound is reached; of a process that has ended, absent.
    #[serde(flatten)]
    pub time_left: TimeLeftLine,
    /// Sum over all heap sites, not only those listed.
    pub totals: TotalsLine,
    /// Sum over all mmap sites; absent when mappings are not traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped: Option<MappedLine>,
    /// Every way in which the numbers could be short, zero where nothing was lost.
    pub losses: std::collections::BTreeMap<String, u64>,
    /// What `stack_truncated` in `losses` is made of: allocations by the reason why their stack
    /// does not reach the start of the thread.
    pub truncated_stacks: std::collections::BTreeMap<&'static str, u64>,
    /// Bytes asked for in the calls that were lost, by the same reasons where a size is known.
    pub lost_bytes: std::collections::BTreeMap<String, u64>,
    /// Kernel memory that unwind tables of all targets take, bytes.
    pub unwind_table_bytes: u64,
    /// Sites that have something live, the top one first.
    pub sites: Vec<Site>,
    /// Sites with something live, listed or not.
    pub site_count: u64,
    /// The fastest growth of a site that is not listed, bytes per second; absent if none of them is known to
    /// grow, and where sites are merged. For people: programs ask for all sites.
    #[serde(skip)]
    pub unlisted_growth_bytes_per_s: Option<f64>,
    /// What the pairs of functions hold that the user has named: ledgers of their own, in none of
    /// the sums above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pairs: Vec<PairLine>,
    /// Sites that allocate most often, or those that free most right after birth; only when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub churn: Vec<ChurnSite>,
    /// Conditions that hold, of those that were asked for; each a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// Conditions that have begun or ceased to hold since the report before; each a sentence. For
    /// people: programs have `alerts`.
    #[serde(skip)]
    pub alert_changes: Vec<String>,
    /// Things that the reader should know to read the numbers right; each a sentence.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}

/// The whole process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessLine {
    /// Resident set, bytes; absent when the process has died.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_bytes: Option<u64>,
    /// Resident set when counting began, bytes: what was allocated before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_at_start_bytes: Option<u64>,
    /// Growth of the resident set since the start, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_growth_bytes: Option<i64>,
    /// Share of the growth that is in the memory of traced blocks, what the allocator needs for them
    /// or keeps included, or in traced mappings; absent when the process did not grow, when its
    /// mappings could not be read, and when something was left out or lost that may be more than 1% of
    /// the growth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explained_ratio: Option<f64>,
    /// How the resident set moves: `climbing`, `falling`, `tidal`, `stepped` or `flat`; absent while too little
    /// was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss_pattern: Option<&'static str>,
    /// Change since the start by kind of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_by_kind: Option<KindsLine>,
    /// The growth by who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_by_owner: Option<OwnersLine>,
    /// Language runtime that manages memory of its own in the process: `jvm`, `v8`, `cpython`, `go`,
    /// `dotnet`, `ruby`, `beam` or `php`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<&'static str>,
    /// What to look with next, where much of the growth is in memory that call stacks of malloc say
    /// nothing about; a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_tool: Option<String>,
}

/// The growth of the process since the start by who holds it, bytes. `rss_growth_bytes` is the sum,
/// less `swapped_bytes`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OwnersLine {
    /// When this was read, seconds since the start: not at every report where reading it takes
    /// long, and before the end of a process that has ended.
    pub at_s: f64,
    /// Live blocks, as the program asked for them.
    pub heap_bytes: i64,
    /// What the allocator's memory has grown by beyond them: headers and rounding, free blocks
    /// that it keeps, blocks from before the start that are touched only now. Negative when live
    /// blocks are not touched yet, or lie in memory that was resident before.
    pub allocator_bytes: i64,
    /// What has been touched of traced mappings.
    pub mapped_bytes: i64,
    /// The main stack, and data of the program and its libraries.
    pub data_bytes: i64,
    /// Other pages of mapped files.
    pub file_bytes: i64,
    /// Other shared memory.
    pub shared_bytes: i64,
    /// Anonymous memory that no traced call has asked for: mapped before the start and touched
    /// since, or mapped by raw system calls. Negative when such memory was given back.
    pub untracked_bytes: i64,
    /// Of all these, what has gone to swap.
    pub swapped_bytes: i64,
    /// The file that `file_bytes` has grown by most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_file: Option<GrownFile>,
    /// The same of `shared_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_shared: Option<GrownFile>,
}

/// A mapped file, or shared memory with a name, of which more is resident than at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GrownFile {
    /// Path as the process sees it; empty for memory without a name.
    pub path: String,
    /// Its growth.
    pub bytes: i64,
}

/// Change since the start by kind of memory, bytes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KindsLine {
    /// Resident memory of no file: heaps, stacks, private mappings.
    pub anonymous_bytes: i64,
    /// Resident pages of files.
    pub file_bytes: i64,
    /// Resident shared memory.
    pub shared_bytes: i64,
    /// Anonymous memory in swap.
    pub swapped_bytes: i64,
    /// Page faults that had to wait for a disk.
    pub major_faults: i64,
    /// Anonymous memory, swap included, beyond what is live and tracked: held by the allocator,
    /// allocated before the start and touched since, or not traced. Negative when memory was asked
    /// for and not touched.
    pub untracked_anonymous_bytes: i64,
}

/// What bounds the memory of the process.
#[derive(Clone, Debug, Serialize)]
pub struct LimitLine {
    /// `cgroup`, `address-space` or `machine`.
    pub kind: &'static str,
    /// Where it is full.
    pub limit_bytes: u64,
    /// What is used, by this process and all others that share the bound.
    pub used_bytes: u64,
}

/// When the first bound is reached if it goes on like this; absent when nothing rises.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct TimeLeftLine {
    /// From, to, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_left_s: Option<[f64; 2]>,
    /// Which bound may be the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_left_until: Option<&'static str>,
}

/// Sums over sites.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TotalsLine {
    /// Bytes not freed yet.
    pub live_bytes: u64,
    /// Blocks not freed yet; absent when `older_counted_s` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_count: Option<u64>,
    /// Bytes allocated since the start.
    pub allocated_bytes: u64,
    /// Blocks allocated since the start.
    pub allocated_count: u64,
    /// Bytes freed of those allocated since the start.
    pub freed_bytes: u64,
    /// Blocks freed of those allocated since the start.
    pub freed_count: u64,
    /// Frees of blocks that the session did not see allocated; absent when only some sizes are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unmatched_frees: Option<u64>,
}

/// Sums over mappings that the program made itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MappedLine {
    /// Bytes still mapped.
    pub live_bytes: u64,
    /// Mappings (or what is left of them).
    pub live_count: u64,
    /// Of these bytes, those that only set addresses aside (PROT_NONE, MAP_NORESERVE) and hold no
    /// memory.
    pub reserved_bytes: u64,
}

/// A call stack that holds memory, or several that were merged.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Site {
    /// The same stack has the same id in every report of a session.
    pub id: String,
    /// `heap` or `mmap`.
    pub source: &'static str,
    /// Bytes not freed yet, as the program asked for them.
    pub live_bytes: u64,
    /// Blocks not freed yet; absent, but for mappings, when `older_counted_s` is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_count: Option<u64>,
    /// Blocks allocated since the start.
    pub allocated_count: u64,
    /// Bytes allocated since the start.
    pub allocated_bytes: u64,
    /// How old the live bytes are: those that were allocated from so many seconds after the start on, up
    /// to the next such time, which are closer the earlier they are. Times of which nothing is live are
    /// left out; absent for mappings and merged stacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes_since_s: Option<Vec<(f64, u64)>>,
    /// Slope of the live bytes; absent while too little was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_s: Option<f64>,
    /// Where the true slope lies with 95% confidence: from, to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_interval_bytes_per_s: Option<[f64; 2]>,
    /// What the readings say.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// Whether the stack reaches the start of the thread.
    pub complete: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<&'static str>,
    /// Index of the first frame outside of allocators and standard libraries: the one to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspect_frame: Option<usize>,
    /// Stacks that are merged here, those included that hold nothing now; 1 unless grouped.
    pub stacks: u64,
    /// Of these, the ones that hold nothing now, which `site_count` leaves out.
    #[serde(skip)]
    pub empty_stacks: u64,
    /// The caller of the allocation function first.
    pub frames: Vec<Frame>,
}

/// What passes through a call stack, on the average since the start.
#[derive(Clone, Debug, Serialize)]
pub struct ChurnSite {
    /// As in `sites`.
    pub id: String,
    /// As in `sites`.
    pub source: &'static str,
    /// Blocks allocated a second.
    pub allocations_per_s: f64,
    /// Bytes allocated a second.
    pub bytes_per_s: f64,
    /// Bytes freed as a share of those allocated.
    pub freed_share: f64,
    /// Share of the bytes that are freed within `freed_young_within_s` of their birth; absent where too
    /// little was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed_young_share: Option<f64>,
    /// See there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed_young_within_s: Option<f64>,
    /// How long a byte lives on the average; absent where next to nothing is freed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_lifetime_s: Option<f64>,
    /// As in `sites`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspect_frame: Option<usize>,
    /// As in `sites`.
    pub frames: Vec<Frame>,
}

/// What one pair of functions holds. Its blocks may be the heap's as well (a pool takes its memory
/// from malloc), so that the two are never added up.
#[derive(Clone, Debug, Serialize)]
pub struct PairLine {
    /// The pair as the user wrote it.
    pub pair: String,
    /// `bytes`, or `objects` when the functions are not told a size.
    pub unit: &'static str,
    /// Bytes not freed yet; absent when objects are counted, as all bytes here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<u64>,
    /// Blocks or objects not freed yet.
    pub live_count: u64,
    /// Bytes allocated since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated_bytes: Option<u64>,
    /// Blocks or objects allocated since the start.
    pub allocated_count: u64,
    /// Bytes freed of those allocated since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freed_bytes: Option<u64>,
    /// Blocks or objects freed of those allocated since the start.
    pub freed_count: u64,
    /// Frees of what the session did not see allocated by the pair.
    pub unmatched_frees: u64,
    /// Sites that hold something, the top one first.
    pub sites: Vec<PairSite>,
}

/// A call stack that holds what a pair of functions handed out.
#[derive(Clone, Debug, Serialize)]
pub struct PairSite {
    /// The same stack has the same id in every report of a session.
    pub id: String,
    /// Bytes not freed yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_bytes: Option<u64>,
    /// Blocks or objects not freed yet.
    pub live_count: u64,
    /// Blocks or objects allocated since the start.
    pub allocated_count: u64,
    /// Slope of the live bytes; absent while too little was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_bytes_per_s: Option<f64>,
    /// Slope of the number of live objects, where bytes are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_objects_per_s: Option<f64>,
    /// What the readings say.
    pub verdict: Verdict,
    /// Whether the stack reaches the start of the thread.
    pub complete: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<&'static str>,
    /// The caller of the pair's function first.
    pub frames: Vec<Frame>,
}

/// How the session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// Process that ended; absent for `duration` and `interrupted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Exit code of the target, if it exited and the code is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Signal that killed the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed it because memory was out (the cgroup's or the machine's);
    /// absent when nothing says so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub out_of_memory: bool,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The time of `--duration` has passed.
    Duration,
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// The target exited.
    TargetExited,
    /// A signal killed the target.
    TargetKilled,
}

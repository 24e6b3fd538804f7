//! Arguments → what to do. Touches no process and no file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use leaktrace_common::limits::{self, MAX_PAIRS};

use crate::analysis::Condition;

use crate::allocators::Pair;

/// Finds what grows in a live native process, without restarting it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "leaktrace",
    version,
    about = "Finds what grows in a live native process: call stacks whose memory is not freed",
    after_help = "Example: sudo leaktrace -p 4242 -i 10s --flamegraph leak.svg\n\
                  `leaktrace doctor` says whether this machine can trace.\n\
                  Exit codes: 0 traced as asked, 1 could not, 2 wrong usage, 3 with --fail-on-leak \
                  a site was judged leaking.",
    override_usage = "leaktrace [OPTIONS] -p <PID>...\n       \
                      leaktrace [OPTIONS] -- <COMMAND> [ARG]...\n       leaktrace doctor",
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    /// What else than tracing.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What to trace and how to report.
    #[command(flatten)]
    pub trace: TraceArgs,
}

/// Subcommands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Say whether this machine can trace, how well, and what is missing
    Doctor,
}

/// Options of tracing.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["pids", "command"])))]
pub struct TraceArgs {
    /// Process to trace; repeat it for several
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pids: Vec<u32>,

    /// Start this command and trace it from its first allocation; its exit code becomes leaktrace's
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,

    /// Trace children of the process too, each with reports of its own
    #[arg(long)]
    pub follow_forks: bool,

    /// Let the command run as root although leaktrace was started through sudo
    #[arg(long, requires = "command")]
    pub as_root: bool,

    /// Time between reports (500ms, 10s, 1h)
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = positive_duration)]
    pub interval: Duration,

    /// Stop after this long; without it, at Ctrl-C, SIGTERM or when the target ends
    #[arg(short, long, value_name = "DURATION", value_parser = positive_duration)]
    pub duration: Option<Duration>,

    /// Sites in a report; 0 means all; without it up to 10, in text only those that matter
    #[arg(short = 'n', long, value_name = "N")]
    pub top: Option<usize>,

    /// What "top" means
    #[arg(long, value_enum, default_value_t = Sort::Growth)]
    pub sort: Sort,

    /// What makes one entry of a report: the whole stack, or function, file of code or source line
    /// of the first frame outside of allocators and standard libraries
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = GroupBy::Stack)]
    pub group_by: GroupBy,

    /// Count only allocations and mappings at least this old
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub older: Duration,

    /// Count only allocations and mappings of at least this size (4k, 1MiB)
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = size_bytes)]
    pub min_size: u64,

    /// Count only allocations and mappings of at most this size
    #[arg(long, value_name = "BYTES", value_parser = size_bytes)]
    pub max_size: Option<u64>,

    /// How call stacks are taken
    #[arg(long, value_enum, default_value_t = Stacks::Auto)]
    pub stacks: Stacks,

    /// Fetch debug files that are not on this machine from these servers (URLs with commas between
    /// them), or from those in DEBUGINFOD_URLS; nobody is asked without this option
    #[arg(long, value_name = "URLS", num_args = 0..=1, require_equals = true,
          default_missing_value = "")]
    pub debuginfod: Option<String>,

    /// Leave mappings out (mmap, munmap, mremap, brk, sbrk)
    #[arg(long)]
    pub no_mmap: bool,

    /// Count mappings that the target makes by system calls of its own too; done anyway for Go, static
    /// programs and programs without an allocator
    #[arg(long, conflicts_with = "no_mmap")]
    pub mmap_syscalls: bool,

    /// What is written to standard output; json is one object a line
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Write the reports here instead of to standard output, which a command shares
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Write an interactive flame graph (SVG) of all live bytes here, at every report
    #[arg(long, value_name = "FILE")]
    pub flamegraph: Option<PathBuf>,

    /// Write folded stacks of all live bytes here, at every report
    #[arg(long, value_name = "FILE")]
    pub folded: Option<PathBuf>,

    /// Follow a pair of functions of your own, such as 'sqlite3_malloc(0i)/sqlite3_free(0)'
    ///
    /// Repeat it for up to 8 pairs. The form is ALLOCATE(ARGUMENTS)/FREE(POINTER), and
    /// /REALLOCATE(POINTER,SIZE) behind it if there is such a function; OBJECT: before a name says
    /// in which library. Arguments are numbered from
    /// 0. ALLOCATE takes the number of the argument with the size, SIZE*COUNT for a product, with
    /// an i behind the number for a C int, nothing to count objects instead of bytes; >N says that
    /// the address is written through argument N by a function that returns 0 on success:
    /// 'sqlite3_open(,>1)/sqlite3_close(0)'. What a pair holds is a ledger of its own, besides the
    /// heap.
    #[arg(long = "pair", value_name = "SPEC", verbatim_doc_comment)]
    pub pairs: Vec<Pair>,

    /// Say so when this holds: leak, rss>80% (of the tightest limit), rss>2GiB, growth>100MiB/h, or
    /// 'growth>100MiB/h for 10m'; repeat it for several
    #[arg(long, value_name = "CONDITION", value_parser = condition)]
    pub alert: Vec<Condition>,

    /// List the sites that allocate most often too, or those that free most right after birth, and how
    /// long their blocks live
    #[arg(long, value_enum, value_name = "ORDER", num_args = 0..=1, require_equals = true,
          default_missing_value = "rate")]
    pub churn: Option<Churn>,

    /// Exit with code 3 if at least one site was judged leaking
    #[arg(long)]
    pub fail_on_leak: bool,

    /// Live allocations that the kernel side holds; more are counted as lost
    #[arg(long, value_name = "N", default_value_t = limits::DEFAULT_LIVE_ENTRIES,
          value_parser = clap::value_parser!(u32).range(1..=256 << 20), help_heading = "Sizes")]
    pub max_live: u32,

    /// Distinct stacks; allocations of further ones are counted without their stack
    #[arg(long, value_name = "N", default_value_t = limits::DEFAULT_STACK_ENTRIES,
          value_parser = clap::value_parser!(u32).range(1..=16 << 20), help_heading = "Sizes")]
    pub max_stacks: u32,

    /// Threads that are followed through allocation functions; calls of more are counted as lost
    #[arg(long, value_name = "N", default_value_t = limits::DEFAULT_PENDING_ENTRIES,
          value_parser = clap::value_parser!(u32).range(1..=4 << 20), help_heading = "Sizes")]
    pub max_pending: u32,

    /// Buffer for mapping events; more are counted as lost
    #[arg(long, value_name = "BYTES", default_value = "4MiB", value_parser = buffer_bytes,
          help_heading = "Sizes")]
    pub event_buffer: u32,

    /// Fewer messages on standard error
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,

    /// More messages on standard error: -v the table of probes, -vv debug messages of the kernel side
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// Sites in a report when nothing is said about it.
const DEFAULT_TOP: usize = 10;

impl TraceArgs {
    /// Sites in a report; 0 means all.
    pub fn top(&self) -> usize {
        self.top.unwrap_or(DEFAULT_TOP)
    }
}

/// What "top" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Growth per second; that of a leak counts sixteenfold
    Growth,
    /// Live bytes
    Bytes,
    /// Live blocks
    Count,
}

/// What makes two sites one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// Every stack stands alone
    Stack,
    /// The function to look at
    Function,
    /// The file of its code
    Module,
    /// Its line in the source
    Line,
}

/// How call stacks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stacks {
    /// By .eh_frame, and by frame pointers in code that has none
    Auto,
    /// The same
    EhFrame,
    /// Saved frame pointers: whole stacks only for code built with -fno-omit-frame-pointer
    FramePointer,
}

/// Which of the busy sites come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Churn {
    /// Most blocks allocated a second
    Rate,
    /// Most bytes a second that are freed right after birth
    Temporary,
}

impl TraceArgs {
    /// What is wrong with options that are each right alone.
    pub fn contradiction(&self) -> Option<String> {
        if self.pairs.len() > MAX_PAIRS as usize {
            return Some(format!(
                "at most {MAX_PAIRS} of --pair can be followed at a time"
            ));
        }
        if self.max_size.is_some_and(|most| most < self.min_size) {
            return Some(format!(
                "no allocation is of at least {} and at most {} bytes: --min-size is above --max-size",
                self.min_size,
                self.max_size.unwrap_or_default()
            ));
        }
        let files = [
            ("--output", &self.output),
            ("--flamegraph", &self.flamegraph),
            ("--folded", &self.folded),
        ];
        let mut named = files
            .iter()
            .filter_map(|(option, file)| Some((option, std::path::absolute(file.as_ref()?).ok()?)));
        let mut seen = HashMap::new();
        let (option, file, first) = named.find_map(|(option, file)| {
            let first = seen.insert(file.clone(), option)?;
            Some((option, file, first))
        })?;
        // Both write all the same to what is no file of its own, such as a terminal.
        let overwrites = !file.starts_with("/dev");
        overwrites.then(|| {
            format!(
                "{first} and {option} name the same file, {}: each would overwrite the other",
                file.display()
            )
        })
    }
}

/// What is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Reports for people
    Text,
    /// One JSON object a line
    Json,
}

/// Longer times are mistakes, and do not fit the clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| "write a number and a unit, such as 500ms, 10s, 5m or 1h".to_owned())?;
    match duration {
        duration if duration <= LONGEST => Ok(duration),
        _ => Err("it can be at most 10 years".to_owned()),
    }
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it has to be more than zero".to_owned()),
        positive => Ok(positive),
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    Condition::parse(
        text,
        |text| size_bytes(text).ok(),
        |text| positive_duration(text).ok(),
    )
}

/// Bytes with an optional unit; k, M, G and their forms with iB or B are powers of 1024.
fn size_bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err("write a number and a unit, such as 4096, 4k, 1MiB or 2G".to_owned()),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "write a number and a unit, such as 4096, 4k, 1MiB or 2G".to_owned())
}

/// The kernel wants a power of two of at least a page.
fn buffer_bytes(text: &str) -> Result<u32, String> {
    u32::try_from(size_bytes(text)?)
        .ok()
        .map(|bytes| bytes.max(4096))
        .and_then(u32::checked_next_power_of_two)
        .filter(|bytes| *bytes <= 1 << 30)
        .ok_or_else(|| "it can have at most 1GiB".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_options_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(size_bytes("4096"), Ok(4096));
        assert_eq!(size_bytes("4k"), Ok(4096));
        assert_eq!(size_bytes("1MiB"), Ok(1 << 20));
        assert_eq!(size_bytes("2G"), Ok(2 << 30));
        for wrong in [
            "",
            "k",
            "-1",
            "1.5M",
            "4 k",
            "1TiB",
            "99999999999999999999",
            "18014398509481984k",
        ] {
            assert!(size_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn buffers_become_powers_of_two_of_at_least_a_page() {
        assert_eq!(buffer_bytes("1"), Ok(4096));
        assert_eq!(buffer_bytes("5000"), Ok(8192));
        assert!(buffer_bytes("2GiB").is_err());
    }

    #[test]
    fn a_pid_is_needed_unless_there_is_a_subcommand() {
        assert!(Cli::try_parse_from(["leaktrace"]).is_err());
        assert!(Cli::try_parse_from(["leaktrace", "doctor"]).is_ok());
        let cli = Cli::try_parse_from(["leaktrace", "-p", "1", "-p", "2", "-i", "500ms"]).unwrap();
        assert_eq!(cli.trace.pids, [1, 2]);
        assert_eq!(cli.trace.interval, Duration::from_millis(500));
    }

    #[test]
    fn times_that_no_clock_holds_are_refused() {
        for option in ["-i", "-d", "--older"] {
            assert!(
                Cli::try_parse_from(["leaktrace", "-p", "1", option, "500000000000y"]).is_err()
            );
        }
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let contradiction = |arguments: &[&str]| {
            let all = ["leaktrace", "-p", "1"].iter().chain(arguments);
            Cli::try_parse_from(all).unwrap().trace.contradiction()
        };
        assert_eq!(
            contradiction(&["--min-size", "4k", "--max-size", "4k"]),
            None
        );
        let sizes = contradiction(&["--min-size", "4k", "--max-size", "1k"]);
        assert!(sizes.is_some_and(|text| text.contains("4096") && text.contains("1024")));
        assert_eq!(
            contradiction(&["-o", "a", "--folded", "b", "--flamegraph", "c"]),
            None
        );
        let files = contradiction(&["-o", "a", "--folded", "./a"]);
        assert!(files.is_some_and(|text| text.starts_with("--output and --folded")));
        assert_eq!(
            contradiction(&["-o", "/dev/null", "--folded", "/dev/null"]),
            None
        );
    }

    #[test]
    fn zero_intervals_are_refused() {
        assert!(Cli::try_parse_from(["leaktrace", "-p", "1", "-i", "0s"]).is_err());
        assert!(Cli::try_parse_from(["leaktrace", "-p", "1", "-d", "0s"]).is_err());
        assert!(Cli::try_parse_from(["leaktrace", "-p", "1", "-i", "5"]).is_err());
    }
}

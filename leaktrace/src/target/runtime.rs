//! What a process maps → the language runtime that manages memory of its own in it, and the tool
//! that looks inside. Pure: reads no file.

use super::Mappings;

/// Where Go puts its heap first (runtime/malloc.go, arena hints of linux/amd64).
const GO_HEAP: u64 = 0xc0_0000_0000;

/// A runtime whose objects lie in memory that malloc does not hand out one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// A Java virtual machine.
    Jvm,
    /// V8: Node.js, Deno, Chromium.
    V8,
    /// CPython.
    CPython,
    /// Go, beside C.
    Go,
    /// .NET.
    DotNet,
    /// Ruby.
    Ruby,
    /// Erlang's BEAM.
    Beam,
    /// PHP.
    Php,
}

impl Runtime {
    /// Finds it by the objects that are mapped.
    pub fn find(mappings: &Mappings) -> Option<Self> {
        let heap_of_go = |start: u64, name: &str| {
            (start == GO_HEAP && name.is_empty()) || name.starts_with("[anon: Go: heap")
        };
        let mut found = mappings.iter().filter_map(|mapping| {
            let name = mapping.path.to_string_lossy();
            match mapping.file {
                Some(_) => of_object(name.rsplit('/').next().unwrap_or_default()),
                None => heap_of_go(mapping.start, &name).then_some(Self::Go),
            }
        });
        found.next()
    }

    /// Its name in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Jvm => "jvm",
            Self::V8 => "v8",
            Self::CPython => "cpython",
            Self::Go => "go",
            Self::DotNet => "dotnet",
            Self::Ruby => "ruby",
            Self::Beam => "beam",
            Self::Php => "php",
        }
    }

    /// What looks into its heap, as a sentence that can be acted on. `PID` stands for the process.
    pub const fn next_tool(self) -> &'static str {
        match self {
            Self::Jvm => {
                "a JVM manages a heap of its own: jcmd PID GC.heap_info and jcmd PID \
                 GC.class_histogram show it, and jcmd PID JFR.start records what stays; \
                 jcmd PID VM.native_memory shows the rest if it was started with \
                 -XX:NativeMemoryTracking=summary"
            }
            Self::V8 => {
                "V8 manages a heap of its own: kill -USR1 PID opens the inspector of a running \
                 node (chrome://inspect takes heap snapshots), node --heapsnapshot-signal=SIGUSR2 \
                 writes them on a signal"
            }
            Self::CPython => {
                "CPython keeps its objects in arenas of its own: memray attach PID names the lines \
                 of Python that allocate, tracemalloc does so from inside"
            }
            Self::Go => {
                "Go manages a heap of its own: go tool pprof http://HOST/debug/pprof/heap shows it \
                 where the program serves net/http/pprof"
            }
            Self::DotNet => {
                ".NET manages a heap of its own: dotnet-counters monitor -p PID shows it, \
                 dotnet-gcdump collect -p PID says of what it is made"
            }
            Self::Ruby => {
                "Ruby keeps its objects in pages of its own: ObjectSpace.dump_all, through rbtrace \
                 -p PID where the program has loaded it, says what they are"
            }
            Self::Beam => {
                "the BEAM manages heaps of its own: recon_alloc:memory/1 and \
                 recon:proc_count(memory, 10) show them"
            }
            Self::Php => {
                "PHP manages a heap of its own: memory_get_usage() in the program and the \
                 extension memprof show it"
            }
        }
    }

    /// How the code that it makes at run time gets names, as the end of a sentence; absent where it
    /// makes none. `PID` is left for the reader to fill in.
    pub const fn how_to_name(self) -> Option<&'static str> {
        match self {
            Self::Jvm => Some(
                "jcmd PID Compiler.perfmap names what is compiled now (JDK 17 and later), \
                 -XX:+UnlockDiagnosticVMOptions -XX:+DumpPerfMapAtExit at the end",
            ),
            Self::V8 => Some("start node with --perf-basic-prof"),
            Self::CPython => Some(
                "start Python 3.12 or later with -X perf, or with PYTHONPERFSUPPORT=1 in its \
                 environment",
            ),
            Self::DotNet => Some("start it with DOTNET_PerfMapEnabled=1 in its environment"),
            Self::Ruby => Some("start ruby with --yjit-perf"),
            Self::Beam => Some("start erl with +JPperf true"),
            Self::Php => Some("start php with -d opcache.jit_debug=0x10"),
            Self::Go => None,
        }
    }
}

fn of_object(file: &str) -> Option<Runtime> {
    let programs = [
        ("node", Runtime::V8),
        ("nodejs", Runtime::V8),
        ("deno", Runtime::V8),
        ("electron", Runtime::V8),
        ("d8", Runtime::V8),
        ("chrome", Runtime::V8),
        ("chromium", Runtime::V8),
        ("ruby", Runtime::Ruby),
        ("beam.smp", Runtime::Beam),
        ("php", Runtime::Php),
    ];
    let prefixes = [
        ("libjvm.so", Runtime::Jvm),
        ("libnode.so", Runtime::V8),
        ("libpython", Runtime::CPython),
        ("python2", Runtime::CPython),
        ("python3", Runtime::CPython),
        ("libcoreclr.so", Runtime::DotNet),
        ("libruby", Runtime::Ruby),
        ("php-fpm", Runtime::Php),
        ("libphp", Runtime::Php),
    ];
    let is_program = programs.iter().find(|(name, _)| *name == file);
    let has_prefix = prefixes.iter().find(|(name, _)| file.starts_with(name));
    is_program.or(has_prefix).map(|(_, runtime)| *runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &str) -> Option<Runtime> {
        Runtime::find(&Mappings::parse(lines.as_bytes()))
    }

    #[test]
    fn runtimes_are_known_by_what_is_mapped() {
        let line = |path: &str| format!("7f0000000000-7f0000001000 r-xp 00000000 fe:00 5 {path}\n");
        let of = |path: &str| found(&line(path));
        assert_eq!(of("/usr/lib/jvm/lib/server/libjvm.so"), Some(Runtime::Jvm));
        assert_eq!(of("/usr/bin/python3.11"), Some(Runtime::CPython));
        assert_eq!(of("/usr/lib/libpython3.11.so.1.0"), Some(Runtime::CPython));
        assert_eq!(of("/usr/bin/node"), Some(Runtime::V8));
        assert_eq!(of("/usr/bin/redis-server"), None);
        assert_eq!(of("/opt/node_exporter"), None);
    }

    #[test]
    fn the_heap_of_go_is_known_by_its_place() {
        let heap = "c000000000-c000400000 rw-p 00000000 00:00 0 \n";
        assert_eq!(found(heap), Some(Runtime::Go));
        assert_eq!(
            found("c100000000-c100400000 rw-p 00000000 00:00 0 \n"),
            None
        );
    }
}

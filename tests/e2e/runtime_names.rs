//! Code that a process makes while it runs gets its names from the process's perf map; whatever else
//! lies in that place is refused, said, and waited for by nobody.

use std::process::Command;

use leaktrace_tests::{Program, Report, Target, Tracer, Truth, path_text, run_tool, scratch};

fn traced(how: &str) -> (Report, Truth) {
    let mut target = Target::start(&Program::c("jit.c"), &[how]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    target.end();
    (session.final_report().clone(), truth)
}

#[track_caller]
fn assert_named(report: &Report, truth: &Truth) {
    for (site, held) in truth.sites() {
        assert_eq!(report.held_by("heap", &site), held, "{}", report.0);
    }
}

#[track_caller]
fn assert_refused(how: &str, why: &str) {
    let (report, _) = traced(how);
    let notices = report.0["notices"].to_string();
    assert!(notices.contains("are not taken from"), "{notices}");
    assert!(notices.contains(why), "{notices}");
    let named = |function: Option<&str>| function == Some("made_at_run_time");
    let mut frames = report.sites("heap").flat_map(|site| site.frames());
    assert!(!frames.any(|frame| named(frame.function())), "{}", report.0);
}

#[test]
fn code_made_at_run_time_has_the_name_that_the_perf_map_gives_it() {
    let (report, truth) = traced("good");
    assert_named(&report, &truth);
    let notices = report.0["notices"].to_string();
    assert!(!notices.contains("malformed"), "{notices}");
}

#[test]
fn names_are_there_when_the_process_ends_before_the_first_report() {
    let mut target = Target::start(&Program::c("jit.c"), &["left"]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    target.end();
    let session = tracer.wait();
    let map = format!("/tmp/perf-{}.map", target.pid());
    assert!(std::fs::remove_file(map).is_ok());
    assert_named(session.final_report(), &truth);
}

#[test]
fn malformed_lines_are_counted_and_the_rest_is_used() {
    let (report, truth) = traced("malformed");
    assert_named(&report, &truth);
    let notices = report.0["notices"].to_string();
    let count = truth.number("malformed");
    let words = format!("{count} lines of /tmp/perf-");
    assert!(notices.contains(&words), "{notices}");
}

#[test]
fn a_fifo_in_place_of_the_perf_map_is_refused() {
    assert_refused("fifo", "not a regular file");
}

#[test]
fn a_symbolic_link_in_place_of_the_perf_map_is_refused() {
    assert_refused("symlink", "not a regular file");
}

#[test]
fn the_perf_map_of_another_user_is_refused() {
    assert_refused("foreign", "belongs to user 12345");
}

#[test]
fn the_perf_map_of_an_earlier_process_with_this_pid_is_refused() {
    assert_refused("old", "before the process began to run this program");
}

#[test]
fn a_perf_map_of_the_program_before_an_exec_is_not_believed() {
    let map = "echo 0 ffffffffffff of_the_program_before > /tmp/perf-$$.map";
    let program = Program::c("jit.c").path();
    // To attach takes far longer than the tick by which the time of a file can be off.
    let script = format!(
        "{map}; echo ready $$; read line; exec {} none",
        program.display()
    );
    let mut target = Target::start_command(Command::new("sh").args(["-c", &script]));
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "200ms"]);
    target.say("run it");
    target.say("work");
    let refused = (0..50).map(|_| tracer.next_report()).any(|report| {
        let notices = report.0["notices"].to_string();
        notices.contains("before the process began to run this program")
    });
    let session = tracer.stop();
    let _ = std::fs::remove_file(format!("/tmp/perf-{}.map", target.pid()));
    target.end();
    assert!(refused, "{}", session.final_report().0);
    let text = session.final_report().0.to_string();
    assert!(!text.contains("of_the_program_before"), "{text}");
}

/// .NET has its code in a file of two terabytes. Without its tables, there are still frame pointers; and
/// one stack is one site, also when it was first seen before the file was.
#[test]
fn code_in_a_file_that_is_too_large_to_be_read_is_walked_by_frame_pointers() {
    for how in ["large", "late"] {
        let (report, truth) = traced(how);
        let (_, held) = truth.sites().remove(0);
        let sites: Vec<_> = report.sites("heap").collect();
        assert_eq!(sites.len(), 1, "{how}: {}", report.0);
        assert_eq!(sites[0].held(), held, "{how}");
        assert_eq!(report.loss("stack_truncated"), 0, "{how}: {}", report.0);
        let frames = sites[0].frames();
        let caller = frames.get(1).and_then(|frame| frame.function());
        assert_eq!(caller, Some("main"), "{how}: {}", report.0);
    }
}

/// A function of JavaScript that allocates through malloc, and nothing that is optimised away.
const SCRIPT: &str = r"
const zlib = require('zlib');
const kept = [];
function keepsStreamsOfZlib() { kept.push(zlib.createDeflateRaw()); }
process.stdout.write(`ready ${process.pid}\n`);
let lines = 0;
process.stdin.on('data', (text) => {
    // A line can come in pieces.
    if (!text.includes('\n') || ++lines > 1) return;
    for (let i = 0; i < 200; i++) keepsStreamsOfZlib();
    process.stdout.write('done\n');
});
process.stdin.on('end', () => process.exit(0));
";

fn traced_node(options: &[&str]) -> Report {
    let directory = scratch();
    let script = directory.path().join("keeps.js");
    assert!(std::fs::write(&script, SCRIPT).is_ok());
    let mut target = {
        let mut command = Command::new("node");
        // V8 leaves a log where it stands.
        command
            .current_dir(directory.path())
            .args(options)
            .arg(&script);
        Target::start_command(&mut command)
    };
    let tracer = Tracer::attach(target.pid(), &[]);
    target.work();
    let session = tracer.stop();
    let map = format!("/tmp/perf-{}.map", target.pid());
    target.end();
    // Absent without the option.
    let _ = std::fs::remove_file(map);
    session.final_report().clone()
}

fn has_function(report: &Report, part: &str) -> bool {
    let mut frames = report.sites("heap").flat_map(|site| site.frames());
    frames.any(|frame| frame.function().is_some_and(|name| name.contains(part)))
}

#[test]
fn functions_of_javascript_have_names_where_node_writes_a_perf_map() {
    let report = traced_node(&["--perf-basic-prof", "--interpreted-frames-native-stack"]);
    assert!(
        has_function(&report, "keepsStreamsOfZlib"),
        "{}",
        report.0["notices"]
    );
    let notices = report.0["notices"].to_string();
    assert!(!notices.contains("--perf-basic-prof"), "{notices}");
}

#[test]
fn how_node_gets_names_is_said_once_where_it_writes_none() {
    let report = traced_node(&["--always-sparkplug"]);
    let notices = report.0["notices"].to_string();
    assert_eq!(notices.matches("--perf-basic-prof").count(), 1, "{notices}");
}

/// A method that allocates through malloc.
const JAVA: &str = r#"
import java.io.*; import java.util.*; import java.util.zip.Deflater;
public class Keeps {
    static List<Object> kept = new ArrayList<>();
    static void keepsDeflaters() { kept.add(new Deflater()); }
    public static void main(String[] arguments) throws IOException {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        System.out.println("ready " + ProcessHandle.current().pid());
        while (lines.readLine() != null) {
            for (int i = 0; i < 100; i++) keepsDeflaters();
            System.out.println("done");
        }
    }
}"#;

fn traced_java(writes_map: bool) -> Report {
    let directory = scratch();
    let source = directory.path().join("Keeps.java");
    assert!(std::fs::write(&source, JAVA).is_ok());
    run_tool("javac", &[path_text(&source)]);
    let mut command = Command::new("java");
    // Compiled at its first call, and nothing else, so that little time goes into that.
    command
        .args(["-Xcomp", "-XX:CompileCommand=quiet"])
        .arg("-XX:CompileCommand=compileonly,Keeps::keepsDeflaters")
        .args(["-XX:+PreserveFramePointer", "-cp"])
        .arg(directory.path())
        .arg("Keeps");
    let mut target = Target::start_command(&mut command);
    let tracer = Tracer::attach(target.pid(), &[]);
    target.work();
    let pid = target.pid().to_string();
    if writes_map {
        run_tool("jcmd", &[&pid, "Compiler.perfmap"]);
    }
    let session = tracer.stop();
    target.end();
    // Absent when nobody has asked for it.
    let _ = std::fs::remove_file(format!("/tmp/perf-{pid}.map"));
    session.final_report().clone()
}

#[test]
fn methods_of_java_have_names_where_jcmd_has_the_machine_write_a_perf_map() {
    let report = traced_java(true);
    assert!(
        has_function(&report, "Keeps.keepsDeflaters"),
        "{}",
        report.0
    );
    let notices = report.0["notices"].to_string();
    assert!(!notices.contains("Compiler.perfmap"), "{notices}");
}

#[test]
fn how_java_gets_names_is_said_once_where_it_writes_no_map() {
    let report = traced_java(false);
    assert!(!has_function(&report, "keepsDeflaters"), "{}", report.0);
    let notices = report.0["notices"].to_string();
    assert_eq!(notices.matches("Compiler.perfmap").count(), 1, "{notices}");
}

//! Stacks of code without frame pointers, against those that glibc's `backtrace` finds inside the
//! process for the same allocations.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking; tests say how far stacks agree, and what they skip"
)]

use std::path::Path;
use std::process::Command;

use leaktrace_tests::{Agreement, Program, compare_stacks};

/// What no compiler driver does by itself, and distributions build with.
const OPTIMISED: [&str; 2] = ["-O2", "-fomit-frame-pointer"];

/// A row of the table in the README.
#[track_caller]
fn tell(name: &str, agreement: &Agreement) {
    println!(
        "{name}: {} stacks, {:.3}% equal and complete, {:.3}% reach their end, {} wrong, \
         {} go on where backtrace stopped, {} missing, \
         {} cut: {}; bpf_get_stackid: {:.3}% equal, {:.1} of {:.1} frames, \
         {} dropped",
        agreement.taken,
        agreement.ratio() * 100.0,
        agreement.whole_ratio() * 100.0,
        agreement.wrong,
        agreement.beyond,
        agreement.missing,
        agreement.truncated,
        agreement.session.final_report().0["truncated_stacks"],
        agreement.kernel_ratio() * 100.0,
        agreement.kernel_frames as f64 / agreement.taken as f64,
        agreement.frames as f64 / agreement.taken as f64,
        agreement.kernel_dropped,
    );
    assert!(
        agreement.taken > 100,
        "{name} has allocated next to nothing"
    );
}

/// Of all stacks that were taken, so many have to be equal in every frame and complete.
const EQUAL_AND_COMPLETE: f64 = 0.999;

/// For runtimes that make code, at which `backtrace` stops.
#[track_caller]
fn assert_whole(name: &str, agreement: &Agreement, at_least: f64) {
    tell(name, agreement);
    assert_eq!(agreement.begun_right, agreement.whole, "{name}");
    assert!(
        agreement.whole_ratio() >= at_least,
        "{name}: {} of {} stacks are cut: {}",
        agreement.truncated,
        agreement.taken,
        agreement.session.final_report().0["truncated_stacks"]
    );
}

#[track_caller]
fn assert_true(name: &str, agreement: &Agreement, at_least: f64) {
    assert_eq!(agreement.beyond, 0, "{name}: {:#?}", agreement.examples);
    assert_agreed(name, agreement, agreement.equal, at_least);
}

/// For programs with functions that `backtrace` does not get across, and leaktrace does.
#[track_caller]
fn assert_true_or_beyond(name: &str, agreement: &Agreement, at_least: f64) {
    let agreed = agreement.equal + agreement.beyond;
    assert_agreed(name, agreement, agreed, at_least);
}

#[track_caller]
fn assert_agreed(name: &str, agreement: &Agreement, agreed: u64, at_least: f64) {
    tell(name, agreement);
    assert_never_wrong(name, agreement);
    assert!(
        agreed as f64 >= at_least * agreement.taken as f64,
        "{name}: {agreed} of {} are equal; {}",
        agreement.taken,
        agreement.session.final_report().0["truncated_stacks"]
    );
}

#[track_caller]
fn assert_never_wrong(name: &str, agreement: &Agreement) {
    let losses = &agreement.session.final_report().0["losses"];
    assert_eq!(agreement.wrong, 0, "{name}: {:#?}", agreement.examples);
    assert_eq!(agreement.missing, 0, "{name}: {losses}");
}

/// A program of the distribution.
#[track_caller]
fn installed(program: &str) -> Command {
    assert!(
        Path::new(program).exists(),
        "{program} is not installed; cargo xtask setup installs it"
    );
    Command::new(program)
}

#[test]
fn every_shape_of_c_frames_is_unwound() {
    let program = Program::c("stack_shapes.c").with(&OPTIMISED);
    let agreement = compare_stacks(&mut Command::new(program.path()), &[]);
    assert_true("C", &agreement, 1.0);
}

#[test]
fn the_kernels_walker_does_find_frame_pointers() {
    let program = Program::c("stack_shapes.c").with(&["-O1", "-fno-omit-frame-pointer"]);
    let agreement = compare_stacks(&mut Command::new(program.path()), &[]);
    assert_true("C with frame pointers", &agreement, 1.0);
    // What it is compared with is fair: it gets through the program, though not through the C
    // library below it.
    assert!(agreement.kernel_frames * 2 > agreement.frames);
}

#[test]
fn frames_of_cpp_are_unwound_while_exceptions_fly() {
    let program = Program::cpp("stack_exceptions.cc").with(&OPTIMISED);
    let agreement = compare_stacks(&mut Command::new(program.path()), &[]);
    assert_true("C++", &agreement, 1.0);
}

#[test]
fn a_stripped_interpreter_is_unwound() {
    let mut perl = installed("/usr/bin/perl");
    let script = r#"my %h; for my $i (1..2000) { $h{"key $i"} = [map { "value $_" } 1..3]; }
        my @k = sort { $h{$a}[0] cmp $h{$b}[0] || $a cmp $b } keys %h; $_ =~ s/(\d+)/<$1>/ for @k;"#;
    let agreement = compare_stacks(perl.args(["-e", script]), &[]);
    assert_true("perl", &agreement, EQUAL_AND_COMPLETE);
}

#[test]
fn an_interpreter_that_loads_modules_is_unwound() {
    let mut python = installed("/usr/bin/python3");
    let script = "import json, re, decimal, random, collections\n\
        d = {str(i): [random.random()] * 3 for i in range(500)}\n\
        t = json.loads(json.dumps(d))\n\
        w = collections.Counter(re.findall('[0-9]+', str(t)))\n\
        s = sum(decimal.Decimal(k) for k in w)\n";
    let agreement = compare_stacks(
        python
            .env("PYTHONMALLOC", "malloc")
            .args(["-S", "-c", script]),
        &[],
    );
    // The first calls into a module that has just been loaded can come before its table.
    assert_true("python3", &agreement, EQUAL_AND_COMPLETE);
}

#[test]
fn a_database_without_frame_pointers_is_unwound() {
    let mut sqlite = installed("/usr/bin/sqlite3");
    let statements = "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 \
        from n where i < 2000) insert into t select i, 'x' || i from n; create index k on t(b); \
        select count(*) from t a join t b on a.b = b.b; select group_concat(b) from t;";
    let agreement = compare_stacks(sqlite.args([":memory:", statements]), &[]);
    assert_true("sqlite3", &agreement, EQUAL_AND_COMPLETE);
}

#[test]
fn a_version_control_system_is_unwound() {
    let mut git = installed("/usr/bin/git");
    let folder = leaktrace_tests::scratch();
    let run = |arguments: &[&str]| {
        let done = Command::new("/usr/bin/git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b"])
            .args(arguments)
            .current_dir(folder.path())
            .output();
        assert!(
            done.is_ok_and(|done| done.status.success()),
            "git {arguments:?}"
        );
    };
    run(&["init", "-q"]);
    for commit in 0..40 {
        let lines: Vec<String> = (0..50)
            .map(|line| format!("line {}", line * (commit % 7)))
            .collect();
        std::fs::write(folder.path().join("file"), lines.join("\n")).expect("a file");
        run(&["add", "file"]);
        run(&[
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            &format!("change {commit}"),
        ]);
    }
    let log = ["--no-pager", "log", "-p", "--stat"];
    let agreement = compare_stacks(git.args(log).current_dir(folder.path()), &[]);
    assert_true("git log -p", &agreement, EQUAL_AND_COMPLETE);
}

#[test]
fn a_compiler_of_cpp_is_unwound() {
    let mut clang = installed("/usr/bin/clang");
    let folder = leaktrace_tests::scratch();
    let source = folder.path().join("source.cc");
    let text = "template<int N> struct S { static int f(int x) { return x * N + S<N - 1>::f(x ^ N); } };\n\
        template<> struct S<0> { static int f(int x) { return x; } };\n\
        int g(int x) { return S<30>::f(x); }\n";
    std::fs::write(&source, text).expect("a source file");
    // -fintegrated-cc1: the compiler proper is not another process.
    let arguments = ["-fintegrated-cc1", "-O2", "-c", "-o", "/dev/null"];
    let agreement = compare_stacks(
        clang.env("STACK_EVERY", "3").args(arguments).arg(&source),
        &[],
    );
    assert_true("clang", &agreement, EQUAL_AND_COMPLETE);
}

#[test]
fn a_compiler_of_rust_is_unwound() {
    // The distribution's: that of rustup brings an allocator of its own, which cannot be wrapped.
    let path = "/usr/bin/rustc";
    if !Path::new(path).exists() {
        return println!("{path} is not installed: skipped");
    }
    let mut rustc = installed(path);
    let folder = leaktrace_tests::scratch();
    let source = folder.path().join("source.rs");
    let text =
        "pub fn f(words: &[String]) -> usize { words.iter().map(|word| word.len()).sum() }\n";
    std::fs::write(&source, text).expect("a source file");
    let arguments = ["--crate-type=lib", "--emit=obj", "-O", "--out-dir"];
    let agreement = compare_stacks(
        rustc
            .env("STACK_EVERY", "2")
            .args(arguments)
            .arg(folder.path())
            .arg(&source),
        &[],
    );
    assert_true_or_beyond("rustc", &agreement, EQUAL_AND_COMPLETE);
}

#[test]
fn an_engine_that_makes_code_is_unwound() {
    let mut node = installed("/usr/bin/node");
    let script = "const f = n => n < 2 ? [Buffer.alloc(9000 + n)] : f(n - 1).concat(f(n - 2).slice(0, 2));\n\
        let s = 0; for (let i = 0; i < 300; i++) { s += f(12).length; \
        s += JSON.stringify(JSON.parse('{\"a\": [1, 2, {\"b\": 3}]}')).length; \
        s += 'a1b22'.replace(/[0-9]+/g, x => x * 2).length; }";
    let agreement = compare_stacks(node.env("STACK_EVERY", "3").args(["-e", script]), &[]);
    assert_whole("node", &agreement, EQUAL_AND_COMPLETE);
}

/// What the JVM compiles of Java keeps a frame pointer when it is asked to. Its stubs keep none even so, and
/// how many stacks go through them is up to what it has compiled by then: 0.03% to 0.9% were cut.
#[test]
fn a_virtual_machine_that_makes_code_is_unwound() {
    assert_whole("java", &java(&["-XX:+PreserveFramePointer"]), 0.98);
}

/// Else its stacks may end there, and how much it compiles is up to the time that it has for that. What
/// leaktrace calls whole begins right.
#[test]
fn stacks_of_a_virtual_machine_without_frame_pointers_are_cut_and_never_made_up() {
    let agreement = java(&[]);
    tell("java without frame pointers", &agreement);
    assert_eq!(agreement.begun_right, agreement.whole);
    assert_eq!(agreement.missing, 0);
}

fn java(options: &[&str]) -> Agreement {
    let mut java = installed("/usr/bin/java");
    let folder = leaktrace_tests::scratch();
    let source = folder.path().join("Work.java");
    let text = "import java.util.zip.*; class Work { static int g(byte[] b) { Deflater d = new Deflater(); \
        d.setInput(b); d.finish(); int n = d.deflate(new byte[b.length + 99]); d.end(); return n; } \
        public static void main(String[] a) { int s = 0; for (int i = 0; i < 4000; i++) \
        s += g(new byte[1000 + i]); System.err.println(s); } }";
    std::fs::write(&source, text).expect("a source file");
    let compiled = installed("/usr/bin/javac").arg(&source).status();
    assert!(compiled.is_ok_and(|status| status.success()));
    compare_stacks(
        java.env("STACK_EVERY", "3")
            .args(options)
            .arg("-cp")
            .arg(folder.path())
            .arg("Work"),
        &[],
    )
}

/// A library with frames of its own size.
fn plugin(words: &'static str) -> std::path::PathBuf {
    let flags = ["-O2", "-fomit-frame-pointer", "-shared", "-fPIC"];
    Program::c("stack_plugin.c")
        .with(&flags)
        .with(&[words])
        .path()
}

#[test]
fn code_that_takes_the_place_of_other_code_is_never_mistaken_for_it() {
    let program = Program::c("stack_plugins.c").with(&OPTIMISED);
    let plugins = [plugin("-DWORDS=10"), plugin("-DWORDS=14")];
    let agreement = compare_stacks(Command::new(program.path()).args(plugins), &[]);
    // Libraries that live for less than a millisecond are gone before anybody has looked at them.
    tell("plugins", &agreement);
    assert_never_wrong("plugins", &agreement);
    // That many are cut is by design; that nearly all are is not.
    let few = agreement.taken / 10;
    assert!(agreement.equal >= few, "{} are whole", agreement.equal);
}

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

/// For runtimes that make code, at which `backtrace` stops.
#[track_caller]
fn assert_whole(name: &str, agreement: &Agreement) {
    tell(name, agreement);
    assert_eq!(agreement.begun_right, agreement.whole, "{name}");
    assert!(
        agreement.whole_ratio() >= 0.99,
        "{name}: {} of {} stacks are cut: {}",
        agreement.truncated,
        agreement.taken,
        agreement.session.final_report().0["truncated_stacks"]
    );
}

#[track_caller]
fn assert_true(name: &str, agreement: &Agreement, at_least: f64) {
    let report = agreement.session.final_report();
    tell(name, agreement);
    assert_eq!(agreement.wrong, 0, "{name}: {:#?}", agreement.examples);
    assert_eq!(agreement.missing, 0, "{name}: {}", report.0["losses"]);
    // Stacks of more frames than leaktrace keeps are cut by design.
    let kept = agreement.taken - truncated(agreement, "too_deep");
    let agreed = (agreement.equal + agreement.beyond) as f64 / kept as f64;
    assert!(
        agreed >= at_least,
        "{name}: {} of {} are equal; {}",
        agreement.equal,
        agreement.taken,
        report.0["truncated_stacks"]
    );
}

/// Stacks that are cut for this reason.
fn truncated(agreement: &Agreement, reason: &str) -> u64 {
    let reasons = &agreement.session.final_report().0["truncated_stacks"];
    reasons[reason].as_u64().unwrap_or(0)
}

/// A program of the distribution, if it is there.
fn installed(program: &str) -> Option<Command> {
    if Path::new(program).exists() {
        return Some(Command::new(program));
    }
    println!("{program} is not installed: skipped");
    None
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
    let Some(mut perl) = installed("/usr/bin/perl") else {
        return;
    };
    let script = r#"my %h; for my $i (1..2000) { $h{"key $i"} = [map { "value $_" } 1..3]; }
        my @k = sort { $h{$a}[0] cmp $h{$b}[0] || $a cmp $b } keys %h; $_ =~ s/(\d+)/<$1>/ for @k;"#;
    let agreement = compare_stacks(perl.args(["-e", script]), &[]);
    assert_true("perl", &agreement, 0.999);
}

#[test]
fn an_interpreter_that_loads_modules_is_unwound() {
    let Some(mut python) = installed("/usr/bin/python3") else {
        return;
    };
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
    assert_true("python3", &agreement, 0.995);
}

#[test]
fn a_database_without_frame_pointers_is_unwound() {
    let Some(mut sqlite) = installed("/usr/bin/sqlite3") else {
        return;
    };
    let statements = "create table t(a, b); with recursive n(i) as (select 1 union all select i + 1 \
        from n where i < 2000) insert into t select i, 'x' || i from n; create index k on t(b); \
        select count(*) from t a join t b on a.b = b.b; select group_concat(b) from t;";
    let agreement = compare_stacks(sqlite.args([":memory:", statements]), &[]);
    assert_true("sqlite3", &agreement, 0.999);
}

#[test]
fn a_version_control_system_is_unwound() {
    let Some(mut git) = installed("/usr/bin/git") else {
        return;
    };
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
    assert_true("git log -p", &agreement, 0.999);
}

#[test]
fn a_compiler_of_cpp_is_unwound() {
    let Some(mut clang) = installed("/usr/bin/clang") else {
        return;
    };
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
    assert_true("clang", &agreement, 0.999);
}

#[test]
fn a_compiler_of_rust_is_unwound() {
    // The distribution's: that of rustup brings an allocator of its own, which cannot be wrapped.
    let Some(mut rustc) = installed("/usr/bin/rustc") else {
        return;
    };
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
    assert_true("rustc", &agreement, 0.999);
}

#[test]
fn an_engine_that_makes_code_is_unwound() {
    let Some(mut node) = installed("/usr/bin/node") else {
        return;
    };
    let script = "const f = n => n < 2 ? [Buffer.alloc(9000 + n)] : f(n - 1).concat(f(n - 2).slice(0, 2));\n\
        let s = 0; for (let i = 0; i < 300; i++) { s += f(12).length; \
        s += JSON.stringify(JSON.parse('{\"a\": [1, 2, {\"b\": 3}]}')).length; \
        s += 'a1b22'.replace(/[0-9]+/g, x => x * 2).length; }";
    let agreement = compare_stacks(node.env("STACK_EVERY", "3").args(["-e", script]), &[]);
    assert_whole("node", &agreement);
}

#[test]
fn a_virtual_machine_that_makes_code_is_unwound() {
    let (Some(mut java), Some(_)) = (installed("/usr/bin/java"), installed("/usr/bin/javac"))
    else {
        return;
    };
    let folder = leaktrace_tests::scratch();
    let source = folder.path().join("Work.java");
    let text = "import java.util.zip.*; class Work { static int g(byte[] b) { Deflater d = new Deflater(); \
        d.setInput(b); d.finish(); int n = d.deflate(new byte[b.length + 99]); d.end(); return n; } \
        public static void main(String[] a) { int s = 0; for (int i = 0; i < 4000; i++) \
        s += g(new byte[1000 + i]); System.err.println(s); } }";
    std::fs::write(&source, text).expect("a source file");
    let compiled = Command::new("/usr/bin/javac").arg(&source).status();
    assert!(compiled.is_ok_and(|status| status.success()));
    let agreement = compare_stacks(
        java.env("STACK_EVERY", "3")
            .args(["-cp"])
            .arg(folder.path())
            .arg("Work"),
        &[],
    );
    assert_whole("java", &agreement);
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
    assert_true("plugins", &agreement, 0.0);
}

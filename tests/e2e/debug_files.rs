//! What was stripped from a program is found in its debug file, or packed in the program itself: the
//! names of its frames, and the functions of an allocator that is linked into it.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use leaktrace_tests::{
    Program, Report, Target, Tracer, Truth, assert_sites_are_true, assert_totals_are_true, copy,
    path_text, run_tool, scratch,
};

/// A static program: all of its allocator is in it.
fn program() -> Program {
    Program::c("each_function.c").with(&["-static", "-Wl,--build-id=sha1"])
}

/// Divides a program into what runs, in this folder, and its debug file.
fn divide(folder: &Path) -> (PathBuf, PathBuf) {
    let (runs, debug) = (folder.join("divided"), folder.join("divided.debug"));
    copy(&program().path(), &runs);
    run_tool(
        "objcopy",
        &["--only-keep-debug", path_text(&runs), path_text(&debug)],
    );
    run_tool("strip", &[path_text(&runs)]);
    (runs, debug)
}

fn trace(mut target: Target) -> (Report, Truth) {
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    target.end();
    (session.final_report().clone(), truth)
}

#[track_caller]
fn assert_found((report, truth): &(Report, Truth)) {
    assert_sites_are_true(report, truth);
    assert_totals_are_true(report, truth);
    let first = &report.sites("heap").next().expect("a site").frames()[0];
    assert!(first.0["line"].as_u64().is_some(), "{}", first.0);
}

#[test]
fn a_debug_file_is_found_by_the_link_to_it() {
    for place in ["", ".debug"] {
        let folder = scratch();
        let (runs, debug) = divide(folder.path());
        run_tool(
            "objcopy",
            &[
                &format!("--add-gnu-debuglink={}", path_text(&debug)),
                path_text(&runs),
            ],
        );
        if !place.is_empty() {
            let below = folder.path().join(place);
            std::fs::create_dir(&below).expect("a folder");
            std::fs::rename(&debug, below.join("divided.debug")).expect("a new place");
        }
        assert_found(&trace(Target::start_command(
            Command::new(&runs).arg("leak"),
        )));
    }
}

/// As some systems are built: the stripped program itself is at the first place of that name.
#[test]
fn a_debug_file_may_have_the_name_of_its_program() {
    let folder = scratch();
    let (runs, debug) = divide(folder.path());
    let below = folder.path().join(".debug");
    std::fs::create_dir(&below).expect("a folder");
    let named = below.join("divided");
    std::fs::rename(&debug, &named).expect("a new place");
    let link = format!("--add-gnu-debuglink={}", path_text(&named));
    run_tool("objcopy", &[&link, path_text(&runs)]);
    assert_found(&trace(Target::start_command(
        Command::new(&runs).arg("leak"),
    )));
}

#[test]
fn without_a_build_id_the_checksum_decides() {
    for right in [true, false] {
        let folder = scratch();
        let whole = Program::c("each_function.c").with(&["-static", "-Wl,--build-id=none"]);
        let (runs, debug) = (
            folder.path().join("divided"),
            folder.path().join("divided.debug"),
        );
        copy(&whole.path(), &runs);
        run_tool(
            "objcopy",
            &["--only-keep-debug", path_text(&runs), path_text(&debug)],
        );
        run_tool("strip", &[path_text(&runs)]);
        run_tool(
            "objcopy",
            &[
                &format!("--add-gnu-debuglink={}", path_text(&debug)),
                path_text(&runs),
            ],
        );
        if !right {
            run_tool(
                "objcopy",
                &["--add-section=.more=/bin/true", path_text(&debug)],
            );
        }
        let target = Target::start_command(Command::new(&runs).arg("leak"));
        if right {
            assert_found(&trace(target));
        } else {
            let (report, _) = trace(target);
            assert_eq!(report.sites("heap").count(), 0, "{}", report.0);
        }
    }
}

#[test]
fn a_debug_file_is_found_by_its_build_id_in_the_root_of_the_process() {
    let root = scratch();
    let (runs, debug) = divide(root.path());
    let notes = Command::new("readelf")
        .args(["-n", path_text(&runs)])
        .output();
    let notes = String::from_utf8(notes.expect("readelf").stdout).expect("text");
    let (_, id) = notes.split_once("Build ID: ").expect("a build id");
    let id = id.split_whitespace().next().expect("a build id");
    let folder = root.path().join("usr/lib/debug/.build-id").join(&id[..2]);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::rename(&debug, folder.join(format!("{}.debug", &id[2..]))).expect("a new place");
    let mut command = Command::new("chroot");
    command.args([path_text(root.path()), "/divided", "leak"]);
    assert_found(&trace(Target::start_command(&mut command)));
    drop(runs);
}

#[test]
fn a_broken_debug_file_leaves_the_program_as_it_is() {
    let folder = scratch();
    let runs = folder.path().join("divided");
    let debug = folder.path().join("divided.debug");
    copy(&Program::c("late.c").path(), &runs);
    run_tool(
        "objcopy",
        &["--only-keep-debug", path_text(&runs), path_text(&debug)],
    );
    run_tool(
        "objcopy",
        &[
            "--strip-debug",
            &format!("--add-gnu-debuglink={}", path_text(&debug)),
            path_text(&runs),
        ],
    );
    let length = std::fs::metadata(&debug).expect("a file").len();
    let file = std::fs::File::options()
        .write(true)
        .open(&debug)
        .expect("a file");
    file.set_len(length / 2).expect("half a file");
    let (report, truth) = trace(Target::start_command(&mut Command::new(&runs)));
    assert_sites_are_true(&report, &truth);
}

/// Puts a program into this folder that carries its symbols packed, but for those that it exports.
fn pack(program: &Path, folder: &Path, exported: &[&str]) -> PathBuf {
    let (runs, symbols) = (folder.join("packed"), folder.join("symbols"));
    copy(program, &runs);
    let mut strip: Vec<String> = ["--only-keep-debug", "--strip-debug"]
        .map(str::to_owned)
        .into();
    strip.extend(exported.iter().map(|name| format!("--strip-symbol={name}")));
    let mut arguments: Vec<&str> = strip.iter().map(String::as_str).collect();
    arguments.extend([path_text(&runs), path_text(&symbols)]);
    run_tool("objcopy", &arguments);
    run_tool("strip", &[path_text(&runs)]);
    run_tool("xz", &["--force", path_text(&symbols)]);
    add_packed(&runs, &folder.join("symbols.xz"));
    runs
}

fn add_packed(program: &Path, packed: &Path) {
    let section = format!("--add-section=.gnu_debugdata={}", path_text(packed));
    run_tool("objcopy", &[&section, path_text(program)]);
}

#[test]
fn symbols_that_a_program_carries_packed_name_its_frames_and_its_allocator() {
    let folder = scratch();
    let runs = pack(&program().path(), folder.path(), &[]);
    let (report, truth) = trace(Target::start_command(Command::new(&runs).arg("leak")));
    assert_sites_are_true(&report, &truth);
    assert_totals_are_true(&report, &truth);
}

#[test]
fn names_that_a_program_exports_need_not_be_packed() {
    let folder = scratch();
    let whole = Program::c("chain.c").with(&["-rdynamic"]);
    let runs = pack(&whole.path(), folder.path(), &["main"]);
    let (report, _) = trace(Target::start_command(&mut Command::new(&runs)));
    let named = |name: &str| {
        let has = |site: &leaktrace_tests::Site<'_>| {
            let frames = site.frames();
            frames.iter().any(|frame| frame.function() == Some(name))
        };
        report.sites("heap").any(|site| has(&site))
    };
    assert!(named("main"), "{}", report.0);
}

#[test]
fn symbols_that_unpack_to_too_much_are_left_packed() {
    let folder = scratch();
    let zeros = folder.path().join("zeros");
    let file = std::fs::File::create(&zeros).expect("a file");
    file.set_len(300 << 20).expect("a length");
    run_tool("xz", &["-0", "--force", path_text(&zeros)]);
    let runs = folder.path().join("packed");
    copy(&Program::c("late.c").path(), &runs);
    run_tool("strip", &["--strip-debug", path_text(&runs)]);
    add_packed(&runs, &folder.path().join("zeros.xz"));
    let mut target = Target::start_command(&mut Command::new(&runs));
    let tracer = Tracer::attach(target.pid(), &[]);
    let peak = leaktrace_tests::peak_resident_bytes(tracer.pid());
    let truth = target.work();
    let session = tracer.stop();
    target.end();
    assert_sites_are_true(session.final_report(), &truth);
    // The limit is 128 MiB, and what was unpacked up to there is given back.
    assert!(peak < 300 << 20, "{peak} bytes");
}

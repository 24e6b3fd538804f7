//! Debug files from a server, which the test is itself: only when the user has asked for it, only
//! those of the same build, and never so that a session waits for a server that does not answer.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use leaktrace_tests::{
    Program, Report, Target, Tracer, assert_refused, assert_sites_are_true, copy, leaktrace,
    path_text, run_to_end, run_tool, scratch,
};

/// What a server says.
#[derive(Clone, Debug)]
enum Says {
    /// This file, to whoever asks for this path.
    File(String, PathBuf),
    /// That it has nothing.
    NotFound,
    /// Nothing, and it keeps the connection.
    Nothing,
}

/// A server on this machine; its thread ends with the test.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            let kept = Mutex::new(Vec::new());
            for connection in listener.incoming() {
                let Ok(connection) = connection else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(silent) = answer(connection, &says) {
                    kept.lock().expect("one thread").push(silent);
                }
            }
        });
        Self {
            url: format!("http://127.0.0.1:{port}"),
            asked,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Answers one request; the connection, if it is to stay open.
fn answer(mut connection: TcpStream, says: &Says) -> Option<TcpStream> {
    let mut lines = BufReader::new(connection.try_clone().ok()?).lines();
    let request = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    let body = match says {
        Says::Nothing => return Some(connection),
        Says::File(path, file) if request.starts_with(&format!("GET {path} ")) => {
            Some(std::fs::read(file).expect("a file"))
        }
        Says::File(..) | Says::NotFound => None,
    };
    let (status, body) = match body {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", Vec::new()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // A client that has gone needs no answer.
    let _ = connection.write_all(head.as_bytes());
    let _ = connection.write_all(&body);
    None
}

/// Divides an object into what is used, its debug file, and where servers have that.
fn divide(whole: &Path, folder: &Path) -> (PathBuf, PathBuf, String) {
    let (used, debug) = (folder.join("divided"), folder.join("divided.debug"));
    copy(whole, &used);
    run_tool(
        "objcopy",
        &["--only-keep-debug", path_text(&used), path_text(&debug)],
    );
    run_tool("strip", &[path_text(&used)]);
    // Beside the object it would be found without a server.
    let elsewhere = folder.join("elsewhere");
    std::fs::rename(&debug, &elsewhere).expect("a new name");
    let notes = Command::new("readelf")
        .args(["-n", path_text(&used)])
        .output();
    let notes = String::from_utf8(notes.expect("readelf").stdout).expect("text");
    let (_, id) = notes.split_once("Build ID: ").expect("a build id");
    let id = id.split_whitespace().next().expect("a build id");
    (used, elsewhere, format!("/buildid/{id}/debuginfo"))
}

/// A static program: all of its allocator is in it.
fn program() -> Program {
    Program::c("each_function.c").with(&["-static", "-Wl,--build-id=sha1"])
}

/// leaktrace with a cache of its own, and no server from the environment.
fn tracer_of(pid: u32, cache: &Path, options: &[&str]) -> Command {
    let mut command = leaktrace();
    command
        .args(["--format", "json", "--top", "0", "--pid", &pid.to_string()])
        .args(options)
        .env("DEBUGINFOD_CACHE_PATH", cache)
        .env_remove("DEBUGINFOD_URLS");
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command
}

/// Traces a program that leaks, to its end; `options` go to leaktrace.
fn trace(program: &Path, cache: &Path, servers: &str) -> Report {
    let mut target = Target::start_command(Command::new(program).arg("leak"));
    let mut command = tracer_of(target.pid(), cache, &["--debuginfod"]);
    let tracer = Tracer::start(command.env("DEBUGINFOD_URLS", servers));
    let truth = target.work();
    let session = tracer.stop();
    target.end();
    let report = session.final_report().clone();
    assert_sites_are_true(&report, &truth);
    report
}

#[test]
fn a_debug_file_comes_from_the_first_server_that_has_it_and_is_kept() {
    let (folder, cache) = (scratch(), scratch());
    let (used, debug, path) = divide(&program().path(), folder.path());
    let without = Server::start(Says::NotFound);
    let with = Server::start(Says::File(path.clone(), debug.clone()));
    let report = trace(
        &used,
        cache.path(),
        &format!("{} {}", without.url, with.url),
    );
    let frame = &report.sites("heap").next().expect("a site").frames()[0];
    assert!(frame.line().is_some(), "{}", frame.0);
    assert_eq!((without.asked(), with.asked()), (1, 1));
    let id = path.split('/').nth(2).expect("a build id");
    let kept = cache.path().join(id).join("debuginfo");
    assert_eq!(
        std::fs::read(kept).expect("the kept file"),
        std::fs::read(&debug).expect("the file")
    );
    trace(&used, cache.path(), &with.url);
    assert_eq!(with.asked(), 1, "what is kept is not asked for again");
}

#[test]
fn nobody_is_asked_unless_the_user_says_so() {
    let (folder, cache) = (scratch(), scratch());
    let (used, debug, path) = divide(&Program::c("late.c").path(), folder.path());
    let server = Server::start(Says::File(path, debug));
    let mut target = Target::start_command(&mut Command::new(&used));
    let mut command = tracer_of(target.pid(), cache.path(), &[]);
    let tracer = Tracer::start(command.env("DEBUGINFOD_URLS", &server.url));
    target.work();
    tracer.stop();
    target.end();
    assert_eq!(server.asked(), 0);
}

#[test]
fn a_file_of_another_build_is_refused() {
    let (folder, other, cache) = (scratch(), scratch(), scratch());
    let (used, _, path) = divide(&Program::c("late.c").path(), folder.path());
    let (_, wrong, _) = divide(&program().path(), other.path());
    let server = Server::start(Says::File(path, wrong));
    let mut target = Target::start_command(&mut Command::new(&used));
    let option = format!("--debuginfod={}", server.url);
    let tracer = Tracer::start(&mut tracer_of(target.pid(), cache.path(), &[&option]));
    target.work();
    let session = tracer.stop();
    target.end();
    assert!(server.asked() >= 1);
    assert!(
        session.errors.contains("another build"),
        "{}",
        session.errors
    );
    let named = session.final_report().sites("heap").any(|site| {
        let frames = site.frames();
        frames.iter().any(|frame| frame.line().is_some())
    });
    assert!(!named, "{}", session.final_report().0);
}

#[test]
fn a_server_that_does_not_answer_holds_nothing_up_for_longer_than_its_time() {
    let (folder, cache) = (scratch(), scratch());
    let (used, _, _) = divide(&Program::c("late.c").path(), folder.path());
    let server = Server::start(Says::Nothing);
    let mut target = Target::start_command(&mut Command::new(&used));
    let option = format!("--debuginfod={}", server.url);
    let mut command = tracer_of(target.pid(), cache.path(), &[&option]);
    let tracer = Tracer::start(command.env("DEBUGINFOD_TIMEOUT", "1"));
    assert!(
        tracer.attached_in.as_secs() < 10,
        "{:?}",
        tracer.attached_in
    );
    target.work();
    let session = tracer.stop();
    assert!(session.ended_in.as_secs() < 10, "{:?}", session.ended_in);
    target.end();
    assert!(
        session.errors.contains("no debug file from"),
        "{}",
        session.errors
    );
}

#[test]
fn names_of_a_library_come_while_its_process_is_traced() {
    let (folder, cache) = (scratch(), scratch());
    let flags = [
        "-O2",
        "-fno-omit-frame-pointer",
        "-shared",
        "-fPIC",
        "-Wl,--build-id=sha1",
    ];
    let whole = Program::c("stack_sampler.c").with(&flags);
    let (used, debug, path) = divide(&whole.path(), folder.path());
    let server = Server::start(Says::File(path, debug));
    let script = "while (<STDIN>) { push @kept, 'x' x (100 + $_) for 1 .. 1000 }";
    let mut command = Command::new("/usr/bin/perl");
    command
        .args(["-e", script])
        .env("LD_PRELOAD", &used)
        .env("STACK_SAMPLES", folder.path().join("samples"));
    let mut target = Target::start_command(&mut command);
    let option = format!("--debuginfod={}", server.url);
    let options = [&*option, "--interval", "100ms"];
    let mut tracer = Tracer::start(&mut tracer_of(target.pid(), cache.path(), &options));
    target.say("go");
    target.say("1");
    // `sample` is no name that the library exports.
    let has_name = |report: &Report| {
        report.sites("heap").any(|site| {
            let frames = site.frames();
            frames
                .iter()
                .any(|frame| frame.function() == Some("sample"))
        })
    };
    let named = (0..300).any(|_| has_name(&tracer.next_report()));
    assert!(named, "asked {} times", server.asked());
    tracer.stop();
    target.end();
}

#[test]
fn an_option_without_any_server_is_refused() {
    let mut command = tracer_of(1, Path::new("/nonexistent"), &["--debuginfod"]);
    assert_refused(
        &run_to_end(&mut command),
        &["--debuginfod", "DEBUGINFOD_URLS"],
    );
    let mut command = tracer_of(1, Path::new("/nonexistent"), &["--debuginfod=ftp://x"]);
    assert_refused(&run_to_end(&mut command), &["ftp://x", "https://"]);
}

//! How much of the growth of real programs is explained: what they grow by is asked of the kernel, before and
//! after.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use leaktrace_tests::{PATIENCE, Report, Spawned, Target, Tracer, read, scratch};

/// Growth that makes the fixed costs of a program small.
const WORTH_BYTES: i64 = 16 << 20;

/// Two ways of asking: the program may move between the last report and the kernel's answer.
const NOISE_BYTES: i64 = 1 << 20;

/// What `work` has made a process grow by, and what leaktrace says of it.
fn explained(name: &str, pid: u32, work: impl FnOnce()) -> Report {
    let before = resident_bytes(pid);
    let tracer = Tracer::attach(pid, &["--interval", "1s"]);
    work();
    let growth = resident_bytes(pid) - before;
    let session = tracer.stop();
    let report = session.final_report().clone();
    let process = &report.0["process"];
    let mib = |bytes: Option<i64>| bytes.unwrap_or_default() as f64 / f64::from(1 << 20);
    let part = |owner: &str| mib(process["growth_by_owner"][owner].as_i64());
    eprintln!(
        "{name}: grew by {:.1} MiB; heap {:.1}, allocator {:.1}, mapped {:.1}, data {:.1}, files {:.1}, \
         shared {:.1}, untracked {:.1}; explained {:.1}%",
        mib(Some(growth)),
        part("heap_bytes"),
        part("allocator_bytes"),
        part("mapped_bytes"),
        part("data_bytes"),
        part("file_bytes"),
        part("shared_bytes"),
        part("untracked_bytes"),
        100.0 * ratio(&report),
    );
    assert!(growth > WORTH_BYTES, "{name} has grown by {growth}");
    let said = process["rss_growth_bytes"].as_i64().unwrap_or_default();
    assert!(
        (said - growth).abs() < NOISE_BYTES,
        "{growth}, said {said} in {process}"
    );
    report
}

fn resident_bytes(pid: u32) -> i64 {
    let text = read(format!("/proc/{pid}/smaps_rollup").as_ref());
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok());
    number.unwrap_or_else(|| panic!("no resident set in {text}")) * 1024
}

fn ratio(report: &Report) -> f64 {
    let ratio = report.0["process"]["explained_ratio"].as_f64();
    ratio.unwrap_or_else(|| panic!("nothing explained in {}", report.0["process"]))
}

#[track_caller]
fn assert_explained(report: &Report) {
    assert!(ratio(report) >= 0.95, "{}", report.0["process"]);
}

/// Fails when the program is not there: what is not tried is not tested.
#[track_caller]
fn needs(program: &str) {
    let there = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status();
    assert!(
        there.is_ok_and(|status| status.success()),
        "{program} is not installed; cargo xtask setup installs it"
    );
}

/// A program that reads its own language from standard input and says `done` when it is told to.
fn interpreter(command: &mut Command, warm_up: &str) -> Target {
    let mut target = Target::start_mute(command);
    target.answer(warm_up);
    target
}

#[test]
fn values_in_redis_are_explained() {
    let directory = scratch();
    let socket = directory.path().join("socket");
    let mut command = Command::new("redis-server");
    command
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .args(["--unixsocket".as_ref(), socket.as_os_str()])
        .stdout(Stdio::null());
    let redis = Spawned::start(&mut command);
    let begun = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(begun.elapsed() < PATIENCE, "redis-server does not listen");
        std::thread::yield_now();
    }
    let report = explained("redis-server, values", redis.pid(), || {
        let mut load = Spawned::start(
            Command::new("redis-benchmark")
                .arg("-s")
                .arg(&socket)
                .args([
                    "-q", "-t", "set", "-d", "900", "-n", "50000", "-r", "1000000",
                ])
                .stdout(Stdio::null()),
        );
        assert!(load.wait(PATIENCE).success());
    });
    assert_explained(&report);
}

#[test]
fn a_database_in_memory_is_explained() {
    let mut sqlite = interpreter(
        Command::new("sqlite3").arg(":memory:"),
        "create table t(a integer primary key, b text);\n.print done",
    );
    let pid = sqlite.pid();
    let report = explained("sqlite3 :memory:, rows", pid, || {
        sqlite.answer(
            "with recursive n(i) as (select 1 union all select i+1 from n where i<200000) \
             insert into t select i, printf('%0200d', i) from n;\n.print done",
        );
    });
    assert_explained(&report);
}

#[test]
fn native_blocks_of_python_are_explained() {
    let mut python = interpreter(
        Command::new("/usr/bin/python3").args(["-c", "import sys\nfor l in sys.stdin: exec(l)"]),
        "import ctypes; libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p; \
         print('done', flush=True)",
    );
    let pid = python.pid();
    let report = explained("python3, ctypes and bytes", pid, || {
        python.answer(
            "p = [ctypes.memset(libc.malloc(2000), 1, 2000) for _ in range(20000)]; \
             q = [bytes(3000) for _ in range(5000)]; print('done', flush=True)",
        );
    });
    assert_explained(&report);
}

#[test]
fn hashes_of_perl_are_explained() {
    let mut perl = interpreter(
        Command::new("perl").args(["-e", "$| = 1; while (<STDIN>) { eval $_ }"]),
        "print \"done\\n\"",
    );
    let pid = perl.pid();
    let report = explained("perl, hashes", pid, || {
        perl.answer("our %h; $h{$_} = 'x' x 100 for 1 .. 100_000; print \"done\\n\"");
    });
    assert_explained(&report);
}

#[test]
fn buffers_of_node_are_explained() {
    needs("node");
    let script = "require('readline').createInterface({input: process.stdin})\
                  .on('line', l => eval(l))";
    let mut node = interpreter(
        Command::new("node").args(["-e", script]),
        "console.log('done')",
    );
    let pid = node.pid();
    let report = explained("node, buffers", pid, || {
        node.answer(
            "global.b = []; for (let i = 0; i < 600; i++) b.push(Buffer.alloc(100000, 1)); \
             console.log('done')",
        );
    });
    assert_explained(&report);
}

#[test]
fn objects_of_node_are_in_a_heap_that_has_its_own_tool() {
    needs("node");
    let script = "require('readline').createInterface({input: process.stdin})\
                  .on('line', l => eval(l))";
    let mut node = interpreter(
        Command::new("node").args(["-e", script]),
        "console.log('done')",
    );
    let pid = node.pid();
    let report = explained("node, objects", pid, || {
        node.answer(
            "global.o = []; for (let i = 0; i < 600000; i++) o.push({i, s: 'x' + i}); \
             console.log('done')",
        );
    });
    assert_eq!(report.0["process"]["runtime"], "v8");
    let tool = report.0["process"]["next_tool"].to_string();
    assert!(tool.contains(&format!("kill -USR1 {pid}")), "{tool}");
}

const JAVA: &str = r#"
import java.nio.ByteBuffer; import java.util.*; import java.io.*;
public class Grows {
    static List<Object> kept = new ArrayList<>();
    public static void main(String[] a) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String l; (l = in.readLine()) != null; System.out.println("done")) {
            for (int i = 0; l.equals("direct") && i < 600; i++) {
                ByteBuffer b = ByteBuffer.allocateDirect(100000);
                for (int at = 0; at < 100000; at += 1000) b.put(at, (byte) 1);
                kept.add(b);
            }
            for (int i = 0; l.equals("objects") && i < 1000000; i++) kept.add(new long[8]);
        }
    }
}"#;

fn java(work: &str) -> Report {
    needs("javac");
    let directory = scratch();
    let source = directory.path().join("Grows.java");
    let written = std::fs::write(&source, JAVA);
    let compiled = Command::new("javac").arg(&source).status();
    assert!(written.is_ok() && compiled.is_ok_and(|status| status.success()));
    let mut command = Command::new("java");
    command
        .args(["-Xms16m", "-Xmx512m", "-XX:+UseSerialGC", "-cp"])
        .arg(directory.path())
        .arg("Grows");
    let mut java = interpreter(&mut command, "nothing");
    // What the machine compiles and loads on its way is there before the work that counts.
    let pid = java.pid();
    explained(&format!("java, {work}"), pid, || {
        java.answer(work);
    })
}

#[test]
fn direct_buffers_of_java_are_explained() {
    assert_explained(&java("direct"));
}

#[test]
fn objects_of_java_are_in_a_heap_that_has_its_own_tool() {
    let report = java("objects");
    assert_eq!(report.0["process"]["runtime"], "jvm");
    let tool = report.0["process"]["next_tool"].to_string();
    assert!(tool.contains("jcmd"), "{tool}");
}

/// A server of a cluster of its own, as the user of the package.
struct Postgres {
    server: Spawned,
    directory: tempfile::TempDir,
}

fn postgres_program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .args([
            "sh",
            "-c",
            "PATH=$(echo /usr/lib/postgresql/*/bin):$PATH exec \"$0\" \"$@\"",
        ])
        .arg(name);
    command
}

impl Postgres {
    fn start() -> Self {
        let directory = scratch();
        let own = Command::new("chown")
            .args(["postgres:postgres".as_ref(), directory.path().as_os_str()])
            .status();
        assert!(own.is_ok_and(|status| status.success()));
        let data = directory.path().join("data");
        let made = postgres_program("initdb")
            .args(["-A", "trust", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.is_ok_and(|status| status.success()));
        let mut command = postgres_program("postgres");
        command
            .args(["-c", "listen_addresses=", "-D"])
            .arg(&data)
            .arg("-k")
            .arg(directory.path())
            .stderr(Stdio::null());
        let server = Spawned::start(&mut command);
        let begun = Instant::now();
        // It listens before it answers.
        let is_ready = || {
            let mut asks = postgres_program("pg_isready");
            let asks = asks.arg("-q").arg("-h").arg(directory.path());
            asks.status().is_ok_and(|status| status.success())
        };
        while !is_ready() {
            assert!(begun.elapsed() < PATIENCE, "postgres does not answer");
        }
        Self { server, directory }
    }
}

#[test]
fn prepared_statements_of_postgres_are_explained() {
    assert!(
        Path::new("/usr/lib/postgresql").exists(),
        "postgresql is not installed; cargo xtask setup installs it"
    );
    let postgres = Postgres::start();
    let mut command = postgres_program("psql");
    command
        .args(["-qAtX", "-U", "postgres", "-h"])
        .arg(postgres.directory.path())
        .arg("postgres");
    let mut psql = Target::start_mute(&mut command);
    let asked = psql.answer(
        "select '{\"truth\":\"number\",\"name\":\"pid\",\"value\":' || pg_backend_pid() || '}';\n\
         \\echo done",
    );
    let pid = asked.number("pid") as u32;
    let report = explained("postgres, prepared statements", pid, || {
        psql.answer(
            "do $$ begin for i in 1..6000 loop execute format('prepare p%s as select c.relname, \
             a.attname, $1::int from pg_class c join pg_attribute a on a.attrelid = c.oid where \
             c.relname = %L', i, i); end loop; end $$;\n\\echo done",
        );
    });
    drop(postgres.server);
    assert_explained(&report);
}

#[test]
fn connections_of_nginx_are_explained() {
    const CONNECTIONS: usize = 6000;
    needs("nginx");
    let directory = scratch();
    let socket = directory.path().join("socket");
    let configuration = format!(
        "daemon off; master_process off; error_log /dev/null; worker_rlimit_nofile 20000;\n\
         pid {0}/pid; events {{ worker_connections 16000; }}\n\
         http {{ access_log off; client_header_timeout 600; client_header_buffer_size 4k;\n\
         server {{ listen unix:{0}/socket; }} }}\n",
        directory.path().display()
    );
    let file = directory.path().join("nginx.conf");
    assert!(std::fs::write(&file, configuration).is_ok());
    let nginx = Spawned::start(Command::new("nginx").arg("-c").arg(&file));
    let begun = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(begun.elapsed() < PATIENCE, "nginx does not listen");
        std::thread::yield_now();
    }
    // It listens before it has made its tables.
    ask(&socket);
    let limit = rustix::process::Rlimit {
        current: Some(16_000),
        maximum: Some(20_000),
    };
    let raised = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    assert!(raised.is_ok(), "{raised:?}");
    let mut open = Vec::new();
    let report = explained("nginx, connections", nginx.pid(), || {
        for _ in 0..CONNECTIONS {
            let mut stream = connect(&socket);
            let sent = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
            assert!(sent.is_ok(), "{sent:?}");
            open.push(stream);
        }
        // It takes them in order: when the last one is answered, all were read.
        ask(&socket);
    });
    assert_explained(&report);
}

fn connect(socket: &Path) -> UnixStream {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            // Its queue is full.
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error}"),
        }
        std::thread::yield_now();
    }
}

fn ask(socket: &Path) {
    let mut stream = connect(socket);
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answered = stream.read_exact(&mut [0]);
    assert!(asked.is_ok() && answered.is_ok(), "{answered:?}");
}

//! Programs that nobody here wrote, as Debian ships them, each with a load under which it does not leak;
//! and a library that makes one leak. Traces nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{command::run, setup, workspace};

/// How a program is kept at work.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// It works by itself once it has read a line, says `ready` before and `done` behind.
    Itself,
    /// It reads its work: what a round of ten milliseconds is, by its number.
    Fed(fn(u32) -> String),
    /// A client of its own that goes on until it is ended: program and arguments. `%` stands for the
    /// socket.
    Client(&'static [&'static str]),
}

/// One program.
pub(super) struct RealProgram {
    pub(super) name: &'static str,
    package: &'static str,
    command: fn(&Path, u32) -> Command,
    pub(super) load: Load,
}

/// All of them.
pub(super) const ALL: [RealProgram; 4] = [
    RealProgram {
        name: "python3",
        package: "python3-minimal",
        command: python,
        load: Load::Itself,
    },
    RealProgram {
        name: "perl",
        package: "perl-base",
        command: perl,
        load: Load::Itself,
    },
    RealProgram {
        name: "sqlite3",
        package: "sqlite3",
        command: sqlite,
        load: Load::Fed(statements),
    },
    RealProgram {
        name: "redis-server",
        package: "redis-server",
        command: redis,
        load: Load::Client(&[
            "redis-benchmark",
            "-s",
            "%",
            "-q",
            "-l",
            "-c",
            "4",
            "-t",
            "set,get,lpush,lpop",
            "-r",
            "2000",
            "-d",
            "300",
            "-n",
            "20000",
        ]),
    },
];

impl RealProgram {
    /// The command that starts it, in a folder of its own, for so much work; with the library, if it
    /// is to leak.
    ///
    /// # Errors
    /// When the program cannot be installed.
    pub(super) fn command(&self, seconds: u32, library: Option<&Path>) -> Result<Command> {
        if workspace::on_path(self.name).is_none() {
            setup::install(&[self.package])?;
        }
        let folder = self.folder();
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut command = (self.command)(&folder, seconds);
        command.current_dir(&folder);
        if let Some(library) = library {
            command.env("LD_PRELOAD", library);
        }
        Ok(command)
    }

    /// Where its socket is, if it listens at one.
    pub(super) fn socket(&self) -> PathBuf {
        self.folder().join("socket")
    }

    fn folder(&self) -> PathBuf {
        super::folder().join(format!("real-{}", self.name))
    }
}

/// Compiles the library that makes a program leak.
///
/// # Errors
/// When there is no C compiler.
pub(super) fn leaky_library() -> Result<PathBuf> {
    let library = super::folder().join("leaky_write.so");
    let source = workspace::root().join("tests/programs/leaky_write.c");
    run(Command::new("cc")
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-std=gnu11"])
        .args(["-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"])
        .args(["-fno-builtin", "-shared", "-fPIC", "-o"])
        .args([library.as_os_str(), source.as_os_str()])
        .arg("-ldl"))?;
    Ok(library)
}

/// Requests that are parsed and answered, beside a cache that fills and then turns over.
fn python(_: &Path, seconds: u32) -> Command {
    let program = format!(
        "import sys, os, json, time, collections\n\
         print('ready', flush=True); sys.stdin.readline()\n\
         cache = collections.OrderedDict(); sink = os.open('/dev/null', os.O_WRONLY)\n\
         end = time.time() + {seconds}; n = 0\n\
         while time.time() < end:\n\
         \x20   for _ in range(20):\n\
         \x20       n += 1\n\
         \x20       text = json.dumps({{'n': n, 'body': 'x' * (n % 700), 'tags': list(range(n % 30))}})\n\
         \x20       cache[n % 3001] = bytearray(json.loads(text)['body'].encode() * 3)\n\
         \x20       if len(cache) > 2000: cache.popitem(last=False)\n\
         \x20   os.write(sink, b'answer')\n\
         \x20   time.sleep(0.01)\n\
         print('done', flush=True); sys.stdin.readline()\n"
    );
    let mut command = Command::new("/usr/bin/python3");
    // So that blocks of any size come from malloc.
    command.env("PYTHONMALLOC", "malloc").args(["-c", &program]);
    command
}

/// The same in another runtime.
fn perl(_: &Path, seconds: u32) -> Command {
    let program = format!(
        "$| = 1; print \"ready\\n\"; <STDIN>; open(my $sink, '>', '/dev/null');\n\
         my (%cache, @order); my $end = time + {seconds}; my $n = 0;\n\
         while (time < $end) {{\n\
           for (1 .. 20) {{\n\
             $n++; my $key = 'k' . ($n * 7919 % 3001);\n\
             push @order, $key unless exists $cache{{$key}};\n\
             $cache{{$key}} = join(',', map {{ $_ * $n }} 1 .. $n % 60);\n\
             delete $cache{{shift @order}} if @order > 2000;\n\
             my %request = map {{ split /=/ }} split /&/, \"a=$n&b=2&c=\" . 'x' x ($n % 500);\n\
           }}\n\
           syswrite $sink, 'answer'; select undef, undef, undef, 0.01;\n\
         }}\n\
         print \"done\\n\"; <STDIN>;"
    );
    let mut command = Command::new("/usr/bin/perl");
    command.args(["-e", &program]);
    command
}

fn sqlite(folder: &Path, _: u32) -> Command {
    let mut command = Command::new("sqlite3");
    command.arg(folder.join("data.db"));
    command
}

/// Rows that come and go, and questions about them.
fn statements(round: u32) -> String {
    if round == 0 {
        return "pragma synchronous=off; create table t(a integer primary key, b text);\n"
            .to_owned();
    }
    format!(
        "begin; insert into t values({round}, printf('%0400d', {round})); \
         delete from t where a < {round} - 500; commit;\n\
         select count(*), max(length(b)) from t where b like '%{}%';\n",
        round % 10
    )
}

fn redis(folder: &Path, _: u32) -> Command {
    let mut command = Command::new("redis-server");
    command
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocket",
        ])
        .arg(folder.join("socket"));
    command
}

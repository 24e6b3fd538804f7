//! Turns `tests/programs/*` into executables, each built once for a source and its flags. Never
//! writes into the source tree.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::environment;

/// Frame pointers, and every call left where the source has it.
const COMPILED: &[&str] = &[
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-D_GNU_SOURCE",
    "-fno-omit-frame-pointer",
    "-fno-builtin",
    "-fno-optimize-sibling-calls",
    "-pthread",
];

/// One build at a time in a test binary; between binaries the last rename wins, with equal bytes.
static BUILDING: Mutex<()> = Mutex::new(());

/// A program to be traced.
#[derive(Clone, Debug)]
pub struct Program {
    source: &'static str,
    compiler: OsString,
    flags: Vec<&'static str>,
    libraries: Vec<&'static str>,
}

impl Program {
    fn new(source: &'static str, compiler: impl Into<OsString>, flags: &[&'static str]) -> Self {
        Self {
            source,
            compiler: compiler.into(),
            flags: flags.to_vec(),
            libraries: Vec::new(),
        }
    }

    /// A C program with frame pointers.
    pub fn c(source: &'static str) -> Self {
        let program = match environment::c_compiler() {
            None => Self::new(source, "cc", COMPILED),
            // The kernel's headers, behind those of the other C library.
            Some(other) => Self::new(source, other, COMPILED).with(&[
                "-idirafter",
                "/usr/include",
                "-idirafter",
                "/usr/include/x86_64-linux-gnu",
            ]),
        };
        program.with(&["-std=gnu11"])
    }

    /// A C library with frame pointers for leaktrace itself, whatever traced programs run with.
    pub fn c_of_leaktrace(source: &'static str) -> Self {
        Self::new(source, "cc", COMPILED).with(&["-std=gnu11"])
    }

    /// A C++ program with frame pointers.
    pub fn cpp(source: &'static str) -> Self {
        Self::new(source, "c++", COMPILED).with(&["-std=c++17"])
    }

    /// A C program with frame pointers against the C library musl.
    pub fn musl(source: &'static str) -> Self {
        Self::new(source, "musl-gcc", COMPILED).with(&["-std=gnu11"])
    }

    /// A Rust program with frame pointers.
    pub fn rust(source: &'static str) -> Self {
        let flags = ["--edition=2024", "-O", "-g", "-Cforce-frame-pointers=yes"];
        Self::new(source, "rustc", &flags)
    }

    /// A Go program with C in it, whose C functions have frame pointers.
    pub fn go(source: &'static str) -> Self {
        Self::new(source, "go", &["build"])
    }

    /// A static program without a C library.
    pub fn bare(source: &'static str) -> Self {
        Self::new(
            source,
            "cc",
            &["-O1", "-nostdlib", "-static", "-ffreestanding"],
        )
        .with(&["-fno-stack-protector"])
    }

    /// More flags, behind those that the kind of program brings.
    #[must_use]
    pub fn with(mut self, flags: &[&'static str]) -> Self {
        self.flags.extend(flags);
        self
    }

    /// Libraries to link with, behind the source.
    #[must_use]
    pub fn linked(mut self, libraries: &[&'static str]) -> Self {
        self.libraries.extend(libraries);
        self
    }

    /// The library of C++ to link a program of C with, where there is one for its C library.
    #[must_use]
    pub fn linked_with_cpp(self) -> Self {
        match environment::c_compiler() {
            None => self.linked(&["-lstdc++"]),
            Some(_) => self,
        }
    }

    /// The executable, built if it is not there yet.
    pub fn path(&self) -> PathBuf {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
        let source = sources.join(self.source);
        let built = traced_programs();
        let stem = self.source.split('.').next().unwrap_or(self.source);
        let executable = built.join(format!("{stem}-{:016x}", self.digest(&sources, &source)));
        let _building = BUILDING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if !executable.exists() {
            self.build(&source, &executable);
        }
        // It has the same path in there.
        if let Some(root) = environment::root() {
            let inside = root.join(executable.strip_prefix("/").unwrap_or(&executable));
            if !inside.exists() {
                crate::copy(&executable, &inside);
            }
        }
        executable
    }

    /// The program, to be run: in the root that `LEAKTRACE_TARGET_ROOT` names, when it is set, with
    /// a /proc of its own there, because some programs ask the kernel what they hold.
    pub fn command(&self) -> Command {
        let path = self.path();
        match environment::root() {
            None => Command::new(path),
            Some(root) => {
                let mut command = Command::new("unshare");
                command.args(["--mount-proc", "--root"]);
                command.arg(root).arg(path);
                command
            }
        }
    }

    fn build(&self, source: &Path, executable: &Path) {
        let unfinished = executable.with_extension(std::process::id().to_string());
        let mut command = Command::new(&self.compiler);
        command.args(&self.flags).arg("-o").arg(&unfinished);
        if self.compiler == "go" {
            let cache = executable.with_file_name("go-cache");
            command.env("GOCACHE", cache).env("GO111MODULE", "off");
            command.env("CGO_CFLAGS", "-O1 -g -fno-omit-frame-pointer");
        }
        command.arg(source).args(&self.libraries);
        let output = command.output().unwrap_or_else(|error| {
            panic!(
                "cannot run {}: {error}; cargo xtask setup installs it \
                 (in a guest of cargo xtask vm: run it once without --guests-only)",
                self.compiler.display()
            )
        });
        assert!(
            output.status.success(),
            "cannot build {}: {}",
            self.source,
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::rename(&unfinished, executable).expect("cannot rename a traced program");
    }

    fn digest(&self, sources: &Path, source: &Path) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.compiler, &self.flags, &self.libraries).hash(&mut hasher);
        for file in headers(sources)
            .iter()
            .map(PathBuf::as_path)
            .chain([source])
        {
            std::fs::read(file)
                .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
                .hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// What any program may include, in order.
fn headers(sources: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(sources).expect("cannot list the traced programs");
    let mut headers: Vec<PathBuf> = entries
        .map(|entry| entry.expect("cannot list the traced programs").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "h"))
        .collect();
    headers.sort();
    headers
}

/// Where built programs are, and what they are built of.
pub fn traced_programs() -> PathBuf {
    let built = target_directory().join("traced-programs");
    std::fs::create_dir_all(&built).expect("cannot create a directory for traced programs");
    built
}

/// Cargo's target directory: test binaries lie in `<target>/<profile>/deps`.
pub(crate) fn target_directory() -> PathBuf {
    let executable = std::env::current_exe().expect("cannot find the test's own executable");
    executable
        .ancestors()
        .nth(3)
        .expect("a test binary lies three levels below the target directory")
        .to_owned()
}

//! Which file an [`Object`] is when its name has been replaced, removed or turned into a trap.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::{Child, Command};

use super::*;

/// A copy of `sleep` that runs under a name of its own.
struct Sleeper {
    child: Child,
    program: PathBuf,
    _directory: tempfile::TempDir,
}

impl Sleeper {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("sleeper");
        std::fs::copy("/bin/sleep", &program).unwrap();
        // Another test that forks just now holds the copy open for writing for a moment.
        let child = loop {
            match Command::new(&program).arg("60").spawn() {
                Ok(child) => break child,
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {}
                Err(error) => panic!("{error}"),
            }
        };
        Self {
            child,
            program,
            _directory: directory,
        }
    }

    /// The process, once exec has mapped the program in it.
    fn process(&self) -> Process {
        loop {
            let process = Process::open(self.child.id()).unwrap();
            let mapped = process.mappings().is_ok_and(|mappings| {
                mappings
                    .executable()
                    .any(|mapping| mapping.path == self.program)
            });
            if mapped {
                return process;
            }
        }
    }

    fn mapping(&self, process: &Process) -> Mapping {
        let mappings = process.mappings().unwrap();
        let mut code = mappings.executable();
        code.find(|mapping| mapping.path == self.program)
            .cloned()
            .unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn first_bytes(object: &Object) -> Vec<u8> {
    object.code(0, 4).unwrap()
}

#[test]
fn the_mapped_file_is_opened_and_can_be_searched() {
    let sleeper = Sleeper::start();
    let process = sleeper.process();
    let object = Object::open(&process, &sleeper.mapping(&process)).unwrap();
    assert_eq!(object.path(), sleeper.program);
    assert_eq!(first_bytes(&object), b"\x7fELF");
    assert_eq!(object.functions(&["malloc"]).unwrap(), []);
    assert!(object.sections().unwrap().iter().any(|s| s.name == ".text"));
}

#[test]
fn a_file_that_was_replaced_is_still_the_mapped_one() {
    let sleeper = Sleeper::start();
    let process = sleeper.process();
    std::fs::remove_file(&sleeper.program).unwrap();
    std::fs::write(&sleeper.program, "another").unwrap();
    let mappings = process.mappings().unwrap();
    let mapping = mappings.executable().find(|mapping| mapping.deleted);
    match Object::open(&process, mapping.unwrap()) {
        Ok(object) => assert_eq!(first_bytes(&object), b"\x7fELF"),
        // Without privileges the mapped file cannot be reached; the other one must not be taken.
        Err(error) => assert!(matches!(error, ObjectError::Replaced(_)), "{error}"),
    }
}

#[test]
fn a_name_that_leads_elsewhere_is_refused_without_opening_it() {
    let sleeper = Sleeper::start();
    let process = sleeper.process();
    let mapping = sleeper.mapping(&process);
    let id = mapping.file.unwrap();
    assert!(open_by_name(&process, &mapping, id).is_ok());

    std::fs::remove_file(&sleeper.program).unwrap();
    let fifo = std::ffi::CString::new(sleeper.program.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string with an end.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    // Even with the right inode number.
    let trap = FileId {
        inode: std::fs::metadata(&sleeper.program).unwrap().ino(),
        ..id
    };
    assert!(matches!(
        open_by_name(&process, &mapping, trap),
        Err(ObjectError::Replaced(_))
    ));

    std::fs::remove_file(&sleeper.program).unwrap();
    symlink("/proc/self/exe", &sleeper.program).unwrap();
    assert!(matches!(
        open_by_name(&process, &mapping, id),
        Err(ObjectError::Open { .. })
    ));
}

#[test]
fn memory_without_a_file_is_no_object() {
    let sleeper = Sleeper::start();
    let process = sleeper.process();
    let mapping = Mapping {
        file: None,
        ..sleeper.mapping(&process)
    };
    assert!(matches!(
        Object::open(&process, &mapping),
        Err(ObjectError::NoFile(_))
    ));
}

#[test]
fn a_process_that_has_died_gives_no_new_objects() {
    let mut sleeper = Sleeper::start();
    let process = sleeper.process();
    let mapping = sleeper.mapping(&process);
    let held = Object::open(&process, &mapping).unwrap();
    sleeper.child.kill().unwrap();
    sleeper.child.wait().unwrap();
    assert!(Object::open(&process, &mapping).is_err());
    assert_eq!(
        first_bytes(&held),
        b"\x7fELF",
        "what is held stays readable"
    );
}

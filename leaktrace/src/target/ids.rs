//! Which processes and threads there are: the folders of /proc that have their numbers for names.

use std::io;
use std::path::Path;

/// The processes that the pid namespace of /proc shows now.
///
/// # Errors
///
/// When /proc cannot be read.
pub fn processes() -> io::Result<Vec<u32>> {
    numbers_in(Path::new("/proc"))
}

/// The threads that a process has now, its main thread among them even when that has ended.
///
/// # Errors
///
/// When the process has ended.
pub fn threads(pid: u32) -> io::Result<Vec<u32>> {
    numbers_in(Path::new(&format!("/proc/{pid}/task")))
}

fn numbers_in(folder: &Path) -> io::Result<Vec<u32>> {
    let entries = std::fs::read_dir(folder)?;
    // What goes while it is listed is not there.
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(numbers.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_threads_are_there() {
        let own = std::process::id();
        let tid = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get());
        assert!(processes().is_ok_and(|processes| processes.contains(&own)));
        assert!(threads(own).is_ok_and(|threads| {
            threads.contains(&own) && tid.is_ok_and(|tid| threads.contains(&tid))
        }));
        assert!(threads(0).is_err());
    }
}

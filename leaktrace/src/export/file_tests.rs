//! Files and things that are no files, written.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};

use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_new_file_is_readable_and_an_old_one_keeps_its_permissions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.svg");
    replace(&path, b"one").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one");
    assert_eq!(mode(&path) & 0o600, 0o600);
    assert_eq!(mode(&path) & !NEW_FILE_MODE, 0);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    replace(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(mode(&path), 0o640);
    assert_eq!(names(directory.path()), ["out.svg"]);
}

#[test]
fn the_caller_of_sudo_is_known_by_both_ids_or_not_at_all() {
    let with = |gid: &'static str| {
        move |name: &str| match name {
            "SUDO_UID" => Some("1000".to_owned()),
            _ => Some(gid.to_owned()).filter(|gid| !gid.is_empty()),
        }
    };
    assert_eq!(invoking_user(with("100")), Some((1000, 100)));
    assert_eq!(invoking_user(with("")), None);
    assert_eq!(invoking_user(with("x")), None);
}

#[test]
fn a_reader_of_the_old_file_keeps_the_old_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    replace(&path, b"old").unwrap();
    let mut reader = File::open(&path).unwrap();
    replace(&path, b"new and longer").unwrap();
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "old");
}

#[test]
fn a_write_that_fails_keeps_the_old_file_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    fs::write(&path, "old").unwrap();
    let error = replace_by(&path, directory.path(), None, |file| {
        file.write_all(b"half")?;
        Err(ErrorKind::StorageFull.into())
    })
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(directory.path()), ["out"]);
}

#[test]
fn a_link_is_replaced_and_what_it_leads_to_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let precious = directory.path().join("precious");
    fs::write(&precious, "keep").unwrap();
    for target in ["precious", "nowhere"] {
        let link = directory.path().join("out");
        let _ = fs::remove_file(&link);
        symlink(target, &link).unwrap();
        check_writable(&link).unwrap();
        replace(&link, b"graph").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
    }
    assert_eq!(fs::read(&precious).unwrap(), b"keep");
}

#[test]
fn directories_and_missing_directories_are_refused_with_advice() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no/such/out.svg");
    for (path, says) in [
        (directory.path(), "name a file in it"),
        (Path::new("/"), "name a file in it"),
        (Path::new("new/"), "name a file in it"),
        (Path::new(""), "name a file in it"),
        (missing.as_path(), "create its directory first"),
    ] {
        for error in [
            check_writable(path).unwrap_err(),
            replace(path, b"x").unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.ends_with(says), "{text}");
            assert!(text.contains(&*path.to_string_lossy()), "{text}");
        }
    }
}

#[test]
fn a_full_device_is_written_to_and_its_error_is_told() {
    let path = Path::new("/dev/full");
    check_writable(path).unwrap();
    let text = replace(path, b"x").unwrap_err().to_string();
    assert!(
        text.starts_with("cannot write /dev/full: No space left"),
        "{text}"
    );
    assert!(fs::metadata(path).unwrap().file_type().is_char_device());
}

#[test]
fn links_below_proc_are_written_through_and_append() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("redirected");
    fs::write(&path, "earlier\n").unwrap();
    let open = File::options().append(true).open(&path).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&open);
    let link = PathBuf::from(format!("/proc/self/fd/{fd}"));
    check_writable(&link).unwrap();
    replace(&link, b"later\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"earlier\nlater\n");
}

#[test]
fn a_pipe_gets_every_byte_and_a_pipe_without_reader_does_not_hang() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    rustix::fs::mkfifoat(CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    check_writable(&path).unwrap();
    let text = replace(&path, b"x").unwrap_err().to_string();
    assert!(text.contains("nobody reads from it"), "{text}");

    let reader = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .unwrap();
    rustix::fs::fcntl_setfl(&reader, rustix::fs::OFlags::empty()).unwrap();
    // Without a writer, the reader would find the end before the thread has begun.
    let _writer = File::options().append(true).open(&path).unwrap();
    let bytes = vec![7_u8; 1 << 20];
    let writer = {
        let (path, bytes) = (path.clone(), bytes.clone());
        std::thread::spawn(move || replace(&path, &bytes))
    };
    let mut seen = vec![0; bytes.len()];
    (&reader).read_exact(&mut seen).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(seen, bytes);
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
}

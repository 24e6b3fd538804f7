//! A reader who stops, stays behind, or goes away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{PipeReader, Read, pipe};

use super::*;

const PIECE_BYTES: usize = 1 << 20;

fn stalled() -> (PipeReader, Written) {
    let (reader, writer) = pipe().unwrap();
    (reader, Written::to(writer).unwrap())
}

#[test]
fn a_reader_that_stops_holds_nobody_up_and_misses_nothing_when_it_goes_on() {
    let (mut reader, written) = stalled();
    for _ in 0..10 {
        assert_eq!(
            written.send(vec![b'x'; PIECE_BYTES], true).unwrap(),
            Taken::Queued
        );
    }
    let reads = thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).map(|_| read.len())
    });
    end(written).unwrap();
    assert_eq!(reads.join().unwrap().unwrap(), 10 * PIECE_BYTES);
}

#[test]
fn a_reader_far_behind_misses_what_can_be_left_out_and_nothing_else() {
    let (mut reader, written) = stalled();
    let mut queued = 0;
    while written.send(vec![b'x'; PIECE_BYTES], true).unwrap() == Taken::Queued {
        queued += 1;
    }
    assert!(queued * PIECE_BYTES > MAX_WAITING_BYTES);
    assert_eq!(written.send(b"end".to_vec(), false).unwrap(), Taken::Queued);
    let reads = thread::spawn(move || {
        let mut read = Vec::new();
        reader.read_to_end(&mut read).map(|_| read)
    });
    end(written).unwrap();
    let read = reads.join().unwrap().unwrap();
    assert_eq!(read.len(), queued * PIECE_BYTES + 3);
    assert!(read.ends_with(b"end"));
}

#[test]
fn a_reader_that_is_gone_is_told() {
    let (reader, written) = stalled();
    drop(reader);
    written.send(b"text".to_vec(), false).unwrap();
    let error = end(written).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// A disk that is full from the first byte on; it hears when it may say so.
struct Full(mpsc::Receiver<()>);

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Err(io::Error::from_raw_os_error(
            rustix::io::Errno::NOSPC.raw_os_error(),
        ))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_as_such_however_late_it_is_asked() {
    let (fails, may_fail) = mpsc::channel();
    let written = Written::to(Full(may_fail)).unwrap();
    written.send(b"text".to_vec(), false).unwrap();
    fails.send(()).unwrap();
    // Some of these come before the thread has failed, some while it ends, some after that.
    let begun = std::time::Instant::now();
    let mut told = 0;
    while told < 100 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
        if let Err(error) = written.send(b"more".to_vec(), false) {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            told += 1;
        }
    }
    assert_eq!(end(written).unwrap_err().kind(), io::ErrorKind::StorageFull);
}

fn end(mut written: Written) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(written.all())
}

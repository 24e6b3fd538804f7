//! Processes that are made in the memory of another one: clone with CLONE_VM, and neither as a thread nor for
//! the moment before an exec, as vfork and posix_spawn do. Tells of them as they are made, by a trace event
//! that the kernel filters. Counts nothing that they do.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya_obj::generated::perf_event_sample_format::{PERF_SAMPLE_RAW, PERF_SAMPLE_TID};

use super::perf_event;
use super::tracefs::Tracefs;

/// CLONE_VM without CLONE_VFORK and CLONE_THREAD (linux/sched.h).
const FILTER: &std::ffi::CStr =
    c"clone_flags & 0x100 && !(clone_flags & 0x4000) && !(clone_flags & 0x10000)";

/// Where the event has the new process: behind the eight bytes that all events have.
const CHILD_OFFSET: usize = 8;

/// One page that tells how far the kernel has written, and one of records: there is hardly ever any.
const PAGE_BYTES: usize = 4096;
const MAPPED_BYTES: usize = 2 * PAGE_BYTES;

// Of struct perf_event_mmap_page (linux/perf_event.h).
const HEAD_OFFSET: usize = 1024;
const TAIL_OFFSET: usize = 1032;

/// Type of a record that a sample is in.
const RECORD_SAMPLE: u32 = 9;

/// A process that runs in the memory of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// The process that has made it.
    pub parent: u32,
    /// Its own id.
    pub tgid: u32,
}

/// Waits for such processes, of whatever program.
#[derive(Debug)]
pub(super) struct MemorySharing {
    rings: Vec<Ring>,
}

impl MemorySharing {
    /// Begins to wait, on every processor that is online.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell of new tasks, or not this user.
    pub(super) fn watch() -> io::Result<Self> {
        let id = Tracefs::open()?.event_id("task/task_newtask")?;
        let processors = aya::util::online_cpus().map_err(|(_, error)| error)?;
        let samples = PERF_SAMPLE_TID as u64 | PERF_SAMPLE_RAW as u64;
        let rings = processors
            .into_iter()
            .map(|processor| Ring::map(perf_event::open_filtered(id, processor, samples, FILTER)?));
        Ok(Self {
            rings: rings.collect::<io::Result<_>>()?,
        })
    }

    /// Those that were made since the last call.
    pub(super) fn take(&mut self) -> Vec<Sharer> {
        self.rings.iter_mut().flat_map(Ring::take).collect()
    }
}

/// The records of one processor.
#[derive(Debug)]
struct Ring {
    start: NonNull<u8>,
    // Open as long as it is mapped: with it the event ends.
    _event: OwnedFd,
}

impl Ring {
    fn map(event: OwnedFd) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPED_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            start,
            _event: event,
        })
    }

    fn take(&mut self) -> Vec<Sharer> {
        // Acquire: the records were written before the head was.
        let head = self.word(HEAD_OFFSET).load(Ordering::Acquire);
        let tail = self.word(TAIL_OFFSET).load(Ordering::Relaxed);
        let bytes: Vec<u8> = (tail..head).map(|at| self.record_byte(at)).collect();
        // Release: the kernel may write over them from now on.
        self.word(TAIL_OFFSET).store(head, Ordering::Release);
        sharers(&bytes)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the first page is mapped as long as `self` lives, the offsets are multiples of eight, and
        // the kernel too accesses these words as a whole.
        unsafe { &*self.start.as_ptr().add(offset).cast::<AtomicU64>() }
    }

    fn record_byte(&self, at: u64) -> u8 {
        let offset = PAGE_BYTES + at as usize % PAGE_BYTES;
        // SAFETY: within the second page, which is mapped as long as `self` lives; volatile because the
        // kernel writes it.
        unsafe { self.start.as_ptr().add(offset).read_volatile() }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), MAPPED_BYTES) };
    }
}

/// What the records tell: a header (type, flags, length), then for a sample the process and the thread that
/// made the new one, the length of the event's data, and these.
fn sharers(mut bytes: &[u8]) -> Vec<Sharer> {
    let mut found = Vec::new();
    while let Some(length) = number(bytes, 6, 2) {
        let Some(record) = bytes.get(..length as usize).filter(|_| length >= 8) else {
            break;
        };
        let parent = number(record, 8, 4);
        let child = number(record, 8 + 8 + 4 + CHILD_OFFSET, 4);
        if number(record, 0, 4) == Some(RECORD_SAMPLE)
            && let (Some(parent), Some(tgid)) = (parent, child)
        {
            found.push(Sharer { parent, tgid });
        }
        bytes = &bytes[record.len()..];
    }
    found
}

fn number(bytes: &[u8], offset: usize, length: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + length)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u32, body: &[u32]) -> Vec<u8> {
        let length = u16::try_from(8 + body.len() * 4).unwrap_or_default();
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(body.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    #[test]
    fn samples_tell_who_made_whom_and_other_records_are_passed_over() {
        let sample =
            |parent, child| record(RECORD_SAMPLE, &[parent, parent + 1, 16, 0, 0, child, 7]);
        let mut bytes = sample(100, 200);
        bytes.extend(record(2, &[1, 2, 3, 4]));
        bytes.extend(sample(300, 400));
        let of = |parent, tgid| Sharer { parent, tgid };
        assert_eq!(sharers(&bytes), [of(100, 200), of(300, 400)]);
    }

    #[test]
    fn records_that_are_cut_or_have_no_length_end_the_list() {
        let whole = record(RECORD_SAMPLE, &[1, 2, 16, 0, 0, 3, 7]);
        assert_eq!(sharers(&whole[..20]), []);
        assert_eq!(sharers(&[0; 64]), []);
        assert_eq!(sharers(&[]), []);
    }
}

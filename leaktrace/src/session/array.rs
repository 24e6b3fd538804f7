//! A BPF array map, mapped into this process: reading it costs no system call.

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use aya::Pod;
use aya::maps::MapData;

/// A mapped array of values that the programs may write at the same time.
pub(super) struct MappedArray<T> {
    start: NonNull<u8>,
    length_bytes: usize,
    entries: usize,
    values: PhantomData<T>,
}

impl<T: Pod> MappedArray<T> {
    /// Maps an array map that was created with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    ///
    /// What mmap said.
    pub(super) fn map(map: &MapData, entries: usize) -> io::Result<Self> {
        Self::map_part(map, 0, entries)
    }

    /// Maps some entries of one, from `first` on, which has to begin a page.
    ///
    /// # Errors
    ///
    /// What mmap said.
    pub(super) fn map_part(map: &MapData, first: usize, entries: usize) -> io::Result<Self> {
        use std::os::fd::AsFd;
        let offset = libc::off_t::try_from(first * Self::STRIDE).map_err(io::Error::other)?;
        let page = rustix::param::page_size();
        let length_bytes = (entries * Self::STRIDE).next_multiple_of(page);
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self {
            start,
            length_bytes,
            entries,
            values: PhantomData,
        })
    }

    /// The kernel rounds values of an array up to 8 bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// Address of a value; the last one for an index behind the end.
    pub(super) fn place(&self, index: usize) -> *mut T {
        let index = index.min(self.entries.saturating_sub(1));
        // SAFETY: the index is inside, and the mapping is at least entries × STRIDE long.
        unsafe { self.start.as_ptr().add(index * Self::STRIDE).cast() }
    }

    /// A copy of a value. Words of it may be newer than others.
    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: the place is inside the mapping and aligned to 8; any bytes are a T.
        unsafe { std::ptr::read_volatile(self.place(index)) }
    }

    /// Changes a value. Fields that `change` leaves alone are not written: the programs may be
    /// counting in them.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut T)) {
        let before = self.read(index);
        let mut after = before;
        change(&mut after);
        // SAFETY: the place is inside the mapping and aligned to 8; nothing refers into it.
        unsafe { write_changes(self.place(index), &before, &after) };
    }
}

/// Writes the words in which two values differ: a field of 64 bits at once, and one of 32 bits without the
/// one beside it.
///
/// # Safety
///
/// `place` is valid for writes of a `T`, and aligned to 8 if that has 8 bytes or more, else to 4.
unsafe fn write_changes<T: Pod>(place: *mut T, before: &T, after: &T) {
    let place = place.cast::<u32>();
    let changed =
        |at: usize| half(after, at).filter(|half_after| half(before, at) != Some(*half_after));
    for at in (0..size_of::<T>() / size_of::<u32>()).step_by(2) {
        // SAFETY: a half that the value has is inside of it, as the caller says.
        unsafe {
            match (changed(at), changed(at + 1)) {
                (Some(low), Some(high)) => {
                    let both = u64::from(low) | u64::from(high) << u32::BITS;
                    place.add(at).cast::<u64>().write_volatile(both);
                }
                (Some(low), None) => place.add(at).write_volatile(low),
                (None, Some(high)) => place.add(at + 1).write_volatile(high),
                (None, None) => {}
            }
        }
    }
}

/// One of the pieces of 32 bits of a value, if it has so many; lower half first: values are little-endian
/// where probes work.
fn half<T: Pod>(value: &T, at: usize) -> Option<u32> {
    const {
        assert!(size_of::<T>().is_multiple_of(4), "values have whole words");
        assert!(cfg!(target_endian = "little"));
    }
    let start = std::ptr::from_ref(value).cast::<u32>();
    // SAFETY: that many whole words are inside of the value; any bytes are integers.
    (at < size_of::<T>() / size_of::<u32>()).then(|| unsafe { start.add(at).read_unaligned() })
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_have_counted_meanwhile_stays() {
        let before = [1_u64, 2 | 3 << 32, u64::MAX, 7];
        // 2 and 7 have become 20 and 70 since the value was read.
        let mut place = [1, 20 | 3 << 32, u64::MAX, 70];
        let after = [4, 2 | 30 << 32, 5, 7];
        // SAFETY: a local array of the type, aligned to 8.
        unsafe { write_changes(&raw mut place, &before, &after) };
        assert_eq!(place, [4, 20 | 30 << 32, 5, 70]);
    }

    #[test]
    fn a_value_of_half_a_word_is_written_alone() {
        let mut places = [1_u32, 2];
        // SAFETY: the first element of a local array.
        unsafe { write_changes(&raw mut places[0], &1, &9) };
        assert_eq!(places, [9, 2]);
    }
}

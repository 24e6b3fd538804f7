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

    /// Changes a value that the programs do not write in the fields changed here.
    pub(super) fn update(&self, index: usize, change: impl FnOnce(&mut T)) {
        // SAFETY: as for `read`. No other reference into the mapping exists on this side, and
        // the programs change single words of it atomically.
        change(unsafe { &mut *self.place(index) });
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length_bytes) };
    }
}

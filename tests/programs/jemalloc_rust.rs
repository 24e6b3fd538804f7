//! A program of Rust with jemalloc inside, whose functions have names of their own: as the crates for
//! jemalloc do it. Prints its truth without allocating.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_void};
use std::io::{Read, Write};

unsafe extern "C" {
    fn _rjem_mallocx(size: usize, flags: c_int) -> *mut c_void;
    fn _rjem_malloc(size: usize) -> *mut c_void;
    fn _rjem_calloc(count: usize, size: usize) -> *mut c_void;
    fn _rjem_rallocx(block: *mut c_void, size: usize, flags: c_int) -> *mut c_void;
    fn _rjem_sdallocx(block: *mut c_void, size: usize, flags: c_int);
}

struct Jemalloc;

fn flags(layout: Layout) -> c_int {
    layout.align().trailing_zeros() as c_int
}

// SAFETY: jemalloc keeps the promises of an allocator.
unsafe impl GlobalAlloc for Jemalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= 16 {
            unsafe { _rjem_malloc(layout.size()).cast() }
        } else {
            unsafe { _rjem_mallocx(layout.size(), flags(layout)).cast() }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe { _rjem_calloc(1, layout.size()).cast() }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { _rjem_sdallocx(block.cast(), layout.size(), flags(layout)) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe { _rjem_rallocx(block.cast(), size, flags(layout)).cast() }
    }
}

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const BLOCKS: u64 = 500;

#[inline(never)]
fn keep_some(kept: &mut [Option<Box<[u8; 300]>>]) {
    for (number, place) in kept.iter_mut().enumerate() {
        let block = std::hint::black_box(Box::new([1; 300]));
        if number % 2 == 0 {
            *place = Some(block);
        }
    }
}

#[repr(align(256))]
struct Aligned([u8; 256]);

#[inline(never)]
fn keep_aligned(kept: &mut [Option<Box<Aligned>>]) {
    for place in kept {
        *place = Some(std::hint::black_box(Box::new(Aligned([2; 256]))));
    }
}

#[inline(never)]
fn grow(bytes: usize) -> Vec<u8> {
    let mut grown = Vec::with_capacity(16);
    while grown.capacity() < bytes {
        let more = grown.capacity();
        grown.reserve_exact(more * 2);
        // SAFETY: never read.
        unsafe { grown.set_len(grown.capacity()) };
    }
    grown
}

struct Raw(i32);

impl Raw {
    fn file(&self) -> std::mem::ManuallyDrop<std::fs::File> {
        use std::os::fd::FromRawFd;
        // SAFETY: standard input and output stay open, and are not closed here.
        std::mem::ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(self.0) })
    }
}

fn say(arguments: std::fmt::Arguments<'_>) {
    let mut buffer = [0u8; 512];
    let mut rest = &mut buffer[..];
    rest.write_fmt(arguments).unwrap();
    let length = 512 - rest.len();
    Raw(1).file().write_all(&buffer[..length]).unwrap();
}

fn wait_line() {
    let mut byte = [0u8];
    while Raw(0).file().read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {}
}

fn main() {
    let mut kept: [Option<Box<[u8; 300]>>; BLOCKS as usize] = [const { None }; BLOCKS as usize];
    let mut aligned: [Option<Box<Aligned>>; 40] = [const { None }; 40];
    say(format_args!("ready {}\n", std::process::id()));
    wait_line();
    keep_some(&mut kept);
    keep_aligned(&mut aligned);
    let grown = grow(100_000);
    let bytes = BLOCKS / 2 * 300 + 40 * 256 + grown.capacity() as u64;
    let number = |name: &str, value: u64| {
        say(format_args!(
            "{{\"truth\":\"number\",\"name\":\"{name}\",\"value\":{value}}}\n"
        ));
    };
    number("live_bytes", bytes);
    number("live_count", BLOCKS / 2 + 40 + 1);
    say(format_args!("done\n"));
    wait_line();
    std::hint::black_box((kept, aligned, grown));
}

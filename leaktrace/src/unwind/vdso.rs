//! The code that the kernel maps into every process, as an object. Taken from this process: it is
//! the same in all 64-bit processes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::target::{FileId, Mappings, Object};

/// The vdso has two or three pages.
const MAX_VDSO_BYTES: u64 = 1 << 20;

/// The vdso as an object with this identity.
///
/// # Errors
///
/// When this process has none, or there is no memory for a copy.
pub(super) fn object(id: FileId) -> io::Result<Object> {
    let mappings = Mappings::parse(&std::fs::read("/proc/self/maps")?);
    let mapping = mappings
        .iter()
        .find(|mapping| mapping.path == Path::new("[vdso]"))
        .ok_or(io::ErrorKind::NotFound)?;
    let length = (mapping.end - mapping.start).min(MAX_VDSO_BYTES);
    let mut memory = File::open("/proc/self/mem")?;
    memory.seek(SeekFrom::Start(mapping.start))?;
    let mut bytes = Vec::new();
    memory.take(length).read_to_end(&mut bytes)?;
    let mut copy = File::from(memfd_create("vdso", MemfdFlags::CLOEXEC)?);
    copy.write_all(&bytes)?;
    Ok(Object::of_file(copy, &mapping.path, id))
}

//! The symbols that a stripped object carries packed in itself (`.gnu_debugdata`, "MiniDebugInfo"),
//! as a file in memory. Trusts no size that the object states.

use std::fs::File;
use std::io::{Read, Write};
use std::panic::catch_unwind;

use rustix::fs::{MemfdFlags, memfd_create};

use super::symbols;

/// The largest known has some 3 MiB (a browser's).
const MAX_PACKED_BYTES: usize = 32 << 20;

/// More is not unpacked: xz can make of each byte seven thousand.
const MAX_UNPACKED_BYTES: u64 = 128 << 20;

/// What is packed in the object; `None` when there is nothing, or it cannot be unpacked.
pub(super) fn unpack(file: &File) -> Option<File> {
    let (_, packed) = symbols::section(file, ".gnu_debugdata").ok()??;
    if packed.len() > MAX_PACKED_BYTES {
        log::info!(
            "packed symbols are left out: they have {} bytes",
            packed.len()
        );
        return None;
    }
    // The owner of the object wrote it; a panic there must not end us.
    match catch_unwind(|| into_memory(&packed)) {
        Ok(Ok(file)) => Some(file),
        Ok(Err(error)) => {
            log::info!("packed symbols are left out: {error}");
            None
        }
        Err(_) => None,
    }
}

fn into_memory(packed: &[u8]) -> std::io::Result<File> {
    let reader = lzma_rust2::XzReader::new(packed, false);
    let mut rest = reader.take(MAX_UNPACKED_BYTES + 1);
    let mut file = File::from(memfd_create("symbols", MemfdFlags::CLOEXEC)?);
    let mut piece = vec![0; 1 << 16];
    let mut written = 0;
    loop {
        let count = rest.read(&mut piece)?;
        if count == 0 {
            return Ok(file);
        }
        written += count as u64;
        if written > MAX_UNPACKED_BYTES {
            return Err(std::io::Error::other("they unpack to too much"));
        }
        file.write_all(&piece[..count])?;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::io::{Seek, SeekFrom};

    use super::*;

    /// `xz` of "leaktrace\n", made by xz 5.4.
    const PACKED: [u8; 68] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21,
        0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x09, 0x6c, 0x65, 0x61,
        0x6b, 0x74, 0x72, 0x61, 0x63, 0x65, 0x0a, 0x00, 0x00, 0x00, 0x27, 0xa4, 0xc5, 0xd0, 0x2b,
        0xb0, 0x4a, 0x20, 0x00, 0x01, 0x22, 0x0a, 0x15, 0x1a, 0xe1, 0x67, 0x1f, 0xb6, 0xf3, 0x7d,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a,
    ];

    fn text(mut file: File) -> String {
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        assert_eq!(text(into_memory(&PACKED).unwrap()), "leaktrace\n");
    }

    #[test]
    fn damaged_bytes_are_no_symbols() {
        assert!(into_memory(b"").is_err());
        for place in 0..PACKED.len() {
            let mut damaged = PACKED;
            damaged[place] ^= 0x5a;
            if let Ok(Ok(file)) = catch_unwind(|| into_memory(&damaged)) {
                assert_eq!(text(file), "leaktrace\n", "byte {place}");
            }
            assert!(into_memory(&PACKED[..place]).is_err());
        }
    }
}

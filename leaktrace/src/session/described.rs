//! Describes a chunk of unwind tables to the kernel (BTF, as small as it can be). Makes no map.
//!
//! The inner maps must be described because the map of maps is: up to 6.1, the kernel takes an inner
//! map for one of another kind (EINVAL) when one of them has a described value and the other none.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use leaktrace_common::unwind::CHUNK_BYTES;

use super::syscall::{bpf_fd, no_attributes};

/// The names: none, and from 1 and 5 on these.
const STRINGS: &[u8] = b"\0int\0chunk\0";

/// Numbers of the types, in the order of [`types`].
const NUMBER: u32 = 1;
const NUMBERS: u32 = 2;
const CHUNK: u32 = 3;

/// The kernel has read a description.
#[derive(Debug)]
pub(super) struct Described(OwnedFd);

impl Described {
    /// Lets the kernel read it.
    ///
    /// # Errors
    ///
    /// The error that the kernel gave.
    pub(super) fn load() -> io::Result<Self> {
        let bytes = btf();
        let mut attributes = no_attributes();
        // SAFETY: writing one variant of a union of integer structs.
        let load = unsafe { &mut attributes.__bindgen_anon_7 };
        load.btf = bytes.as_ptr() as u64;
        load.btf_size = bytes.len() as u32;
        bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attributes).map(Self)
    }

    /// Says in the attributes of a new map that its values are chunks.
    pub(super) fn describe(&self, attributes: &mut bpf_attr) {
        // SAFETY: writing one variant of a union of integer structs.
        let create = unsafe { &mut attributes.__bindgen_anon_1 };
        create.btf_fd = self.0.as_raw_fd().cast_unsigned();
        create.btf_key_type_id = NUMBER;
        create.btf_value_type_id = CHUNK;
    }
}

/// A header, the types, and their names; include/uapi/linux/btf.h says how.
fn btf() -> Vec<u8> {
    const MAGIC: u16 = 0xeb9f;
    const VERSION: u8 = 1;
    const HEADER_BYTES: u32 = 24;
    let types = types();
    let types_bytes = size_of_val(&types) as u32;
    let mut bytes = Vec::new();
    bytes.extend(MAGIC.to_ne_bytes());
    bytes.extend([VERSION, 0]);
    let strings_bytes = STRINGS.len() as u32;
    for part in [HEADER_BYTES, 0, types_bytes, types_bytes, strings_bytes] {
        bytes.extend(part.to_ne_bytes());
    }
    bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
    bytes.extend(STRINGS);
    bytes
}

/// `struct chunk { int _[CHUNK_BYTES / 4]; }`: name, kind, and size of each type, then the rest.
const fn types() -> [u32; 16] {
    const INT: u32 = 1 << 24;
    const ARRAY: u32 = 3 << 24;
    const STRUCT_OF_ONE: u32 = (4 << 24) | 1;
    const BITS: u32 = 32;
    let bytes = CHUNK_BYTES as u32;
    [
        // The number.
        1,
        INT,
        4,
        BITS, //
        // The array: its elements, its index, and how many.
        0,
        ARRAY,
        0,
        NUMBER,
        NUMBER,
        bytes / 4, //
        // The struct: one member, without a name and at the start.
        5,
        STRUCT_OF_ONE,
        bytes,
        0,
        NUMBERS,
        0,
    ]
}

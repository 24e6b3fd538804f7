//! How long a segment of shared memory is that was just attached, from the kernel's own list of mappings.
//! Changes nothing.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_find_vma, bpf_get_current_task_btf, bpf_probe_read_kernel};

use crate::maps::HAS_FIND_VMA;

/// Start and end of a mapping, as they begin `vm_area_struct` (linux/mm_types.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Range {
    start: u64,
    end: u64,
}

/// Bytes of the mapping that begins at an address; 0 when that cannot be told: another thread changes the
/// mappings just now, or the kernel has no bpf_find_vma (Linux 5.17).
#[inline(always)]
pub fn length_at(address: u64) -> u64 {
    if HAS_FIND_VMA.load() == 0 {
        return 0;
    }
    let mut range = Range::default();
    // SAFETY: the callback gets the address of `range`, which outlives the call.
    unsafe {
        bpf_find_vma(
            bpf_get_current_task_btf(),
            address,
            read as *mut c_void,
            (&raw mut range).cast(),
            0,
        );
    }
    if range.start == address && range.end > address {
        range.end - address
    } else {
        0
    }
}

unsafe extern "C" fn read(_task: *mut c_void, mapping: *mut c_void, range: *mut c_void) -> i64 {
    // SAFETY: the kernel checks the address; `length_at` passes a place of this size. A failed read leaves
    // zeros.
    unsafe { bpf_probe_read_kernel(range, size_of::<Range>() as u32, mapping) };
    0
}

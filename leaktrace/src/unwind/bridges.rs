//! Turns the code and the .eh_frame rules of `operator new` and its like into bridges: for each
//! call in them, the way to their caller. Decides nothing about other functions.

use std::collections::BTreeMap;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, LittleEndian, Register, RegisterRule, UnwindContext,
    UnwindSection,
};
use leaktrace_common::arch;
use leaktrace_common::stack::Bridge;

use crate::instructions::{Flow, decode};

/// The operators that the Itanium C++ ABI names: new and new[], plain, nothrow, aligned, both.
/// They call malloc or aligned_alloc, and whoever called them is the one who allocates.
pub const OPERATORS: [&str; 15] = [
    "_Znwm",
    "_Znam",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnamSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    // mimalloc has them under names of its own, which call its malloc.
    "mi_new",
    "mi_new_n",
    "mi_new_nothrow",
    "mi_new_aligned",
    "mi_new_aligned_nothrow",
    "mi_heap_alloc_new",
    "mi_heap_alloc_new_n",
];

/// Bridges of one object by return address (svma).
pub type Bridges = BTreeMap<u64, Bridge>;

/// The bridges over functions, given as (svma, code). `section` is the address and the content of
/// .eh_frame. A call whose rules are not "stack pointer plus a constant" gets none.
pub fn bridges(functions: &[(u64, Vec<u8>)], section: (u64, &[u8])) -> Bridges {
    let wanted: BTreeMap<u64, &[u8]> = functions
        .iter()
        .map(|(svma, code)| (*svma, code.as_slice()))
        .collect();
    let mut found = Bridges::new();
    let frames = EhFrame::new(section.1, LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.0);
    let mut context = UnwindContext::new();
    let mut entries = frames.entries(&bases);
    // A broken section ends the search; what was found before it is right.
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let Ok(fde) = partial.parse(EhFrame::cie_from_offset) else {
            continue;
        };
        let Some(code) = wanted.get(&fde.initial_address()) else {
            continue;
        };
        for address in return_addresses(fde.initial_address(), code) {
            // The rules at the call itself hold: it is the last instruction before the address.
            let row = fde.unwind_info_for_address(&frames, &bases, &mut context, address - 1);
            if let Some(bridge) = row.ok().and_then(bridge) {
                found.insert(address, bridge);
            }
        }
    }
    found
}

fn bridge(row: &gimli::UnwindTableRow<usize>) -> Option<Bridge> {
    let CfaRule::RegisterAndOffset {
        register: Register(arch::STACK_POINTER),
        offset,
    } = *row.cfa()
    else {
        return None;
    };
    let frame_pointer_below_cfa = match row.register(Register(arch::FRAME_POINTER)) {
        Some(RegisterRule::Offset(offset)) => u32::try_from(-offset).ok()?,
        None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => 0,
        Some(_) => return None,
    };
    Some(Bridge {
        cfa_offset: u32::try_from(offset).ok()?,
        frame_pointer_below_cfa,
    })
}

fn return_addresses(svma: u64, code: &[u8]) -> Vec<u64> {
    decode(code, svma)
        .flatten()
        .filter(|instruction| instruction.flow == Flow::Call)
        .map(|instruction| instruction.end)
        .collect()
}

//! What must hold of the committed BPF object.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use object::{Object, ObjectSection, ObjectSymbol};

use super::OBJECT;
use crate::session::attach::{PROGRAMS, program_name};

/// `call bpf_tail_call`: opcode, registers, offset (all 0 but the opcode), number of the helper.
const TAIL_CALL: [u8; 8] = [0x85, 0, 0, 0, 12, 0, 0, 0];

fn code_of(name: &str) -> Vec<u8> {
    let object = object::File::parse(OBJECT).expect("the object is an ELF file");
    let symbol = object.symbol_by_name(name).expect("the program is in it");
    let section = symbol.section_index().expect("it has code");
    let code = object
        .section_by_index(section)
        .and_then(|section| section.data());
    let start = symbol.address() as usize;
    code.expect("its code is there")[start..start + symbol.size() as usize].to_vec()
}

/// Without one, Linux 6.13 and later give a program a stack per CPU, which another program that
/// preempts it overwrites.
#[test]
fn every_probe_program_has_a_tail_call() {
    for program in PROGRAMS.map(program_name) {
        let code = code_of(program);
        let (instructions, rest) = code.as_chunks::<8>();
        assert!(rest.is_empty() && !instructions.is_empty(), "{program}");
        assert!(
            instructions.contains(&TAIL_CALL),
            "{program} has no tail call"
        );
    }
}

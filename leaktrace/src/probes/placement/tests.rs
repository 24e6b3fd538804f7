//! Placement over real function bytes: glibc 2.36-9+deb12u (Debian 12, x86-64), and a CET build.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn placed(hex: &str, arguments: usize) -> (u64, Step) {
    let placement = place(&bytes(hex), 0x9_8930, arguments);
    (placement.offset, placement.step)
}

const MALLOC: &str = "\
    415455534889fb4883ec10803d461b1400000f84f80100004885db0f88fd010000488d431731ed4883f81f76\
    0c4883e0f0488d68ef48c1ed044c8b2508a4130064498b14244885d20f84ba000000483b2d23aa13000f82e5\
    000000803d462c1400000f8520010000488b05d1a3130064488b284885ed0f84c401000031c0ba01000000f0\
    0fb155000f85320200004889de4889efe897e9ffff4885c00f84c001000031d287550083fa010f8f20020000\
    488b50f8f6c202753f83e204488d0d6db21300742a488b0d74a91300488d148d0000000048f7da4885c948c7\
    c1000000fc480f44d1488d48f04821ca488b0a4839e90f859f0100004883c4105b5d415cc30f1f8000000000\
    488b0541a31300648038000f8542ffffffe8c2f7ffff483b2d53a913000f8330ffffff64498b14244885d20f\
    8422ffffff0f1f80000000000fb70c6a6685c90f840effffff488d7d10488b04faa80f0f85930100004889c6\
    83e90148c1ee0c483330488934fa66890c6a48c74008000000004883c4105b5d415cc30f1f4400004889de48\
    8d1d9eb113004889dfe896e8ffff4885c00f8489000000488b50f8f6c2020f8548ffffff83e2040f843fffff\
    ff488b0d80a81300488d148d0000000048f7da4885c948c7c1000000fc480f44d1488d48f04821ca48391a0f\
    840fffffff488d0dd84c1000488d15b9501000bf0100000031c0488d354b401000e89666feff660f1f440000\
    e8abc7ffff4885db0f8903feffff488b058ba2130064c7000c00000031c04883c4105b5d415cc3660f1f8400\
    0000000031f64889dfe826ccffff4889de4889c74889c5e8d8e7ffff4885c0751e4885ed74284889ef4889de\
    e8d3d1ffff4889de4889c74889c5e8b5e7ffff4885ed740a31d287550083fa017f764885c00f851dfeffff31\
    c0eb97488d0d924c1000488d150b501000bf0100000031c0488d359d3f1000e8e865feff0f1f840000000000\
    4889efe8b8d4feffe9c1fdffff0f1f004889ef4889442408e853d5feff488b442408e9c9fdffff660f1f8400\
    00000000488d3da14a1000e824bcffff0f1f40004889ef4889442408e823d5feff488b442408e973ffffff";

const FREE: &str = "\
    4885ff0f84bf00000055488d77f0534883ec18488b1dd69e1300488b47f8648b2ba802755b488b155c9e1300\
    6448833a000f8499000000488d3d32ad1300a8047426488b1537a41300488d04950000000048f7d84885d248\
    c7c2000000fc480f44c24821f0488b3831d2e8c1d1ffff64892b4883c4185b5dc30f1f80000000008b1512a4\
    130085d27526483905cfa31300731d483d0000000277154883e0f8488905baa313004801c0488905a0a31300\
    4889f7e808baffff64892b4883c4185b5dc3660f1f440000c30f1f8000000000488b15b99d130048893c2464\
    803a000f8552ffffff4889742408e831f2ffff488b3c24488b742408488b47f8e936ffffff";

const CALLOC: &str = "\
    41554889f8415455534883ec1848f7e64889c30f90c04885db0f88d90200000fb6c04885c00f85cd02000080\
    3d760d1400000f8448020000488b055996130064488338000f84c6020000803da71e1400000f85e900000048\
    8b0532961300644c8b284d85ed0f844d02000031c0ba01000000f0410fb155000f85b2020000498b6d60488d\
    05f7a413004c8b65084983e4f84939c57431488b05f39b1300488d0c850000000048f7d94885c048c7c00000\
    00fc480f44c84821e9480349184829e94939cc4c0f42e14889de4c89efe8aedbffff4885c00f848f00000048\
    8b50f8f6c2020f85d8000000488d48f0f6c2040f849b010000488b3d949b1300488d34bd0000000048f7de48\
    85ff48c7c7000000fc480f44f74821ce4c3b2e0f856e020000803dd01d1400000f85c40000004d85ed0f859f\
    000000e9b60000000f1f4000488b2d99a413004c8d2d32a413004889de4c89ef4c8b65084983e4f8e81fdbff\
    ff4885c00f8571ffffff803d871d140000753d4d85ed74384c89ef4889dee80dc5ffff4889de4989c54889c7\
    e8efdaffff4d85ed740f31d24187550083fa010f8fb20100004885c0753b660f1f44000031c04883c4185b5d\
    415c415dc30f1f00803d311d1400000f85930000004d85ed0f848a00000031d24187550083fa010f8f5b0100\
    00488b50f8488d48f0f6c202756e8b35c40b14004883e2f885f675114939d44889d6490f46d44839cd480f45\
    d64883ea084883fa170f864f0100004883fa4f0f87b7000000660fefc048c74010000000000f11004883fa27\
    762f0f1140184883fa3776250f1140284883fa47761b0f114038eb150f1f8400000000008b3d560b14004889\
    da85ff75734883c4185b5d415c415dc30f1f840000000000e88bb9ffffe9aefdffff660f1f440000488d35e9\
    a213004939f50f85ef000000803d511c1400000f8545ffffffe924ffffff660f1f44000031f64889df4531e4\
    e8fbbdffff4889c54885c00f84f6fdffff4989c5e9a5fdffff0f1f80000000004883c41831f64889c75b5d41\
    5c415de90cc9f8ff0f1f4000488b050194130064c7000c00000031c0e9a5feffff0f1f00488b058993130064\
    8038000f8529fdffffe80ae8ffffe91ffdffff0f1f4400004c89efe898c6feffe941fdffff0f1f004c89ef48\
    89442408e833c7feff488b442408e98efeffff4c89ef4889442408e81cc7feff488b442408e937feffff488d\
    0dd9e70f00488d15a4401000bf0100000031c0488d3516311000e86157feff488d0dca3f1000488d15834010\
    00bf0100000031c0488d35f5301000e84057feff";

const REALLOC: &str = "\
    4157415641554154554889f5534889fb4883ec28803d3d131400000f84570100004885ed75224885db0f85c1\
    0100004883c4284889ef5b5d415c415d415e415fe9bbf7ffff0f1f004885db74e2488b43f84c8d6bf04531c0\
    4989c74983e7f8a8027543488b15de9b13006448833a000f844b0300004c8d05b4aa1300a8047426488b0db9\
    a11300488d148d0000000048f7da4885c948c7c1000000fc480f44d14c21ea4c8b024c89fa48f7da4c39ea0f\
    825302000041f6c50f0f85490200004885ed0f8898020000488d55174989d64983e6f04883fa1fba20000000\
    4c0f46f2a8020f8518010000803db9231400000f84930000004c89f14c89fa4c89ee4c89c74c890424e806f1\
    ffff4989c44885c00f84e2000000488b40f8a8027543a8044c8b0424488d1505aa1300742b488b150ca11300\
    488d04950000000048f7d84885d248c7c2000000fc480f44c2498d5424f04821d0488b104939d00f851b0300\
    004883c4284c89e05b5d415c415d415e415fc30f1f440000e843c0ffffe99ffeffff660f1f44000031c0ba01\
    000000f0410fb1100f85be0200004c89c74c89f14c89fa4c89ee4c890424e861f0ffff4c8b04244989c431c0\
    41870083f8010f8f7c0200004d85e40f8423020000498b4424f8a802758b488d1553a91300a8040f8473ffff\
    ffe943ffffff660f1f4400004889dfe8c8fbffff4531e4e961ffffff4c8b4bf04c89ef4883e0f84889de488b\
    15539b13004c29cf4e8d2408488b52184889f84c09e04c8d52ff4c21d64c21d0488d4eff4821f14809c80f85\
    a00100004989d34e8d440a074c8954241049f7db4d01f04c890c244d21d84c895c24084d39c40f8491000000\
    b9010000004c89c24c89e631c04c89442418e8210607004889c14883f8ff0f848c000000488b05a59f13004c\
    8b4424184c8b0c244883e8014c39c00f82cf0000004a8d0409488d5810a80f0f85050200004c3b080f85db01\
    00004c89c24d29e04c29ca4883ca02488950084c89c2f0480fc115819f13004c01c2488b057f9f13004839d0\
    730bf0480fb115719f130075e94989dce960feffff0f1f8000000000488d3da1ed0f00e80cb4ffff0f1f4000\
    498d47f84989dc4c39f00f8339feffff4889efe8d0f4ffff4989c44885c00f8425feffff498d57f04889de48\
    89c7e815cef8ff4c89efe82db5ffffe909feffff0f1f840000000000488b054999130064c7000c000000e985\
    feffff0f1f4400004c8b5424104c8b5c24084c89c64889cf4921ca0f85dc000000ba0e00000048894c24104c\
    894424084c890c24e827860600488b4c24104c8b4424084c8b0c24e9edfeffff0f1f4000488b158998130064\
    803a000f85a4fcffffe80aedffff488b43f8e996fcffff90488d3da9441000e834b3ffff0f1f40004889ef4c\
    890424e804f4ffff4989c44885c00f8459fdffff488b53f84889de4c89e74889d04883e2f848d1e84883f001\
    83e001488d54c2f0e833cdf8ff488b3c2431d24c89eee8b5cbffffe921fdffff4c89c7e8e8cbfeff4c8b0424\
    e973fdffff0f1f80000000004c89c74c890424e81ccbfeff4c8b0424e92dfdffff4c89df4b8d34104821cfe9\
    15ffffff488d0d2d441000488d1596451000bf0100000031c0488d35b8351000e8035cfeff488d0d42ec0f00\
    488d1565451000bf0100000031c0488d3597351000e8e25bfeff488d0d06ec0f00488d1544451000bf010000\
    0031c0488d3576351000e8c15bfeff";

const POSIX_MEMALIGN: &str = "\
    803d010214000041544989d4554889fd534889f3745a4889da48c1ea03488d42ff4821d04889da83e2074809\
    d075314885db742c4c89e64889dfe891e9ffff4889c2b80c0000004885d274064889550031c05b5d415cc366\
    0f1f8400000000005bb8160000005d415cc3660f1f440000e8fbafffffeb9f";

const MEMALIGN: &str = "\
    803d710e1400007407e932f6ffff66904883ec18488974240848893c24e8bebcffff488b742408488b3c2448\
    83c418e90cf6ffff";

const VALLOC: &str = "\
    803d310e140000534889fb741b488b05349813004889de5b488b7818e9dff5ffff0f1f8000000000e873bcff\
    ffebde";

const REALLOCARRAY: &str = "\
    4889f048f7e24889c67005e940b8f8ff488b05e985130064c7000c00000031c0c3";

const MMAP: &str = "\
    4189ca41f7c1ff0f00007514b8090000000f05483d00f0ffff7725c30f1f4000488b0519140d0064c7001600\
    000048c7c0ffffffffc3662e0f1f840000000000488b15f9130d00f7d864890248c7c0ffffffffc3";

const MUNMAP: &str = "\
    b80b0000000f05483d01f0ffff7301c3488b0dc9130d00f7d86489014883c8ffc3";

const MREMAP: &str = "\
    4883ec584c8944244064488b042528000000488944241831c083f907775a4189ca4531c0f6c1067527b81900\
    00000f05483d00f0ffff7758488b54241864482b142528000000755d4883c458c30f1f00488d442460c70424\
    200000004c8b4424404889442408488d4424204889442410ebb7660f1f440000488b0591930c0064c7001600\
    000048c7c0ffffffffeba990488b1579930c00f7d864890248c7c0ffffffffeb93e866e70000";

// gcc 12 -O2 -fcf-protection=full: `if (!p) return; …`, `inner_alloc(n + 8)`, and a tail call.
const CET_FREE: &str = "\
    f30f1efa4885ff7417534889fbe800000000488d7b015be9000000000f1f4000c3";

const CET_MALLOC: &str = "\
    f30f1efa534883c708e8000000004889c34885c0740c4889c74883c308e8000000004889d85bc3";

const CET_THUNK: &str = "\
    f30f1efae900000000";

#[test]
fn glibc_functions_are_probed_where_the_kernel_emulates() {
    assert_eq!(placed(MALLOC, 1), (0, Step::Emulated), "push r12");
    assert_eq!(placed(FREE, 1), (3, Step::Emulated), "test; je");
    assert_eq!(placed(CALLOC, 2), (0, Step::Emulated), "push r13");
    assert_eq!(placed(REALLOC, 2), (0, Step::Emulated), "push r15");
    assert_eq!(
        placed(POSIX_MEMALIGN, 3),
        (7, Step::Emulated),
        "cmpb; push r12"
    );
    assert_eq!(placed(MEMALIGN, 2), (7, Step::Emulated), "cmpb; je");
    assert_eq!(placed(VALLOC, 1), (7, Step::Emulated), "cmpb; push rbx");
    assert_eq!(placed(MMAP, 6), (10, Step::Emulated), "mov r10d; test; jne");
}

#[test]
fn a_function_without_a_good_place_is_probed_at_its_entry() {
    assert_eq!(
        placed(REALLOCARRAY, 3),
        (0, Step::SingleStepped),
        "mul clobbers rdx"
    );
    assert_eq!(placed(MUNMAP, 2), (0, Step::SingleStepped), "syscall");
    assert_eq!(placed(MREMAP, 5), (0, Step::SingleStepped), "sub rsp");
}

#[test]
fn endbr64_is_walked_over() {
    assert_eq!(
        placed(CET_FREE, 1),
        (7, Step::Emulated),
        "endbr64; test; je"
    );
    assert_eq!(
        placed(CET_MALLOC, 1),
        (4, Step::Emulated),
        "endbr64; push rbx"
    );
    assert_eq!(
        placed(CET_THUNK, 1),
        (4, Step::Emulated),
        "endbr64; jmp elsewhere"
    );
}

#[test]
fn only_arguments_that_are_read_must_be_kept() {
    // mov rax, rdi; mul rsi; jo +1; ret; ret: a calloc that multiplies first. rdx is clobbered.
    let code = "4889f8 48f7e6 7001 c3 c3";
    assert_eq!(placed(code, 2), (6, Step::Emulated));
    assert_eq!(placed(code, 3), (0, Step::SingleStepped));
}

#[test]
fn part_of_a_kept_register_counts_as_the_register() {
    for code in [
        "31ff 53",   // xor edi, edi
        "40b700 53", // mov dil, 0
        "0f44fe 53", // cmove edi, esi
        "87f8 53",   // xchg eax, edi
        "31db 53",   // xor ebx, ebx: the caller's
        "89fd 53",   // mov ebp, edi
        "f3a4 53",   // rep movsb
    ] {
        assert_eq!(placed(code, 1), (0, Step::SingleStepped), "{code}");
    }
    // xor eax, eax; xor r10d, r10d; mov [rip+0], rdi; push rbx: nothing kept is changed.
    assert_eq!(
        placed("31c0 4531d2 48893d00000000 53", 1),
        (12, Step::Emulated)
    );
}

#[test]
fn the_return_address_must_still_be_at_the_stack_pointer() {
    for code in [
        "4883ec08 53",
        "58 53",
        "c9 53",
        "48c7042400000000 53",
        "ff3500000000 53",
    ] {
        assert_eq!(placed(code, 1).0, 0, "{code}");
    }
}

#[test]
fn no_control_transfer_is_walked_over() {
    for code in [
        "0f05 53",          // syscall
        "ff15 00000000 53", // call [rip]
        "ffe0 53",          // jmp rax
        "c3 53",            // ret
        "cc 53",            // int3
        "0f0b 53",          // ud2
        "e300 53",          // jrcxz: not emulated, and a branch
        "66e9 00000000 53", // jmp with prefix 66: refused by the kernel
    ] {
        assert_eq!(placed(code, 1), (0, Step::SingleStepped), "{code}");
    }
}

#[test]
fn a_place_that_a_loop_comes_back_to_is_not_used() {
    // test rdi, rdi; je +3; …: jmp back to the je, to behind the entry, to the entry.
    assert_eq!(
        placed("4885ff 7403 eb fc 90 c3", 1),
        (0, Step::SingleStepped)
    );
    // nopl; test; je +2; jmp to the test.
    assert_eq!(
        placed("0f1f00 4885ff 7402 ebf9 c3", 1),
        (0, Step::SingleStepped)
    );
    // The same, but to the entry: a new round of the whole function.
    assert_eq!(placed("0f1f00 4885ff 7402 ebf6 c3", 1), (6, Step::Emulated));
    // The same, but to behind the place.
    assert_eq!(placed("0f1f00 4885ff 7402 ebfe c3", 1), (6, Step::Emulated));
}

#[test]
fn branch_back_is_seen_wherever_it_is_in_the_function() {
    let mut code = bytes("4885ff 7401 c3");
    code.resize(400, 0x90);
    let back = 3i32 - (code.len() as i32 + 5);
    code.push(0xe9);
    code.extend(back.to_le_bytes());
    assert_eq!(place(&code, 0x1000, 1).offset, 0);
}

#[test]
fn a_tail_call_or_a_call_as_first_instruction_is_a_fine_place() {
    for code in [
        "e900100000",
        "e800100000 c3",
        "eb7f",
        "90 c3",
        "0f8400000000 c3",
    ] {
        assert_eq!(placed(code, 1), (0, Step::Emulated), "{code}");
    }
}

#[test]
fn broken_code_is_probed_at_its_entry_without_a_panic() {
    assert_eq!(placed("", 1), (0, Step::SingleStepped));
    assert_eq!(placed("06", 1), (0, Step::SingleStepped));
    assert_eq!(placed("48", 1), (0, Step::SingleStepped));
    // Good place, but the rest cannot be decoded: a branch back could hide there.
    assert_eq!(placed("4885ff 7400 06", 1), (0, Step::SingleStepped));
    // Cut off within an instruction.
    assert_eq!(placed(&MALLOC[..20], 1), (0, Step::Emulated));
    assert_eq!(placed(&FREE[..34], 1), (0, Step::SingleStepped));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for length in 0..2000 {
        let noise: Vec<u8> = (0..length % 40)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        let placement = place(&noise, u64::MAX - 5, 6);
        assert!(placement.offset <= length % 40);
    }
}

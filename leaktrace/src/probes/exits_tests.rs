//! Where calls end, on real instructions.

use super::*;

const TEXT: u64 = 0x1000;

/// Code at 0x1000 of functions with these lengths, and one jump slot at 0x3000.
fn links(lengths: &[u64], door: Option<Door>) -> Links {
    let mut start = TEXT;
    let functions = lengths
        .iter()
        .map(|length| {
            let function = (start, start + length);
            start += length;
            function
        })
        .collect();
    Links {
        functions,
        doors: door.map(|door| (0x3000, door)).into_iter().collect(),
        ..Links::default()
    }
}

fn at(code: &[u8]) -> impl FnMut(u64, usize) -> Option<Vec<u8>> + '_ {
    move |svma, length| {
        let rest = code.get((svma - TEXT) as usize..)?;
        Some(rest[..length.min(rest.len())].to_vec())
    }
}

fn ends(code: &[u8], links: &Links, probed: &[u64]) -> (Result<bool, Refusal>, Exits) {
    let probed = probed.iter().copied().collect();
    let around = Surroundings {
        links,
        probed: &probed,
        is_probed: &|name| name == "malloc",
    };
    let covered = is_covered(TEXT, &around, &mut at(code));
    let exits = exits(TEXT, &around, &mut at(code));
    (covered, exits.unwrap_or_default())
}

#[test]
fn every_ret_is_an_end_and_so_is_that_of_code_that_is_jumped_to() {
    // test rdi, rdi; je +1; ret; jmp 0x100a. mov eax, 1; ret.
    let code = [
        0x48, 0x85, 0xff, 0x74, 0x01, 0xc3, 0xeb, 0x02, 0xcc, 0xcc, 0xb8, 1, 0, 0, 0, 0xc3,
    ];
    let (covered, exits) = ends(&code, &links(&[10, 6], None), &[]);
    assert_eq!(covered, Ok(false));
    assert_eq!(exits.returns, [0x1005, 0x100f]);
    assert!(exits.escapes.is_empty());
}

#[test]
fn what_only_calls_a_probed_function_is_covered_by_it() {
    // call 0x1008; nop; nop; ret. ret.
    let code = [0xe8, 3, 0, 0, 0, 0x90, 0x90, 0xc3, 0xc3];
    let links = links(&[8, 1], None);
    let (covered, exits) = ends(&code, &links, &[0x1008]);
    assert_eq!(covered, Ok(true));
    assert_eq!(exits.returns, [0x1007]);
    assert_eq!(ends(&code, &links, &[]).0, Ok(false));
}

#[test]
fn a_stub_leads_to_the_function_behind_it() {
    // jmp 0x1005. jmp [rip+0x1ff5] = [0x3000]. ret.
    let code = [0xe9, 0, 0, 0, 0, 0xff, 0x25, 0xf5, 0x1f, 0, 0, 0xc3];
    let lengths = [5, 6, 1];
    let inside = Door::Inside {
        svma: 0x100b,
        name: None,
    };
    let (covered, exits) = ends(&code, &links(&lengths, Some(inside)), &[]);
    assert_eq!((covered, exits.returns), (Ok(false), vec![0x100b]));
    let malloc = Door::Outside("malloc".to_owned());
    assert_eq!(ends(&code, &links(&lengths, Some(malloc)), &[]).0, Ok(true));
    let unknown = Door::Outside("handler".to_owned());
    let (covered, exits) = ends(&code, &links(&lengths, Some(unknown)), &[]);
    assert_eq!((covered, exits.escapes), (Ok(false), vec![0x1000]));
}

#[test]
fn a_jump_through_a_register_is_an_escape() {
    // jmp rax
    let (covered, exits) = ends(&[0xff, 0xe0], &links(&[2], None), &[]);
    assert_eq!((covered, exits.escapes), (Ok(false), vec![0x1000]));
}

#[test]
fn nothing_is_decoded_behind_the_end_of_a_function() {
    // call 0x1005, which never returns, then data that looks like code. ret.
    let code = [0xe8, 1, 0, 0, 0, 0xc3, 0xc3];
    let (_, exits) = ends(&code, &links(&[5], None), &[]);
    assert_eq!(exits, Exits::default());
}

#[test]
fn code_without_known_bounds_is_refused() {
    let (covered, _) = ends(&[0xc3], &links(&[], None), &[]);
    assert_eq!(covered, Err(Refusal::Undecodable));
}

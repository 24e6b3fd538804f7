//! Call stacks and their names, against the stacks that the programs know of themselves.

use leaktrace_tests::{
    Frame, Held, Program, Report, Site, Traced, assert_nothing_lost, assert_sites_are_true, trace,
    trace_with,
};

fn names<'a>(site: &Site<'a>) -> Vec<&'a str> {
    let frames = site.frames();
    frames
        .iter()
        .map(|frame| frame.function().unwrap_or("?"))
        .collect()
}

fn site_of<'a>(report: &'a Report, caller: &str) -> Site<'a> {
    let mut sites = report
        .sites("heap")
        .filter(|site| site.is_called_by(caller));
    let Some(site) = sites.next() else {
        panic!("{caller} has no site in {}", report.0);
    };
    assert!(
        sites.next().is_none(),
        "{caller} has two sites in {}",
        report.0
    );
    site
}

#[test]
fn frames_are_those_that_the_program_finds_in_itself() {
    let traced = trace(&Program::c("chain.c"), &[]);
    for (functions, addresses) in traced.truth.stacks() {
        let site = site_of(&traced.report, &functions[0]);
        let frames = site.frames();
        let named: Vec<_> = names(&site).into_iter().take(functions.len()).collect();
        assert_eq!(named, functions);
        // The innermost address differs: one call is malloc's, the other backtrace's.
        let seen: Vec<_> = frames.iter().map(Frame::address).collect();
        assert_eq!(seen[1..functions.len()], addresses[1..functions.len()]);
    }
    assert_nothing_lost(&traced.report);
}

#[test]
fn frames_behind_the_programs_own_lead_to_the_c_library_only() {
    let traced = trace(&Program::c("chain.c"), &[]);
    for (functions, addresses) in traced.truth.stacks() {
        let site = site_of(&traced.report, &functions[0]);
        for frame in site.frames().iter().skip(functions.len()) {
            assert!(addresses.contains(&frame.address()), "made up: {}", frame.0);
        }
    }
}

#[test]
fn stripped_code_reads_as_module_and_offset() {
    let traced = trace(&Program::c("chain.c").with(&["-s"]), &[]);
    let load_address = traced.truth.number("load_address");
    for (functions, addresses) in traced.truth.stacks() {
        let wanted = &addresses[1..functions.len()];
        let site = traced.report.sites("heap").find(|site| {
            let seen: Vec<_> = site.frames().iter().map(Frame::address).collect();
            seen.len() >= functions.len() && &seen[1..functions.len()] == wanted
        });
        let site = site.unwrap_or_else(|| panic!("no stack {wanted:x?} in {}", traced.report.0));
        for frame in site.frames().iter().take(functions.len()) {
            assert_eq!(frame.function(), None);
            assert!(
                frame
                    .module()
                    .is_some_and(|module| module.contains("/chain-"))
            );
            assert_eq!(frame.offset(), Some(frame.address() - load_address));
        }
    }
}

#[test]
fn direct_callers_are_seen_without_frame_pointers() {
    let program = Program::c("direct_callers.c").with(&["-O2", "-fomit-frame-pointer"]);
    let traced = trace(&program, &[]);
    assert_sites_are_true(&traced.report, &traced.truth);
    assert_nothing_lost(&traced.report);
}

#[test]
fn inlined_functions_are_frames_with_their_own_lines() {
    let traced = trace(&Program::c("inlined.c").with(&["-O2"]), &[]);
    let site = site_of(&traced.report, "innermost");
    let chain = ["innermost", "middle", "outer", "main"];
    assert_eq!(names(&site)[..chain.len()], chain);
    let frames = site.frames();
    for (frame, function) in frames.iter().zip(&chain[..3]) {
        assert_eq!(
            frame.line(),
            Some(traced.truth.number(function)),
            "{function}"
        );
        assert_eq!(frame.file_name(), Some("inlined.c"));
        assert_eq!(frame.is_inlined(), *function != "outer", "{function}");
    }
    assert_eq!(frames[0].address(), frames[2].address());
}

#[test]
fn new_is_no_frame_and_its_caller_has_a_readable_name() {
    let traced = trace(&Program::cpp("names.cc"), &[]);
    assert_sites_are_true(&traced.report, &traced.truth);
    for (caller, _) in traced.truth.sites() {
        let site = site_of(&traced.report, &caller);
        let names = names(&site);
        assert!(
            names[0].starts_with("shop::Cart<shop::Apple>::add"),
            "{names:?}"
        );
        assert!(names[1].starts_with("fill"), "{names:?}");
        assert!(names[2].starts_with("main"), "{names:?}");
    }
}

#[test]
fn frame_pointers_alone_do_for_code_that_keeps_them() {
    let options = ["--stacks", "frame-pointer"];
    let traced = trace_with(&Program::c("chain.c"), &[], &options);
    assert_eq!(traced.session.start["stacks"], "frame-pointer");
    for (functions, addresses) in traced.truth.stacks() {
        let site = site_of(&traced.report, &functions[0]);
        let seen: Vec<_> = site.frames().iter().map(Frame::address).collect();
        assert_eq!(seen[1..functions.len()], addresses[1..functions.len()]);
    }
    let traced = trace_with(&Program::cpp("names.cc"), &[], &options);
    assert_sites_are_true(&traced.report, &traced.truth);
}

#[test]
fn a_kernel_without_bpf_loop_gets_stacks_by_frame_pointers_and_says_so() {
    let mut target = leaktrace_tests::Target::start(&Program::c("chain.c"), &[]);
    let mut command = leaktrace_tests::leaktrace();
    command.env("LEAKTRACE_KERNEL_LACKS", "bpf_loop").args([
        "--format",
        "json",
        "--top",
        "0",
        "--pid",
        &target.pid().to_string(),
    ]);
    let tracer = leaktrace_tests::Tracer::start(&mut command);
    let truth = target.work();
    let session = tracer.stop();
    target.end();
    assert_eq!(session.start["stacks"], "frame-pointer");
    assert!(
        session.errors.contains("lacks bpf_loop"),
        "{}",
        session.errors
    );
    let report = session.final_report();
    for (functions, addresses) in truth.stacks() {
        let site = site_of(report, &functions[0]);
        let seen: Vec<_> = site.frames().iter().map(Frame::address).collect();
        assert_eq!(seen[1..functions.len()], addresses[1..functions.len()]);
    }
    let refused = leaktrace_tests::run_to_end(command.args(["--stacks", "eh-frame"]));
    leaktrace_tests::assert_refused(&refused, &["lacks bpf_loop", "5.17"]);
}

#[test]
fn functions_of_rust_have_readable_names() {
    let traced = trace(&Program::rust("depot.rs"), &[]);
    assert_eq!(
        traced.report.total("live_bytes"),
        traced.truth.number("live_bytes")
    );
    let site = traced.report.sites("heap").next().map(|site| names(&site));
    let Some(names) = site else {
        panic!("there is no site");
    };
    assert!(
        names.iter().any(|name| name.contains("depot::store")),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.contains("17h")), "{names:?}");
}

/// Frames of a stack that leaktrace keeps.
const MOST_FRAMES: usize = 510;

/// Of these, the ones that every stack has room for.
const FRAMES_OF_ANY: usize = 126;

/// Asserts that each stack of the program has a site with the same frames, or with the first ones of
/// them where there are more than are kept; how many are whole.
#[track_caller]
fn assert_deep_stacks_are_true(traced: &Traced) -> usize {
    assert_sites_are_true(&traced.report, &traced.truth);
    let (mut whole, mut cut_count) = (0, 0);
    for (_, addresses) in traced.truth.stacks() {
        let depth = addresses.len();
        let sites = traced.report.sites("heap").filter(|site| {
            let seen: Vec<_> = site.frames().iter().map(Frame::address).collect();
            let kept = match site.0["complete"].as_bool() {
                Some(true) => depth,
                _ => seen.len().min(depth - 1),
            };
            seen[1..] == addresses[1..kept]
        });
        // A stack that was cut has the first frames of every deeper one.
        let site = sites.max_by_key(|site| site.0["complete"] == true);
        let site = site.unwrap_or_else(|| panic!("no stack of {depth} in {}", traced.report.0));
        if site.0["complete"] == true {
            whole += 1;
        } else {
            assert!([FRAMES_OF_ANY, MOST_FRAMES].contains(&site.frames().len()));
            assert!(site.0["truncated"].is_string());
            cut_count += 5;
        }
    }
    let truncated = &traced.report.0["truncated_stacks"];
    assert_eq!(truncated["too_deep"], cut_count, "{truncated}");
    assert_eq!(traced.report.loss("stack_truncated"), cut_count);
    whole
}

#[test]
fn deep_stacks_are_whole_with_and_without_frame_pointers() {
    let depths = ["100", "125", "126", "127", "128", "300", "505", "510"];
    let program = Program::c("deep.c");
    for program in [program.clone(), program.with(&["-fomit-frame-pointer"])] {
        let traced = trace(&program, &depths);
        assert_eq!(assert_deep_stacks_are_true(&traced), depths.len());
        assert_nothing_lost(&traced.report);
    }
}

#[test]
fn a_stack_that_is_too_deep_says_so_and_keeps_its_inner_part() {
    let traced = trace(&Program::c("deep.c"), &["511", "900"]);
    assert_eq!(assert_deep_stacks_are_true(&traced), 0);
    for site in traced.report.sites("heap") {
        assert_eq!(names(&site)[1..500], ["dig"; 499]);
    }
}

#[test]
fn deep_stacks_beyond_the_room_for_them_are_cut_and_say_so() {
    let depths: Vec<String> = (130..230).map(|depth| depth.to_string()).collect();
    let depths: Vec<&str> = depths.iter().map(String::as_str).collect();
    let options = ["--max-stacks", "300"];
    let traced = trace_with(&Program::c("deep.c"), &depths, &options);
    assert_eq!(assert_deep_stacks_are_true(&traced), 64);
}

#[test]
fn frame_pointers_are_followed_as_deep() {
    let traced = trace_with(
        &Program::c("deep.c"),
        &["300", "500"],
        &["--stacks", "frame-pointer"],
    );
    assert_sites_are_true(&traced.report, &traced.truth);
    for (_, addresses) in traced.truth.stacks() {
        // The C library below the program's own frames keeps no frame pointers.
        let own = addresses.len() - 4;
        let found = traced.report.sites("heap").any(|site| {
            let seen: Vec<_> = site.frames().iter().map(Frame::address).collect();
            seen.len() >= own && seen[1..own] == addresses[1..own]
        });
        assert!(found, "no stack of {own} in {}", traced.report.0);
    }
}

#[test]
fn ten_thousand_stacks_are_told_apart() {
    let traced = trace(&Program::c("many_sites.c"), &["10000", "2", "still"]);
    let stacks = traced.truth.number("sites");
    assert_eq!(traced.report.sites("heap").count() as u64, stacks);
    for site in traced.report.sites("heap") {
        assert_eq!(
            site.held(),
            Held {
                bytes: 48,
                count: 2
            }
        );
    }
    assert_sites_are_true(&traced.report, &traced.truth);
}

#[test]
fn a_site_keeps_its_id_from_report_to_report() {
    let traced = trace(&Program::c("chain.c"), &[]);
    let ids: Vec<_> = traced
        .report
        .sites("heap")
        .map(|site| site.0["id"].clone())
        .collect();
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
}

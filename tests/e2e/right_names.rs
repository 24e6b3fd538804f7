//! Code that looks like other code: what the linker has dropped, what a signal has interrupted, and what
//! has come to the place of something else without the dynamic linker. It gets its own name or none.

use leaktrace_tests::{Held, Program, Target, Tracer};

#[test]
fn functions_that_the_linker_has_dropped_lend_their_name_to_nobody() {
    let program = Program::c("dropped.c").with(&["-ffunction-sections", "-Wl,--gc-sections"]);
    let mut target = Target::start(&program, &[]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    let report = session.final_report();
    for (site, held) in truth.sites() {
        assert_eq!(report.held_by("heap", &site), held, "{}", report.0);
    }
    let frames = report.sites("heap").flat_map(|site| site.frames());
    let names: Vec<_> = frames.filter_map(|frame| frame.function()).collect();
    assert!(!names.contains(&"dropped_by_the_linker"), "{names:?}");
}

#[test]
fn an_interrupted_function_is_named_by_the_instruction_that_was_to_come() {
    let mut target = Target::start(&Program::c("interrupted.c"), &[]);
    let tracer = Tracer::attach(target.pid(), &[]);
    let truth = target.work();
    let session = tracer.stop();
    let report = session.final_report();
    let site = report
        .sites("heap")
        .find(|site| site.is_called_by("on_signal"))
        .unwrap_or_else(|| panic!("{}", report.0));
    let at = truth.number("interrupted_at");
    let frames = site.frames();
    let interrupted = frames.iter().find(|frame| frame.address() == at);
    let named = interrupted.map(|frame| (frame.function(), frame.offset()));
    assert_eq!(named, Some((Some("is_interrupted"), Some(0))));
    let names: Vec<_> = frames.iter().filter_map(|frame| frame.function()).collect();
    assert!(names.contains(&"main") && !names.contains(&"stands_before"));
    for (site, held) in truth.sites() {
        assert_eq!(report.held_by("heap", &site), held, "{}", report.0);
    }
}

#[test]
fn code_that_a_program_puts_in_the_place_of_other_code_has_its_own_name_and_stack() {
    let mut target = Target::start(&Program::c("own_loader.c"), &[]);
    let mut tracer = Tracer::attach(target.pid(), &["--interval", "200ms", "--top", "0"]);
    let mut truth = target.work();
    for step in ["put other code there", "allocate in it"] {
        // What was mapped before a report was begun is known in it.
        for _ in 0..2 {
            tracer.next_report();
        }
        truth = target.answer(step);
    }
    let session = tracer.stop();
    let report = session.final_report();
    assert_eq!(truth.sites().len(), 2);
    for (name, held) in truth.sites() {
        assert_eq!(report.held_by("heap", &name), held, "{}", report.0);
        let mut of_site = report.sites("heap").filter(|site| site.is_called_by(&name));
        assert!(
            of_site.all(|site| {
                let frames = site.frames();
                frames.get(1).and_then(|frame| frame.function()) == Some("main")
            }),
            "{}",
            report.0
        );
    }
    assert_eq!(report.loss("stack_truncated"), 0);
    assert_eq!(report.held_by("heap", "load"), Held::default());
}

#[test]
fn code_that_a_child_puts_in_the_place_of_its_parents_has_its_own_name_and_stack() {
    let mut target = Target::start(&Program::c("own_loader.c"), &["in a child"]);
    let options = ["--follow-forks", "--interval", "200ms", "--top", "0"];
    let mut tracer = Tracer::attach(target.pid(), &options);
    let mut truth = target.work();
    for step in ["put other code there", "allocate in it"] {
        // Of parent and child in turn; what was mapped before a report was begun is known in it.
        for _ in 0..5 {
            tracer.next_report();
        }
        truth = target.answer(step);
    }
    let session = tracer.stop();
    let mut last = session.reports.iter().rev();
    let site = last.find_map(|report| {
        let mut sites = report.sites("heap");
        sites.find(|site| site.is_called_by("other_at_the_place"))
    });
    let Some(site) = site else {
        panic!("no site in the child's code");
    };
    let of_child = truth.sites().into_iter().nth(1).map(|(_, held)| held);
    assert_eq!(Some(site.held()), of_child);
    let frames = site.frames();
    let caller = frames.get(1).and_then(|frame| frame.function());
    assert_eq!(caller, Some("main"), "{frames:?}");
}

//! The files that leaktrace writes: folded stacks and the flame graph.

use leaktrace_tests::{Program, Target, Tracer, read, scratch, trace_with};

#[test]
fn folded_lines_add_up_to_the_live_bytes() {
    let directory = scratch();
    let path = directory.path().join("out.folded");
    let options = ["--no-mmap", "--folded", &path.to_string_lossy()];
    let traced = trace_with(&Program::c("each_function.c"), &["leak"], &options);
    let text = read(&path);
    let mut sum = 0;
    for line in text.lines() {
        let Some((stack, bytes)) = line.rsplit_once(' ') else {
            panic!("no weight in {line:?}");
        };
        assert!(!stack.is_empty());
        sum += bytes.parse::<u64>().unwrap_or_default();
    }
    assert_eq!(sum, traced.truth.number("live_bytes"), "{text}");
    for (caller, held) in traced
        .truth
        .sites()
        .iter()
        .filter(|(caller, _)| caller != "strdup")
    {
        let inside = |line: &&str| line.split([';', ' ']).any(|name| name == caller);
        let lines: Vec<_> = text.lines().filter(inside).collect();
        assert_eq!(lines.len(), 1, "{caller} in {text}");
        assert!(
            lines[0].ends_with(&format!(" {}", held.bytes)),
            "{}",
            lines[0]
        );
    }
}

#[test]
fn folded_stacks_run_from_the_outermost_frame_inwards() {
    let directory = scratch();
    let path = directory.path().join("out.folded");
    let options = ["--folded", &path.to_string_lossy()];
    let traced = trace_with(&Program::c("chain.c"), &[], &options);
    let text = read(&path);
    for (mut functions, _) in traced.truth.stacks() {
        functions.reverse();
        assert!(
            text.contains(&functions.join(";")),
            "{functions:?} in {text}"
        );
    }
}

#[test]
fn a_flame_graph_is_well_formed_and_names_the_leaks() {
    let directory = scratch();
    let path = directory.path().join("out.svg");
    let options = ["--flamegraph", &path.to_string_lossy()];
    let traced = trace_with(&Program::cpp("names.cc"), &[], &options);
    let text = read(&path);
    let parsing = roxmltree::ParsingOptions {
        allow_dtd: true,
        ..roxmltree::ParsingOptions::default()
    };
    let document = match roxmltree::Document::parse_with_options(&text, parsing) {
        Ok(document) => document,
        Err(error) => panic!("the flame graph is ill-formed: {error}"),
    };
    assert_eq!(document.root_element().tag_name().name(), "svg");
    let words: String = document
        .descendants()
        .filter_map(|node| node.text())
        .collect();
    for name in ["shop::Cart<shop::Apple>::add", "fill", "main"] {
        assert!(words.contains(name), "{name} is missing");
    }
    assert!(traced.report.total("live_bytes") > 0);
}

#[test]
fn files_are_replaced_atomically_at_every_report() {
    let directory = scratch();
    let path = directory.path().join("out.folded");
    let mut target = Target::start(&Program::c("each_function.c"), &["leak"]);
    let options = ["--interval", "200ms", "--folded", &path.to_string_lossy()];
    let mut tracer = Tracer::attach(target.pid(), &options);
    let truth = target.work();
    tracer.report_of(&truth);
    // The files of a report are written before the next one is.
    tracer.next_report();
    let during = read(&path);
    tracer.stop();
    assert_eq!(
        during,
        read(&path),
        "the file is whole while leaktrace runs"
    );
    let Ok(files) = std::fs::read_dir(directory.path()) else {
        panic!("cannot list the directory");
    };
    assert_eq!(files.count(), 1, "nothing is left behind");
}

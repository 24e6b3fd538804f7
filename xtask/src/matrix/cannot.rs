//! Which tests mean nothing in which environment, and why. Pure.

/// A test that is left out.
pub(super) struct Cannot {
    /// Where.
    pub(super) environments: &'static [&'static str],
    /// Its suite.
    pub(super) suite: &'static str,
    /// Its name.
    pub(super) test: &'static str,
    /// Why.
    pub(super) reason: &'static str,
}

const PRELOADED: &[&str] = &["jemalloc", "tcmalloc", "mimalloc"];
const ROOT: &[&str] = &["glibc-2.41"];
const MUSL: &[&str] = &["musl"];

const STATIC: &str = "a static program loads no library";
const NO_CPP: &str = "there is no library of C++ for musl";
const NO_CONTEXTS: &str = "musl has no makecontext";
const NO_BREAK: &str = "musl's brk and sbrk refuse; the test by system calls stands for it";
const OWN_PRELOAD: &str = "it preloads an allocator of its own";
const OF_THIS_MACHINE: &str = "it runs a program of this machine";
const NO_BACKTRACE: &str = "musl has no backtrace, by which the program knows its stacks";

/// Every test that is left out somewhere; the table names each, with the reason.
pub(super) const ALL: &[Cannot] = &[
    cannot(
        &["jemalloc", "tcmalloc", "mimalloc", "musl"],
        "exact",
        "the_programs_run_with_the_c_library_that_is_meant",
        "it compares versions of glibc; the harness looks for the library in every target",
    ),
    cannot(
        MUSL,
        "exact",
        "thirty_threads_of_new_and_delete_leave_nothing_live",
        NO_CPP,
    ),
    cannot(
        MUSL,
        "repeated",
        "thirty_threads_of_new_and_delete_are_exact_20_times",
        NO_CPP,
    ),
    cannot(
        MUSL,
        "losses",
        "a_full_map_of_blocks_does_not_let_totals_drift",
        NO_CPP,
    ),
    cannot(
        PRELOADED,
        "mappings",
        "a_program_without_symbols_is_counted_by_its_system_calls",
        STATIC,
    ),
    cannot(
        PRELOADED,
        "mappings",
        "system_calls_of_a_static_program_are_mappings",
        STATIC,
    ),
    cannot(
        PRELOADED,
        "mappings",
        "shared_segments_are_mappings_of_a_static_program_too",
        STATIC,
    ),
    cannot(
        PRELOADED,
        "mappings",
        "what_the_runtime_of_go_maps_is_counted",
        STATIC,
    ),
    cannot(
        &["jemalloc", "tcmalloc", "mimalloc", "musl"],
        "mappings",
        "an_arena_that_is_made_inside_free_is_no_mapping_of_the_program",
        "it is about arenas of glibc",
    ),
    cannot(
        MUSL,
        "mappings",
        "the_data_segment_is_a_mapping_when_the_program_moves_its_end",
        NO_BREAK,
    ),
    cannot(
        MUSL,
        "mappings",
        "addresses_that_are_not_random_change_nothing",
        NO_BREAK,
    ),
    cannot(
        MUSL,
        "survival",
        "exceptions_and_failed_new_are_caught_as_ever",
        NO_CPP,
    ),
    cannot(
        MUSL,
        "survival",
        "coroutines_of_cpp_are_resumed_by_any_thread",
        NO_CPP,
    ),
    cannot(
        MUSL,
        "survival",
        "contexts_switch_between_stacks_and_threads",
        NO_CONTEXTS,
    ),
    cannot(
        MUSL,
        "survival",
        "a_call_that_is_left_for_another_stack_and_comes_back_is_counted",
        NO_CONTEXTS,
    ),
    cannot(
        MUSL,
        "survival",
        "go_calls_c_and_back",
        "cgo is compiled against this machine's C library",
    ),
    cannot(
        PRELOADED,
        "left_calls",
        "threads_that_are_cancelled_inside_malloc_and_realloc_lose_nothing_but_these_calls",
        OWN_PRELOAD,
    ),
    cannot(
        PRELOADED,
        "left_calls",
        "threads_that_are_cancelled_inside_a_pair_lose_nothing_but_these_calls",
        OWN_PRELOAD,
    ),
    cannot(
        MUSL,
        "pairs",
        "handles_and_memory_of_a_library_are_counted",
        "there is no sqlite for musl",
    ),
    cannot(
        PRELOADED,
        "commands",
        "signals_go_to_the_command_and_its_end_ends_the_session",
        OF_THIS_MACHINE,
    ),
    cannot(
        MUSL,
        "commands",
        "signals_go_to_the_command_and_its_end_ends_the_session",
        OF_THIS_MACHINE,
    ),
    cannot(
        ROOT,
        "commands",
        "signals_go_to_the_command_and_its_end_ends_the_session",
        OF_THIS_MACHINE,
    ),
    cannot(
        MUSL,
        "attach",
        "a_library_whose_file_was_replaced_is_still_the_one_that_is_traced",
        "musl's loader is its C library, whose path is in the program",
    ),
    cannot(
        MUSL,
        "stacks",
        "frames_are_those_that_the_program_finds_in_itself",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "frames_behind_the_programs_own_lead_to_the_c_library_only",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "stripped_code_reads_as_module_and_offset",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "frame_pointers_alone_do_for_code_that_keeps_them",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "a_kernel_without_bpf_loop_gets_stacks_by_frame_pointers_and_says_so",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "deep_stacks_are_whole_with_and_without_frame_pointers",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "a_stack_that_is_too_deep_says_so_and_keeps_its_inner_part",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "deep_stacks_beyond_the_room_for_them_are_cut_and_say_so",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "frame_pointers_are_followed_as_deep",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "a_site_keeps_its_id_from_report_to_report",
        NO_BACKTRACE,
    ),
    cannot(
        MUSL,
        "stacks",
        "new_is_no_frame_and_its_caller_has_a_readable_name",
        NO_CPP,
    ),
    cannot(
        MUSL,
        "stacks",
        "functions_of_rust_have_readable_names",
        "Rust is compiled against this machine's C library",
    ),
];

const fn cannot(
    environments: &'static [&'static str],
    suite: &'static str,
    test: &'static str,
    reason: &'static str,
) -> Cannot {
    Cannot {
        environments,
        suite,
        test,
        reason,
    }
}

/// What is left out of a suite in an environment.
pub(super) fn of<'a>(
    environment: &'a str,
    suite: &'a str,
) -> impl Iterator<Item = &'static Cannot> {
    let here =
        move |cannot: &&Cannot| cannot.suite == suite && cannot.environments.contains(&environment);
    ALL.iter().filter(here)
}

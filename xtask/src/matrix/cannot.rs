//! Which tests mean nothing in which environment, and why. Pure.

/// Tests that are left out.
pub(super) struct Cannot {
    /// Where.
    pub(super) environments: &'static [&'static str],
    /// Their suite.
    pub(super) suite: &'static str,
    /// Their names.
    pub(super) tests: &'static [&'static str],
    /// Why.
    pub(super) reason: &'static str,
}

const PRELOADED: &[&str] = &["jemalloc", "tcmalloc", "mimalloc"];
/// Those that bring the library of C++ along.
const WITH_CPP: &[&str] = &["jemalloc", "tcmalloc"];
const NOT_GLIBC: &[&str] = &["jemalloc", "tcmalloc", "mimalloc", "musl"];
const ROOT: &[&str] = &["glibc-2.41"];
const MUSL: &[&str] = &["musl"];

const STATIC: &str = "a static program loads no library";
const FUNCTIONS_OF_ITS_OWN: &str = "the program puts functions of its own in front of those of glibc, to count what others allocate";
const CALLS_ITSELF: &str =
    "its functions call each other, and without a place each of these calls is said to be lost";
const NO_CPP: &str = "there is no library of C++ for musl";
const NO_CONTEXTS: &str = "musl has no makecontext";
const NO_BREAK: &str = "musl's brk and sbrk refuse; the test by system calls stands for it";
const OWN_PRELOAD: &str = "it preloads an allocator of its own";
const OWN_ROOT: &str = "it runs a copy of the program with files of this machine";
const OF_THIS_MACHINE: &str = "it runs a program of this machine";
const NO_RULES: &str = "musl's return from signal handlers has no .eh_frame, so that the walk cannot tell whose call it is";
const NO_BACKTRACE: &str = "musl has no backtrace, by which the program knows its stacks";

/// Every test that is left out somewhere; the table names each, with the reason.
pub(super) const ALL: &[Cannot] = &[
    cannot(
        NOT_GLIBC,
        "exact",
        "it compares versions of glibc; the harness looks for the library in every target",
        &["the_programs_run_with_the_c_library_that_is_meant"],
    ),
    cannot(
        MUSL,
        "exact",
        NO_CPP,
        &["thirty_threads_of_new_and_delete_leave_nothing_live"],
    ),
    cannot(
        MUSL,
        "failure_semantics",
        NO_RULES,
        &["what_a_handler_maps_that_interrupts_mmap_is_counted"],
    ),
    cannot(
        MUSL,
        "repeated",
        NO_CPP,
        &["thirty_threads_of_new_and_delete_are_exact_20_times"],
    ),
    cannot(
        MUSL,
        "losses",
        NO_CPP,
        &["a_full_map_of_blocks_does_not_let_totals_drift"],
    ),
    cannot(
        PRELOADED,
        "mappings",
        STATIC,
        &[
            "a_program_without_symbols_is_counted_by_its_system_calls",
            "system_calls_of_a_static_program_are_mappings",
            "shared_segments_are_mappings_of_a_static_program_too",
            "what_the_runtime_of_go_maps_is_counted",
        ],
    ),
    cannot(
        NOT_GLIBC,
        "mappings",
        "it is about arenas of glibc",
        &["an_arena_that_is_made_inside_free_is_no_mapping_of_the_program"],
    ),
    cannot(
        MUSL,
        "mappings",
        NO_BREAK,
        &[
            "the_data_segment_is_a_mapping_when_the_program_moves_its_end",
            "addresses_that_are_not_random_change_nothing",
        ],
    ),
    cannot(
        MUSL,
        "survival",
        NO_CPP,
        &[
            "exceptions_and_failed_new_are_caught_as_ever",
            "coroutines_of_cpp_are_resumed_by_any_thread",
        ],
    ),
    cannot(
        MUSL,
        "survival",
        "musl's malloc asks the kernel for more, and the program is killed alone as well",
        &["a_program_in_strict_seccomp_mode_makes_no_forbidden_call"],
    ),
    cannot(
        MUSL,
        "survival",
        NO_CONTEXTS,
        &[
            "contexts_switch_between_stacks_and_threads",
            "a_call_that_is_left_for_another_stack_and_comes_back_is_counted",
        ],
    ),
    cannot(
        MUSL,
        "survival",
        "cgo is compiled against this machine's C library",
        &["go_calls_c_and_back"],
    ),
    cannot(
        PRELOADED,
        "left_calls",
        OWN_PRELOAD,
        &[
            "threads_that_are_cancelled_inside_malloc_and_realloc_lose_nothing_but_these_calls",
            "threads_that_are_cancelled_inside_a_pair_lose_nothing_but_these_calls",
        ],
    ),
    cannot(
        MUSL,
        "pairs",
        "there is no sqlite for musl",
        &["handles_and_memory_of_a_library_are_counted"],
    ),
    cannot(
        WITH_CPP,
        "many_children",
        "it counts all that programs hold that end before their code is looked at, and the library of C++ holds a \
         block that nothing tells from theirs",
        &[
            "a_process_may_run_more_programs_than_the_table_has_room_for",
            "a_shell_may_run_more_short_programs_than_the_table_has_room_for",
            "of_a_storm_of_short_children_each_is_reported_or_said_to_be_lost",
        ],
    ),
    cannot(
        PRELOADED,
        "commands",
        OF_THIS_MACHINE,
        &[
            "few_open_files_are_the_commands_limit_and_not_leaktraces",
            "signals_go_to_the_command_and_its_end_ends_the_session",
        ],
    ),
    cannot(
        MUSL,
        "commands",
        OF_THIS_MACHINE,
        &[
            "few_open_files_are_the_commands_limit_and_not_leaktraces",
            "signals_go_to_the_command_and_its_end_ends_the_session",
        ],
    ),
    cannot(
        ROOT,
        "attach",
        OWN_ROOT,
        &[
            "a_library_whose_file_was_replaced_is_still_the_one_that_is_traced",
            "a_program_in_another_root_is_traced_through_that_root",
            "a_program_of_another_user_is_traced",
        ],
    ),
    cannot(
        ROOT,
        "attach",
        "it compares the path of the program, which here is behind that of the root",
        &["the_start_line_names_the_target_and_every_probe"],
    ),
    cannot(
        MUSL,
        "attach",
        "musl's loader is its C library, whose path is in the program",
        &["a_library_whose_file_was_replaced_is_still_the_one_that_is_traced"],
    ),
    cannot(
        MUSL,
        "stacks",
        NO_BACKTRACE,
        &[
            "frames_are_those_that_the_program_finds_in_itself",
            "frames_behind_the_programs_own_lead_to_the_c_library_only",
            "stripped_code_reads_as_module_and_offset",
            "frame_pointers_alone_do_for_code_that_keeps_them",
            "a_kernel_without_bpf_loop_gets_stacks_by_frame_pointers_and_says_so",
            "deep_stacks_are_whole_with_and_without_frame_pointers",
            "a_stack_that_is_too_deep_says_so_and_keeps_its_inner_part",
            "deep_stacks_beyond_the_room_for_them_are_cut_and_say_so",
            "frame_pointers_are_followed_as_deep",
            "a_site_keeps_its_id_from_report_to_report",
        ],
    ),
    cannot(
        MUSL,
        "stacks",
        NO_CPP,
        &["new_is_no_frame_and_its_caller_has_a_readable_name"],
    ),
    cannot(
        MUSL,
        "stacks",
        "Rust is compiled against this machine's C library",
        &["functions_of_rust_have_readable_names"],
    ),
    cannot(
        NOT_GLIBC,
        "stress",
        FUNCTIONS_OF_ITS_OWN,
        &[
            "eight_threads_and_all_that_the_c_library_does_for_them_are_counted_exactly",
            "what_a_full_map_cannot_hold_is_counted_as_lost",
            "what_has_no_room_for_its_stack_is_counted_without",
        ],
    ),
    cannot(
        &["tcmalloc", "mimalloc", "musl"],
        "stress",
        CALLS_ITSELF,
        &["what_threads_without_a_place_allocate_is_counted_as_lost"],
    ),
    cannot(
        &["mimalloc"],
        "losses",
        CALLS_ITSELF,
        &["a_realloc_without_a_slot_takes_its_old_block_along"],
    ),
    cannot(
        &["mimalloc"],
        "survival",
        "mimalloc makes calls that the program forbids itself, and it is killed alone as well",
        &[
            "a_program_confined_by_a_seccomp_filter_makes_no_forbidden_call",
            "a_program_in_strict_seccomp_mode_makes_no_forbidden_call",
            "a_program_that_confines_itself_later_makes_no_forbidden_call",
        ],
    ),
    cannot(
        &["mimalloc"],
        "survival",
        "its operators of C++ abort where others throw, alone as well",
        &["exceptions_and_failed_new_are_caught_as_ever"],
    ),
];

const fn cannot(
    environments: &'static [&'static str],
    suite: &'static str,
    reason: &'static str,
    tests: &'static [&'static str],
) -> Cannot {
    Cannot {
        environments,
        suite,
        tests,
        reason,
    }
}

/// What is left out of a suite in an environment: each test, with the reason.
pub(super) fn of(environment: &str, suite: &str) -> Vec<(&'static str, &'static str)> {
    let here =
        |cannot: &&Cannot| cannot.suite == suite && cannot.environments.contains(&environment);
    let with_reasons =
        |cannot: &'static Cannot| cannot.tests.iter().map(|test| (*test, cannot.reason));
    ALL.iter().filter(here).flat_map(with_reasons).collect()
}

//! The kernels that guests boot, in which archive each is, and what cannot be run there. Pure.

/// Where a distribution keeps packages: its mirrors have two trees.
#[derive(Clone, Copy)]
pub(crate) enum Archive {
    /// The main one.
    Main,
    /// The one of security updates.
    Security,
}

/// A kernel series.
pub(crate) struct Kernel {
    /// As it is asked for, and as the table names it.
    pub(crate) series: &'static str,
    /// What the name of its package begins with.
    pub(crate) package: &'static str,
    /// leaktrace must refuse it with these words, and then nothing else can be run there.
    pub(crate) refused: Option<&'static str>,
}

/// What a guest runs: the end-to-end test binaries of these names.
pub(crate) const SUITES: [&str; 14] = [
    "exact",
    "chains",
    "failure_semantics",
    "mappings",
    "losses",
    "stacks",
    "truth_stacks",
    "stress",
    "harmless",
    "ends",
    "survival",
    "lineage",
    "siblings",
    "allocators",
];

/// A test that cannot be run.
pub(crate) struct Cannot {
    /// The kernels by their series; none stands for every guest.
    pub(crate) series: &'static [&'static str],
    /// Its suite.
    pub(crate) suite: &'static str,
    /// Its name.
    pub(crate) test: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
}

/// Every test of [`SUITES`] that some guest leaves out; the table names each, with the reason.
pub(crate) const CANNOT: [Cannot; 12] = [
    Cannot {
        series: &["6.1"],
        suite: "ends",
        test: "a_target_whose_main_thread_has_ended_is_still_read_and_named",
        reason: "before 6.10 the kernel takes the probes out with the main thread; reports say so",
    },
    Cannot {
        series: &[],
        suite: "mappings",
        test: "addresses_that_are_not_random_change_nothing",
        reason: "guests have no setarch",
    },
    Cannot {
        series: &[],
        suite: "allocators",
        test: "jemalloc_under_other_names_in_a_program_of_rust_is_exact",
        reason: "guests have no libjemalloc.a to link",
    },
    not_in_guests("a_stripped_interpreter_is_unwound", "guests have no perl"),
    not_in_guests(
        "an_interpreter_that_loads_modules_is_unwound",
        "guests have no python3",
    ),
    not_in_guests(
        "a_database_without_frame_pointers_is_unwound",
        "guests have no sqlite3",
    ),
    not_in_guests("a_version_control_system_is_unwound", "guests have no git"),
    not_in_guests("a_compiler_of_cpp_is_unwound", "guests have no clang"),
    not_in_guests("a_compiler_of_rust_is_unwound", "guests have no rustc"),
    not_in_guests(
        "an_engine_that_makes_code_is_unwound",
        "guests have no node",
    ),
    not_in_guests(
        "a_virtual_machine_that_makes_code_is_unwound",
        "guests have no java",
    ),
    not_in_guests(
        "stacks_of_a_virtual_machine_without_frame_pointers_are_cut_and_never_made_up",
        "guests have no java",
    ),
];

/// A test of the truth of stacks whose program is not in the image of a guest.
const fn not_in_guests(test: &'static str, reason: &'static str) -> Cannot {
    Cannot {
        series: &[],
        suite: "truth_stacks",
        test,
        reason,
    }
}

/// Releases whose archives have the kernels: the lists of guests alone, signed by Debian.
pub(crate) const RELEASES: [(Archive, &str); 3] = [
    (Archive::Security, "bullseye-security"),
    (Archive::Security, "bookworm-security"),
    (Archive::Main, "trixie-backports"),
];

/// From before attach cookies (5.15) and bpf_loop (5.17), before and after uprobe_multi (6.10), and the newest.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel {
        series: "5.10",
        package: "linux-image-5.10.",
        refused: Some("lacks attach cookies"),
    },
    Kernel {
        series: "6.1",
        package: "linux-image-6.1.",
        refused: None,
    },
    Kernel {
        series: "6.12",
        package: "linux-image-6.12.",
        refused: None,
    },
    // From 6.19 on, images for secure boot are packages of another name.
    Kernel {
        series: "7",
        package: "linux-binary-7.",
        refused: None,
    },
];

/// Tests of this suite that cannot be run on this kernel.
pub(crate) fn cannot<'a>(series: &'a str, suite: &'a str) -> impl Iterator<Item = &'static Cannot> {
    let here = move |cannot: &&'static Cannot| {
        cannot.suite == suite && (cannot.series.is_empty() || cannot.series.contains(&series))
    };
    CANNOT.iter().filter(here)
}

/// The newest of the packages with this beginning, in the flavour for virtual machines.
pub(crate) fn newest<'a>(names: impl Iterator<Item = &'a str>, package: &str) -> Option<&'a str> {
    names
        .filter(|name| name.starts_with(package) && name.ends_with("-cloud-amd64"))
        .max_by_key(|name| numbers(name))
}

fn numbers(name: &str) -> Vec<u32> {
    name.split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_chosen_by_number_and_not_by_letter() {
        let names = [
            "linux-image-6.12.99+deb12-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12.118+deb12-amd64",
            "linux-image-6.12.119+deb12-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-cloud-amd64",
        ];
        let chosen = newest(names.into_iter(), "linux-image-6.12.");
        assert_eq!(chosen, Some(names[1]));
        assert_eq!(
            newest(names.into_iter(), "linux-image-6.1."),
            Some(names[4])
        );
        assert_eq!(newest(names.into_iter(), "linux-binary-7."), None);
    }

    #[test]
    fn what_cannot_be_run_belongs_to_a_suite_and_a_kernel_that_are_there() {
        for cannot in &CANNOT {
            assert!(SUITES.contains(&cannot.suite), "{}", cannot.suite);
            for series in cannot.series {
                assert!(KERNELS.iter().any(|kernel| kernel.series == *series));
            }
        }
    }
}

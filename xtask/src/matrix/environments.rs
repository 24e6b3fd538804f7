//! What traced programs can run with, as variables that the harness of the tests reads. Runs no test.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::{debian_root, workspace};

/// What traced programs run with.
#[derive(Clone, Copy)]
pub(super) struct Environment {
    /// As it is asked for, and as the table names it.
    pub(super) name: &'static str,
    /// How they come to run with it.
    how: How,
    /// The suites that are run at each change.
    pub(super) in_short: &'static [&'static str],
}

#[derive(Clone, Copy)]
enum How {
    /// In the root of a Debian release, whose C library has this version.
    Root(&'static str, &'static str),
    /// With a library of this machine preloaded.
    Preloaded(&'static str),
    /// C programs compiled with another compiler.
    Compiled(&'static str),
}

/// Where Debian has libraries.
const LIBRARY_FOLDER: &str = "/usr/lib/x86_64-linux-gnu";

/// Every environment but this machine's own C library, with which `cargo xtask test` runs all tests.
pub(super) const ENVIRONMENTS: [Environment; 5] = [
    Environment {
        name: "glibc-2.41",
        how: How::Root("trixie", "2.41"),
        in_short: &[
            "exact",
            "failure_semantics",
            "mappings",
            "losses",
            "survival",
        ],
    },
    preloaded("jemalloc", "libjemalloc.so.2"),
    preloaded("tcmalloc", "libtcmalloc.so.4"),
    preloaded("mimalloc", "libmimalloc.so.2"),
    Environment {
        name: "musl",
        how: How::Compiled("musl-gcc"),
        in_short: &["exact", "failure_semantics"],
    },
];

const fn preloaded(name: &'static str, library: &'static str) -> Environment {
    Environment {
        name,
        how: How::Preloaded(library),
        // The tests of allocators have the programs of `exact` already.
        in_short: &["failure_semantics", "losses", "pairs"],
    }
}

impl Environment {
    /// The variables that the harness reads.
    ///
    /// # Errors
    /// When the root cannot be made, or a library or compiler is missing.
    pub(super) fn variables(&self) -> Result<Vec<(&'static str, OsString)>> {
        match self.how {
            How::Root(release, version) => {
                let root = workspace::target().join("roots").join(release);
                debian_root::make(&root, release, &[])?;
                Ok(vec![
                    ("LEAKTRACE_TARGET_ROOT", root.into()),
                    ("LEAKTRACE_TARGET_GLIBC", version.into()),
                ])
            }
            How::Preloaded(library) => {
                let path: PathBuf = Path::new(LIBRARY_FOLDER).join(library);
                if !path.exists() {
                    bail!("{library} is missing; run: cargo xtask setup");
                }
                Ok(vec![("LEAKTRACE_TARGET_PRELOAD", path.into())])
            }
            How::Compiled(compiler) => {
                if workspace::on_path(compiler).is_none() {
                    bail!("{compiler} is missing; run: cargo xtask setup");
                }
                Ok(vec![("LEAKTRACE_TARGET_CC", compiler.into())])
            }
        }
    }
}

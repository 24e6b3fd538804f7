//! How many files leaktrace may have open: a probe of a followed process takes one for each thread, and so
//! does each object that is held for its names. Changes the limit of leaktrace alone.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as kernels allow unless told otherwise (`fs.nr_open`).
const WANTED: u64 = 1 << 20;

/// Raises the limit, beyond the hard one where that is allowed. To be called once the command is started,
/// which is to have the limits that leaktrace was given.
pub(super) fn raise_limit() {
    let given = getrlimit(Resource::Nofile);
    let beyond = Rlimit {
        current: Some(WANTED),
        maximum: Some(WANTED),
    };
    let within = Rlimit {
        current: given.maximum,
        ..given
    };
    let is_low = given.maximum.is_some_and(|maximum| maximum < WANTED);
    let raised = match is_low {
        true => {
            setrlimit(Resource::Nofile, beyond).or_else(|_| setrlimit(Resource::Nofile, within))
        }
        false => setrlimit(Resource::Nofile, within),
    };
    if let Err(error) = raised {
        log::info!("the limit of open files stays as it is: {error}");
    }
}

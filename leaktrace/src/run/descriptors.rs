//! How many files leaktrace may have open: a probe of a followed process takes one for each thread, and so
//! does each object that is held for its names. Changes the limit of leaktrace alone.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as kernels allow unless told otherwise (`fs.nr_open`).
const WANTED: u64 = 1 << 20;

/// Files that attaching leaves to the readings and reports that come after it.
const RESERVED: u64 = 64;

/// A limit of fewer files than this is not lowered any further.
const LOW: u64 = 4 * RESERVED;

/// While it lives, leaktrace may have [`RESERVED`] files fewer open than before.
pub(super) struct Reserve {
    given: Rlimit,
}

impl Reserve {
    /// Lowers the limit; absent when there is none, or it is low already.
    pub(super) fn begin() -> Option<Self> {
        let given = getrlimit(Resource::Nofile);
        let current = given.current.and_then(less_reserve)?;
        let lowered = Rlimit {
            current: Some(current),
            ..given
        };
        setrlimit(Resource::Nofile, lowered).ok()?;
        Some(Self { given })
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        if let Err(error) = setrlimit(Resource::Nofile, self.given) {
            log::info!("the limit of open files stays lowered by {RESERVED}: {error}");
        }
    }
}

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

fn less_reserve(limit: u64) -> Option<u64> {
    (limit >= LOW).then(|| limit - RESERVED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_lowered_by_the_reserve_unless_it_is_low() {
        assert_eq!(less_reserve(4096), Some(4096 - 64));
        assert_eq!(less_reserve(256), Some(256 - 64));
        assert_eq!(less_reserve(255), None);
        assert_eq!(less_reserve(0), None);
    }

    #[test]
    fn the_limit_is_as_before_when_attaching_is_over() {
        let before = getrlimit(Resource::Nofile);
        let reserve = Reserve::begin();
        let during = getrlimit(Resource::Nofile);
        assert_eq!(reserve.is_some(), during.current < before.current);
        drop(reserve);
        assert_eq!(getrlimit(Resource::Nofile), before);
    }
}

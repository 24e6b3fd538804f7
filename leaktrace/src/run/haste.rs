//! Lets leaktrace go first on a busy machine while it attaches, and while it learns about new code of
//! the targets: stacks through that wait for it, and there is room for few. Holds nothing up for
//! longer.

use rustix::process::{getpriority_process, setpriority_process};

/// The highest priority that there is.
const FIRST: i32 = -20;

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Haste {
    before: Option<i32>,
}

impl Haste {
    /// Raises the priority of this thread, and of those that it starts meanwhile.
    ///
    /// Loading and attaching cost a fraction of a second of processor time. Shared fairly with 32
    /// threads that keep a CPU busy, that was ten seconds; under emulation more than six minutes,
    /// now 16 s. Where the priority cannot be raised, it takes that long.
    pub(super) fn begin() -> Self {
        let before = getpriority_process(None).ok();
        let raised = setpriority_process(None, FIRST).is_ok();
        Self {
            before: before.filter(|_| raised),
        }
    }
}

impl Drop for Haste {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // Lowering one's own priority is always allowed.
            let _ = setpriority_process(None, before);
        }
    }
}

//! Processes that run in the memory of a traced one, and are not counted: which there are, and what is said
//! of them. What they allocate is no loss that could be counted, because nobody sees it.

use std::collections::BTreeSet;

use super::traced::Traced;
use crate::session::Session;
use crate::target::processes;

/// The processes in the memory of one that is traced.
#[derive(Clone, Debug, Default)]
pub(super) struct Sharers {
    /// Found when the session began; said when they are still there at the first reading, because a child
    /// that is about to run another program is in the memory of its parent, too.
    found: Vec<u32>,
    /// Those that were said.
    said: BTreeSet<u32>,
    /// Whether children are followed.
    follow_forks: bool,
}

impl Sharers {
    /// Those that are there when the session begins.
    pub(super) fn of(tgid: u32, follow_forks: bool) -> Self {
        Self {
            found: in_memory_of(tgid, &processes().unwrap_or_default()),
            said: BTreeSet::new(),
            follow_forks,
        }
    }

    /// Says of those that were there before whether they still are.
    pub(super) fn confirm(&mut self, tgid: u32) {
        let found = std::mem::take(&mut self.found);
        for sharer in in_memory_of(tgid, &found) {
            self.add(tgid, sharer);
        }
    }

    /// Whether the process is one of them.
    pub(super) fn has(&self, tgid: u32) -> bool {
        self.said.contains(&tgid)
    }

    /// One that was made in the memory of this process, or of one of them.
    pub(super) fn add(&mut self, tgid: u32, sharer: u32) {
        let is_first = self.is_empty();
        if self.said.insert(sharer) && is_first {
            log::warn!("process {tgid}: {}", self.notice().unwrap_or_default());
        }
    }

    /// Whether none is known.
    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty()
    }

    /// What reports say, if there is one.
    pub(super) fn notice(&self) -> Option<String> {
        let first = self.said.first()?;
        let who = match self.said.len() {
            1 => format!("process {first} runs"),
            2 => format!("process {first} and another one run"),
            more => format!("process {first} and {} others run", more - 1),
        };
        let what_to_do = match self.follow_forks {
            true => "start the program with leaktrace (-- COMMAND) to have it counted",
            false => "--follow-forks counts what is started so under trace",
        };
        Some(format!(
            "{who} in the memory of this one (clone with CLONE_VM) and not counted: what is allocated there is \
             missing, and what is freed there seems live; {what_to_do}"
        ))
    }
}

/// Says which processes run in the memory of one of these.
pub(super) fn notice(targets: &mut [Traced], session: &mut Session) {
    for target in targets.iter_mut() {
        target.sharers.confirm(target.pid);
    }
    for new in session.new_sharers() {
        let mut of_parent = targets.iter_mut().filter(|target| !target.reported);
        let owner =
            of_parent.find(|target| target.pid == new.parent || target.sharers.has(new.parent));
        if let Some(target) = owner {
            target.sharers.add(target.pid, new.tgid);
        }
    }
}

/// Those that are in the memory of this process: none where the kernel cannot compare (CONFIG_KCMP).
fn in_memory_of(tgid: u32, processes: &[u32]) -> Vec<u32> {
    let others = processes.iter().copied().filter(|other| *other != tgid);
    others.filter(|other| same_memory(tgid, *other)).collect()
}

fn same_memory(one: u32, other: u32) -> bool {
    const KCMP_VM: i32 = 1;
    // SAFETY: the call takes numbers alone and changes nothing.
    unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_VM, 0, 0) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_names_one_and_counts_the_others() {
        let mut sharers = Sharers::default();
        assert_eq!(sharers.notice(), None);
        sharers.add(1, 901);
        assert!(
            sharers
                .notice()
                .is_some_and(|text| text.starts_with("process 901 runs in"))
        );
        sharers.add(1, 901);
        sharers.add(1, 902);
        sharers.add(1, 903);
        let notice = sharers.notice().unwrap_or_default();
        assert!(
            notice.starts_with("process 901 and 2 others run in"),
            "{notice}"
        );
        assert!(sharers.has(902) && !sharers.has(904));
    }

    #[test]
    fn who_has_started_a_process_is_not_in_its_memory() {
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        assert!(in_memory_of(own, &[own, parent]).is_empty());
    }
}

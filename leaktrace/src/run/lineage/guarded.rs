//! What of a program that was executed may not be counted from its start on: the kernel closes inherited
//! probes at the exec of a program that it guards, and system calls are counted later. Attaches nothing.

use crate::compose::Unseen;
use crate::run::own_mappings::OwnMappings;
use crate::run::traced::Traced;
use crate::session::Session;

/// What became of inherited probes at an exec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::run) enum AtExec {
    /// They are in place, or there was no exec, or probes are not inherited.
    #[default]
    Kept,
    /// The kernel has closed them for all that is known: nothing shows that they are in place.
    Closed,
    /// The program was gone when it was looked at.
    Unknown,
}

impl Traced {
    /// Looks at a program that was just executed. What it has allocated by now shows that its probes are in
    /// place.
    ///
    /// # Errors
    ///
    /// When the kernel side cannot be read.
    pub(in crate::run) fn look_for_guard(&mut self, session: &mut Session) -> anyhow::Result<()> {
        let Some(process) = self.process.as_ref() else {
            return Ok(());
        };
        if !session.probes_are_inherited() {
            return Ok(());
        }
        let is_guarded = process.is_guarded();
        // What was read may be of the next program.
        if !session.is_present(self.index) {
            self.at_exec = AtExec::Unknown;
        } else if is_guarded && !session.has_allocated(self.index)? {
            self.at_exec = AtExec::Closed;
            self.allocators_before.clear();
        }
        Ok(())
    }

    /// It has ended before it was settled. If it was guarded, the next program lacks the probes of the one
    /// before it as well.
    pub(super) fn ended_perhaps_guarded(&mut self, has_allocated: bool) {
        if self.at_exec == AtExec::Unknown && !has_allocated {
            self.allocators_before.clear();
        }
    }

    /// The program has its own probes now, and those of the program before are gone, unless they are
    /// inherited: an allocator that it loads from now on comes late, though that program had it.
    pub(super) fn forget_allocators_before(&mut self, session: &Session) {
        if !session.probes_are_inherited() {
            self.allocators_before.clear();
        }
    }

    /// System calls of a program are counted from the time on at which it is known to make some, or was settled
    /// if the user wants them counted in any case.
    pub(super) fn counted_own_mappings_late(&mut self, session: &Session) {
        let counts = self.own_mappings == OwnMappings::Counted && self.syscalls_wanted;
        let ran = session.exec(self.index).filter(|_| counts);
        self.unseen = self
            .unseen
            .or(ran.map(|exec| Unseen::own_mappings(exec.ran)));
    }

    /// Whether the dynamic linker of a program that was executed maps objects right now: what is not there may
    /// be a moment later, before anything of the program runs. Of a child that was only forked nothing is told:
    /// what another thread of its parent was loading then stays unfinished in it.
    pub(super) fn is_linking(&self, session: &Session) -> bool {
        if session.exec(self.index).is_none() {
            return false;
        }
        let state = session.linker_state(self.index);
        let process = self.process.as_ref().zip(state);
        process.is_some_and(|(process, state)| process.is_linking(state))
    }
}

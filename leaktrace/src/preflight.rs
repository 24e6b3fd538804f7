//! Says whether this machine can trace, and how well, before any target is touched. Turns
//! [`Facts`] into [`Requirement`]s; changes nothing on the machine.

mod facts;
mod helpers;
mod kernel;
mod requirements;

use std::fmt::Write as _;

pub use facts::{BpfSupport, Facts, Lockdown};
pub use helpers::Helpers;
pub use kernel::{KernelVersion, uretprobe_hazard};

/// Everything that tracing needs, with its state on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The requirements; what tracing fails for first comes first.
    pub requirements: Vec<Requirement>,
    has_find_vma: bool,
}

/// One thing that tracing needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// What it is, in a word or two.
    pub name: &'static str,
    /// Whether it is there.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it; absent when nothing needs to be done.
    pub remedy: Option<String>,
}

/// State of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There.
    Ok,
    /// Not there: tracing works, but less well, or not for every target.
    Degraded,
    /// Not there: tracing is impossible.
    Missing,
}

impl State {
    /// The word that the doctor prints.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

impl Preflight {
    /// Looks at this machine and this process's privileges.
    pub fn check() -> Self {
        Self::from_facts(&Facts::collect())
    }

    /// What these facts mean for tracing.
    pub fn from_facts(facts: &Facts) -> Self {
        Self {
            requirements: requirements::all(facts),
            has_find_vma: facts.helpers.bpf_find_vma == Some(true),
        }
    }

    /// Whether tracing can work at all.
    pub fn can_trace(&self) -> bool {
        self.first_missing().is_none()
    }

    /// Whether the kernel has what the walk by .eh_frame needs.
    pub fn has_loop(&self) -> bool {
        self.requirements.iter().any(|requirement| {
            requirement.name == requirements::WHOLE_STACKS && requirement.state == State::Ok
        })
    }

    /// Whether the kernel can be asked at once how long a mapping is that was just made.
    pub const fn has_find_vma(&self) -> bool {
        self.has_find_vma
    }

    /// The one line for a user who wants to trace and cannot; absent when tracing can work.
    pub fn error_for_tracing(&self) -> Option<String> {
        self.first_missing().map(|missing| match &missing.remedy {
            Some(remedy) => format!("cannot trace: {}; {remedy}", missing.detail),
            None => format!("cannot trace: {}", missing.detail),
        })
    }

    /// What `leaktrace doctor` prints: a line for each requirement, the remedies below, and the
    /// answer at the end.
    pub fn render_doctor(&self) -> String {
        let width = self
            .requirements
            .iter()
            .map(|requirement| requirement.name.len())
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for requirement in &self.requirements {
            let Requirement {
                name,
                state,
                detail,
                remedy,
            } = requirement;
            // Writing to a String cannot fail.
            let _ = write!(text, "{:<8}  {name:<width$}  {detail}", state.word());
            if let Some(remedy) = remedy {
                let _ = write!(text, "; {remedy}");
            }
            text.push('\n');
        }
        let degraded = self
            .requirements
            .iter()
            .filter(|requirement| requirement.state == State::Degraded)
            .count();
        text.push('\n');
        text.push_str(&match (self.error_for_tracing(), degraded) {
            (Some(error), _) => format!("leaktrace {error}\n"),
            (None, 0) => "leaktrace can trace on this machine\n".to_owned(),
            (None, _) => "leaktrace can trace on this machine, with the limits above\n".to_owned(),
        });
        text
    }

    /// Exit code of `leaktrace doctor`: 0 when tracing works, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.can_trace())
    }

    fn first_missing(&self) -> Option<&Requirement> {
        self.requirements
            .iter()
            .find(|requirement| requirement.state == State::Missing)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

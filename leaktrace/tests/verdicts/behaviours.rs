//! What a labelled behaviour is, and the list of all. Judges nothing.

use crate::site::{Noise, Site};
use crate::{healthy, leaks};

/// What the site really does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Blocks pile up for ever.
    Leak,
    /// They do not.
    Healthy,
}

/// Does one interval's work.
pub(crate) type Work = Box<dyn FnMut(&mut Site, u32, &mut Noise)>;

/// A labelled behaviour.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) name: &'static str,
    pub(crate) truth: Truth,
    /// Intervals after which a careful person would decide; before, a leak and a healthy site look
    /// the same.
    pub(crate) decidable_from: u32,
    /// Whether it was kept out of the tuning of the rules.
    pub(crate) held_out: bool,
    /// Makes one of its kind; sizes and times vary with the noise.
    pub(crate) work: fn(&mut Noise) -> Work,
}

impl Behaviour {
    pub(crate) const fn leak(
        name: &'static str,
        decidable_from: u32,
        work: fn(&mut Noise) -> Work,
    ) -> Self {
        Self {
            name,
            truth: Truth::Leak,
            decidable_from,
            held_out: false,
            work,
        }
    }

    pub(crate) const fn healthy(
        name: &'static str,
        decidable_from: u32,
        work: fn(&mut Noise) -> Work,
    ) -> Self {
        Self {
            truth: Truth::Healthy,
            ..Self::leak(name, decidable_from, work)
        }
    }

    pub(crate) const fn held_out(self) -> Self {
        Self {
            held_out: true,
            ..self
        }
    }
}

/// Every behaviour.
pub(crate) fn all() -> Vec<Behaviour> {
    leaks::ALL.iter().chain(healthy::ALL).copied().collect()
}

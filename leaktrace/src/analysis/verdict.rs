//! The verdict on a site: one word for what its series of readings says. Holds no rule; the rules
//! are in `growth`.

use serde::Serialize;

/// What a site's series of readings says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Grows steadily and next to nothing of it is freed.
    Leaking,
    /// Grows, but blocks are freed too, or it is too early to say more.
    Growing,
    /// Neither grows nor shrinks.
    Steady,
    /// Gives memory back.
    Shrinking,
    /// Too little was seen to tell.
    #[default]
    Unknown,
}

impl Verdict {
    /// The word that reports use.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Leaking => "leaking",
            Self::Growing => "growing",
            Self::Steady => "steady",
            Self::Shrinking => "shrinking",
            Self::Unknown => "unknown",
        }
    }
}

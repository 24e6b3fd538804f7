//! Why a verdict is what it is, as numbers and in words. Decides nothing.

use super::verdict::Verdict;
use super::window::Window;
use crate::units;

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Too few readings, or too short a time.
    TooLittle,
    /// Grows as a leak does, and as a cache does that fills.
    TooEarly,
    /// Levels go neither up nor, for that verdict, anywhere else than down.
    Still,
    /// Grows throughout, and next to nothing is freed.
    NothingFreed,
    /// Blocks of all times have stayed.
    Kept {
        /// Percent of those that have outlived the rest.
        percent: u32,
        /// Age of those in seconds.
        age_s: u32,
    },
    /// Grows, but much is freed.
    FreedInPart,
    /// Grows, but in a few steps.
    FewSteps,
    /// Grows, but what is allocated dies out.
    Passing,
    /// Has grown, but of what is new less and less stays.
    Filled,
    /// Grows since a short time, after a calm.
    Late,
    /// Has grown, but has not moved for longer than it ever rested.
    Stopped {
        /// Seconds for which it has not.
        rest_s: u32,
    },
    /// Grows in a single block, which is made anew.
    OneBlock,
}

/// In how many equal intervals of the time a site has grown and fallen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Intervals that ended higher than they began.
    pub grew: u32,
    /// Intervals that ended lower.
    pub fell: u32,
    /// All intervals.
    pub of: u32,
}

impl Steps {
    pub(super) fn count(window: &Window) -> Self {
        let mut steps = Self::default();
        for pair in window.live.windows(2) {
            steps.grew += u32::from(pair[1] > pair[0]);
            steps.fell += u32::from(pair[1] < pair[0]);
            steps.of += 1;
        }
        steps
    }
}

/// The reason of a verdict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reason {
    /// What the levels did.
    pub steps: Steps,
    /// Seconds that were seen.
    pub span_s: f64,
    /// What decided.
    pub finding: Finding,
}

impl Reason {
    /// There was no reading.
    pub(super) const NOTHING_SEEN: Self = Self {
        steps: Steps {
            grew: 0,
            fell: 0,
            of: 0,
        },
        span_s: 0.0,
        finding: Finding::TooLittle,
    };

    /// In words, with the rate and its interval, bytes per second.
    pub(super) fn words(&self, verdict: Verdict, rate: Option<(f64, [f64; 2])>) -> String {
        let Steps { grew, fell, of } = self.steps;
        let span = units::elapsed(self.span_s);
        // Readings are joined to these; they have nothing to do with the time between reports.
        let of = format!(
            "{of} intervals of {}",
            units::elapsed(self.span_s / f64::from(of.max(1)))
        );
        let slope = rate.map(|(value, _)| value);
        let rate = rate.map_or_else(String::new, |(value, interval)| said(value, interval));
        let falls = slope.is_some_and(|slope| slope <= 0.0) || fell >= grew;
        if self.finding == Finding::TooEarly && falls {
            return format!(
                "grew in {grew} and fell in {fell} of {of}: too early to tell where it goes{rate}"
            );
        }
        if self.finding == Finding::TooEarly {
            return format!(
                "grew in {grew} of {of}: too early to tell a leak from a cache that fills{rate}"
            );
        }
        if verdict == Verdict::Unknown {
            return format!("too little was seen: {span}");
        }
        if verdict == Verdict::Shrinking {
            return format!("fell in {fell} of {of}{rate}");
        }
        if let Finding::Stopped { rest_s } = self.finding {
            let rest = units::elapsed(f64::from(rest_s));
            return format!("grew in {grew} of {of}, but has stopped: nothing for the last {rest}");
        }
        if verdict == Verdict::Steady && grew + fell == 0 {
            return format!("has not changed in {span}");
        }
        let why = match self.finding {
            Finding::TooLittle | Finding::TooEarly | Finding::Still | Finding::Stopped { .. } => {
                return format!("grew in {grew} and fell in {fell} of {of}{rate}");
            }
            Finding::NothingFreed => "next to nothing of it was freed".to_owned(),
            Finding::Kept { percent, age_s } => {
                let age = units::elapsed(f64::from(age_s));
                format!("{percent}% of what outlived {age} is still live")
            }
            Finding::FreedInPart => "but much of it is freed again".to_owned(),
            Finding::FewSteps => "but in few steps".to_owned(),
            Finding::Passing => "but its blocks go away in time".to_owned(),
            Finding::Filled => "but ever less of what is new stays".to_owned(),
            Finding::Late => "and only of late".to_owned(),
            Finding::OneBlock => "in one block that is made anew, larger each time".to_owned(),
        };
        format!("grew in {grew} of {of}, {why}{rate}")
    }
}

/// A rate and how well it is known: by its two ends where half of their distance would hide that it is above
/// zero.
fn said(value: f64, [low, high]: [f64; 2]) -> String {
    let error = (high - low) / 2.0;
    match low > 0.0 && error >= value {
        true => format!(
            ", {} (between {} and {})",
            units::rate(value),
            units::rate(low),
            units::rate(high)
        ),
        false => format!(", {} ± {}", units::rate(value), units::unsigned_rate(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_said_to_be_one_with_its_evidence_and_its_rate() {
        let reason = Reason {
            steps: Steps {
                grew: 11,
                fell: 1,
                of: 12,
            },
            span_s: 120.0,
            finding: Finding::Kept {
                percent: 98,
                age_s: 30,
            },
        };
        assert_eq!(
            reason.words(
                Verdict::Leaking,
                Some((1_258_291.2, [1_153_433.6, 1_363_148.8]))
            ),
            "grew in 11 of 12 intervals of 10.0 s, 98% of what outlived 30.0 s is still live, \
             +1.2 MiB/s ± 102.4 KiB/s"
        );
    }

    fn words(finding: Finding, verdict: Verdict, rate: (f64, [f64; 2])) -> String {
        let steps = Steps {
            grew: 1,
            fell: 7,
            of: 8,
        };
        let reason = Reason {
            steps,
            span_s: 4.0,
            finding,
        };
        reason.words(verdict, Some(rate))
    }

    #[test]
    fn what_falls_is_not_said_to_look_like_a_cache_that_fills() {
        let rate = (-1024.0, [-2048.0, 0.0]);
        assert_eq!(
            words(Finding::TooEarly, Verdict::Unknown, rate),
            "grew in 1 and fell in 7 of 8 intervals of 0.5 s: too early to tell where it goes, \
             -1.0 KiB/s ± 1.0 KiB/s"
        );
    }

    #[test]
    fn a_rate_above_zero_is_not_said_to_contain_it() {
        let rate = (1024.0, [512.0, 4096.0]);
        let said = words(Finding::NothingFreed, Verdict::Leaking, rate);
        assert!(
            said.ends_with("+1.0 KiB/s (between +512 B/s and +4.0 KiB/s)"),
            "{said}"
        );
        let stopped = words(
            Finding::Stopped { rest_s: 14 },
            Verdict::Steady,
            (0.0, [0.0, 0.0]),
        );
        assert!(
            stopped.ends_with("but has stopped: nothing for the last 14.0 s"),
            "{stopped}"
        );
    }

    #[test]
    fn nothing_is_said_that_was_not_seen() {
        let words = Reason::NOTHING_SEEN.words(Verdict::Unknown, None);
        assert_eq!(words, "too little was seen: 0.0 s");
    }
}

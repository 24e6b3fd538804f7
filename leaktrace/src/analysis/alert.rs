//! Conditions in the terms of operators, such as `rss>80%` → which of them hold now. Pure.

use std::time::Duration;

use super::memory::MemoryTracker;

/// How long a growth has to last when that is not said.
const GROWTH_LASTS: Duration = Duration::from_secs(60);

/// What an operator wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Condition {
    /// Resident memory above so many percent of the tightest limit.
    ResidentPercent(f64),
    /// Resident memory above so many bytes.
    ResidentBytes(u64),
    /// Resident memory that grows by more than this, for at least so long.
    Growth {
        /// Bytes a second.
        bytes_per_s: f64,
        /// How long it has to have grown so.
        lasting: Duration,
    },
    /// A site judged leaking that was not before.
    Leak,
}

impl Condition {
    /// Reads `rss>80%`, `rss>2GiB`, `growth>100MiB/h`, `growth>1MiB/min for 10m` or `leak`; sizes and
    /// durations are read by `size` and `duration`.
    ///
    /// # Errors
    ///
    /// What can be written instead.
    pub fn parse(
        text: &str,
        size: impl Fn(&str) -> Option<u64>,
        duration: impl Fn(&str) -> Option<Duration>,
    ) -> Result<Self, String> {
        let wrong = || {
            "write leak, rss>80%, rss>2GiB, growth>100MiB/h or 'growth>100MiB/h for 10m'".to_owned()
        };
        let text = text.trim();
        if text == "leak" {
            return Ok(Self::Leak);
        }
        let (what, bound) = text.split_once('>').ok_or_else(wrong)?;
        let bound = bound.trim();
        match (what.trim(), bound.strip_suffix('%')) {
            ("rss", Some(percent)) => percent
                .trim()
                .parse()
                .ok()
                .filter(|percent| *percent > 0.0 && *percent < 1000.0)
                .map(Self::ResidentPercent)
                .ok_or_else(wrong),
            ("rss", None) => size(bound).map(Self::ResidentBytes).ok_or_else(wrong),
            ("growth", None) => growth(bound, size, duration).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

fn growth(
    bound: &str,
    size: impl Fn(&str) -> Option<u64>,
    duration: impl Fn(&str) -> Option<Duration>,
) -> Option<Condition> {
    let (rate, lasting) = match bound.split_once(" for ") {
        Some((rate, lasting)) => (rate, duration(lasting.trim())?),
        None => (bound, GROWTH_LASTS),
    };
    let (bytes, per) = rate.trim().split_once('/')?;
    let per_s = match per.trim() {
        "s" => 1.0,
        "min" | "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(Condition::Growth {
        bytes_per_s: size(bytes.trim())? as f64 / per_s,
        lasting,
    })
}

/// Conditions, and the leaks that have been told of.
#[derive(Debug, Default)]
pub struct Alerts {
    conditions: Vec<Condition>,
    known_leaks: Vec<u64>,
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Alert {
    /// Resident bytes, and the limit that they come near.
    Resident {
        /// Now.
        rss_bytes: u64,
        /// Bound of the condition.
        bound_bytes: u64,
    },
    /// Growth of the resident memory, bytes a second.
    Growth {
        /// Over the time asked for.
        bytes_per_s: f64,
        /// That time.
        lasting: Duration,
    },
    /// Ids of the stacks that are new among the leaks.
    Leaks(Vec<u64>),
}

impl Alerts {
    /// Watches for these.
    pub fn new(conditions: Vec<Condition>) -> Self {
        Self {
            conditions,
            known_leaks: Vec::new(),
        }
    }

    /// Whether leaks are asked for: to judge every site costs more than to judge those listed.
    pub fn wants_leaks(&self) -> bool {
        self.conditions.contains(&Condition::Leak)
    }

    /// What holds now. `leaks` are the ids of all stacks that are judged leaking.
    pub fn check(&mut self, memory: &MemoryTracker, leaks: &[u64]) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for condition in &self.conditions {
            alerts.extend(match condition {
                Condition::Leak => new_leaks(&mut self.known_leaks, leaks),
                Condition::ResidentBytes(bound) => resident(memory, *bound),
                Condition::ResidentPercent(percent) => {
                    let tightest = memory.tightest_limit_bytes();
                    tightest
                        .and_then(|limit| resident(memory, (limit as f64 * percent / 100.0) as u64))
                }
                Condition::Growth {
                    bytes_per_s,
                    lasting,
                } => memory
                    .rate_over(*lasting)
                    .filter(|rate| rate > bytes_per_s)
                    .map(|rate| Alert::Growth {
                        bytes_per_s: rate,
                        lasting: *lasting,
                    }),
            });
        }
        alerts
    }
}

fn resident(memory: &MemoryTracker, bound_bytes: u64) -> Option<Alert> {
    let rss_bytes = memory.latest()?.resident_bytes();
    (rss_bytes > bound_bytes).then_some(Alert::Resident {
        rss_bytes,
        bound_bytes,
    })
}

fn new_leaks(known: &mut Vec<u64>, leaks: &[u64]) -> Option<Alert> {
    let new: Vec<u64> = leaks
        .iter()
        .copied()
        .filter(|leak| !known.contains(leak))
        .collect();
    known.extend(&new);
    (!new.is_empty()).then_some(Alert::Leaks(new))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::target::{Bound, BoundKind, MemoryUse};

    fn parsed(text: &str) -> Result<Condition, String> {
        let size = |text: &str| match text {
            "2GiB" => Some(2 << 30),
            "36MiB" => Some(36 << 20),
            _ => None,
        };
        let duration = |text: &str| (text == "10m").then_some(Duration::from_secs(600));
        Condition::parse(text, size, duration)
    }

    fn memory(level: impl Fn(u64) -> u64) -> MemoryTracker {
        let mut tracker = MemoryTracker::default();
        for second in 0..=100 {
            let reading = MemoryUse {
                anonymous_bytes: level(second),
                bounds: vec![Bound {
                    kind: BoundKind::Cgroup,
                    limit_bytes: 1000,
                    used_bytes: 0,
                }],
                ..MemoryUse::default()
            };
            tracker.observe(Duration::from_secs(second), reading, 0);
        }
        tracker
    }

    #[test]
    fn conditions_read_as_operators_write_them() {
        assert_eq!(parsed("leak"), Ok(Condition::Leak));
        assert_eq!(parsed("rss>80%"), Ok(Condition::ResidentPercent(80.0)));
        assert_eq!(parsed("rss > 2GiB"), Ok(Condition::ResidentBytes(2 << 30)));
        let growth = |lasting| Condition::Growth {
            bytes_per_s: 36.0 * 1024.0 * 1024.0 / 3600.0,
            lasting: Duration::from_secs(lasting),
        };
        assert_eq!(parsed("growth>36MiB/h"), Ok(growth(60)));
        assert_eq!(parsed("growth>36MiB/h for 10m"), Ok(growth(600)));
        for wrong in [
            "",
            "rss",
            "rss>",
            "rss>%",
            "rss<80%",
            "growth>36MiB",
            "growth>80%",
            "leak>1",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_condition_holds_when_it_does_and_not_before() {
        let flat = memory(|_| 700);
        let climbing = memory(|second| 400 + second * 5);
        let conditions = vec![
            Condition::ResidentPercent(80.0),
            Condition::Growth {
                bytes_per_s: 4.0,
                lasting: Duration::from_secs(60),
            },
        ];
        assert_eq!(Alerts::new(conditions.clone()).check(&flat, &[]), []);
        let alerts = Alerts::new(conditions).check(&climbing, &[]);
        assert!(
            matches!(
                alerts.as_slice(),
                [
                    Alert::Resident {
                        rss_bytes: 900,
                        bound_bytes: 800
                    },
                    Alert::Growth { .. }
                ]
            ),
            "{alerts:?}"
        );
        let too_short = Condition::Growth {
            bytes_per_s: 4.0,
            lasting: Duration::from_secs(101),
        };
        assert_eq!(Alerts::new(vec![too_short]).check(&climbing, &[]), []);
    }

    #[test]
    fn a_leak_is_told_once() {
        let mut alerts = Alerts::new(vec![Condition::Leak]);
        let memory = memory(|_| 1);
        assert_eq!(alerts.check(&memory, &[7]), [Alert::Leaks(vec![7])]);
        assert_eq!(alerts.check(&memory, &[7]), []);
        assert_eq!(alerts.check(&memory, &[7, 9]), [Alert::Leaks(vec![9])]);
    }
}

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
    /// Sites judged leaking.
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
            ("rss", None) => size_with_unit(bound, size)
                .map(Self::ResidentBytes)
                .ok_or_else(wrong),
            ("growth", None) => growth(bound, size, duration).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

/// A size that says what it counts: who writes `rss>80` means no 80 bytes.
fn size_with_unit(text: &str, size: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
    has_unit.then(|| size(text)).flatten()
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
        bytes_per_s: size_with_unit(bytes.trim(), size)? as f64 / per_s,
        lasting,
    })
}

/// Conditions, and what held when they were looked at last.
#[derive(Debug, Default)]
pub struct Alerts {
    conditions: Vec<Condition>,
    /// By condition; of leaks, none.
    held: Vec<Option<Alert>>,
    /// By condition: the most that was found since the last look.
    peaks: Vec<Option<Alert>>,
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
    /// Ids of the stacks that are judged leaking; in a change, of those that are new among them.
    Leaks(Vec<u64>),
}

impl Alert {
    /// How far it goes, to compare two of one condition.
    fn extent(&self) -> f64 {
        match self {
            Self::Resident { rss_bytes, .. } => *rss_bytes as f64,
            Self::Growth { bytes_per_s, .. } => *bytes_per_s,
            Self::Leaks(ids) => ids.len() as f64,
        }
    }
}

/// What has become of a condition since it was looked at before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It holds now, and did not then.
    Begun,
    /// It held then, and does not now.
    Over,
    /// It held neither then nor now, but at a reading between.
    Passed,
}

/// A condition that is otherwise than when it was looked at before.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The condition, as it was found when it held.
    pub alert: Alert,
    /// What has become of it.
    pub turn: Turn,
}

/// What a look at the conditions has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerted {
    /// What holds.
    pub alerts: Vec<Alert>,
    /// What is otherwise than at the look before.
    pub changes: Vec<Change>,
}

impl Alerts {
    /// Watches for these.
    pub fn new(conditions: Vec<Condition>) -> Self {
        Self {
            held: vec![None; conditions.len()],
            peaks: vec![None; conditions.len()],
            conditions,
            known_leaks: Vec::new(),
        }
    }

    /// Takes note of a reading between two looks: what holds only then is told, too. Returns whether a
    /// condition holds that neither did at the last look nor has since: the next look is due.
    pub fn watch(&mut self, memory: &MemoryTracker) -> bool {
        let mut is_new = false;
        let known = self.held.iter().zip(&mut self.peaks);
        for (condition, (held, peak)) in self.conditions.iter().zip(known) {
            let now = holding(*condition, memory);
            is_new |= now.is_some() && held.is_none() && peak.is_none();
            let extent = |alert: &Option<Alert>| alert.as_ref().map_or(f64::MIN, Alert::extent);
            if extent(&now) > extent(peak) {
                *peak = now;
            }
        }
        is_new
    }

    /// What holds now. `leaks` are the ids of all stacks that are judged leaking.
    pub fn check(&mut self, memory: &MemoryTracker, leaks: &[u64]) -> Alerted {
        let mut found = Alerted::default();
        let known = self.held.iter_mut().zip(&mut self.peaks);
        for (condition, (held, peak)) in self.conditions.iter().zip(known) {
            if *condition == Condition::Leak {
                found.take_leaks(&mut self.known_leaks, leaks);
                continue;
            }
            let now = holding(*condition, memory);
            match (held.take(), &now, peak.take()) {
                (None, Some(alert), _) => found.changed(alert.clone(), Turn::Begun),
                (Some(before), None, _) => found.changed(before, Turn::Over),
                (None, None, Some(peak)) => found.changed(peak, Turn::Passed),
                _ => {}
            }
            found.alerts.extend(now.clone());
            *held = now;
        }
        found
    }
}

impl Alerted {
    fn changed(&mut self, alert: Alert, turn: Turn) {
        self.changes.push(Change { alert, turn });
    }

    /// All leaks hold; a change is a leak that is new, and one that is not judged so any longer.
    fn take_leaks(&mut self, known: &mut Vec<u64>, leaks: &[u64]) {
        let missing = |these: &[u64], from: &[u64]| -> Vec<u64> {
            let missing = these.iter().filter(|leak| !from.contains(leak));
            missing.copied().collect()
        };
        let (new, over) = (missing(leaks, known), missing(known, leaks));
        *known = leaks.to_vec();
        if !leaks.is_empty() {
            self.alerts.push(Alert::Leaks(leaks.to_vec()));
        }
        if !new.is_empty() {
            self.changed(Alert::Leaks(new), Turn::Begun);
        }
        if !over.is_empty() {
            self.changed(Alert::Leaks(over), Turn::Over);
        }
    }
}

fn holding(condition: Condition, memory: &MemoryTracker) -> Option<Alert> {
    match condition {
        Condition::Leak => None,
        Condition::ResidentBytes(bound) => resident(memory, bound),
        Condition::ResidentPercent(percent) => {
            let limit = memory.tightest_limit_bytes()?;
            resident(memory, (limit as f64 * percent / 100.0) as u64)
        }
        Condition::Growth {
            bytes_per_s,
            lasting,
        } => {
            let rate = memory.rate_over(lasting)?;
            (rate > bytes_per_s).then_some(Alert::Growth {
                bytes_per_s: rate,
                lasting,
            })
        }
    }
}

fn resident(memory: &MemoryTracker, bound_bytes: u64) -> Option<Alert> {
    let rss_bytes = memory.latest()?.resident_bytes();
    (rss_bytes > bound_bytes).then_some(Alert::Resident {
        rss_bytes,
        bound_bytes,
    })
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;

//! What is said of children that come and go: a line for each of the first ones, and of a storm of them how
//! many there were. Writes nothing.

use std::time::{Duration, Instant};

use crate::export::messages;
use crate::report::NewTarget;
use crate::units;

/// Lines about children within [`SPAN`]; the next ones are summed up.
const EACH: u32 = 20;

/// How long a storm is summed up before that is said.
const SPAN: Duration = Duration::from_secs(5);

/// The children of the last moments.
#[derive(Debug, Default)]
pub(super) struct ChildrenSaid {
    since: Option<Instant>,
    lines: u32,
    started: u64,
    ended: u64,
    failed: u64,
}

impl ChildrenSaid {
    /// What to say of a process, if anything, and of those before it.
    pub(super) fn lines(&mut self, new: &NewTarget, now: Instant) -> String {
        let mut text = self.due(now);
        let is_child = new.target.parent_pid.is_some();
        // Nobody wants to miss a kill.
        let was_killed = new.signal.is_some() || new.out_of_memory;
        if !is_child || was_killed || self.lines < EACH {
            self.lines += u32::from(is_child);
            self.since.get_or_insert(now);
            text.push_str(&messages::new_target(new));
            return text;
        }
        match new.event {
            "fork" => self.started += 1,
            "exit" => self.ended += 1,
            _ => {}
        }
        self.failed += u64::from(new.exit_code.is_some_and(|code| code != 0));
        text
    }

    /// The line about those that had none, once it is time for it.
    pub(super) fn due(&mut self, now: Instant) -> String {
        match self.since {
            Some(since) if now.saturating_duration_since(since) >= SPAN => {
                let text = self.rest();
                if !text.is_empty() {
                    // It goes on: none of the next ones has a line of its own.
                    (self.lines, self.since) = (EACH, Some(now));
                }
                text
            }
            _ => String::new(),
        }
    }

    /// The line about all that had none.
    pub(super) fn rest(&mut self) -> String {
        let past = std::mem::take(self);
        if past.started + past.ended == 0 {
            return String::new();
        }
        let failed = match past.failed {
            0 => String::new(),
            failed => format!(", {} with another code than 0", units::count(failed)),
        };
        format!(
            "{} more started, {} ended{failed}\n",
            match past.started {
                1 => "1 child".to_owned(),
                started => format!("{} children", units::count(started)),
            },
            units::count(past.ended),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::TargetLine;

    fn child(event: &'static str, exit_code: Option<i32>, signal: Option<i32>) -> NewTarget {
        NewTarget {
            event,
            target: TargetLine {
                pid: 7,
                comm: "worker".to_owned(),
                exe: None,
                container: None,
                parent_pid: Some(1),
                epoch: None,
            },
            probes: Vec::new(),
            exit_code,
            signal,
            out_of_memory: false,
        }
    }

    #[test]
    fn a_storm_is_summed_up_and_kills_are_each_said() {
        let (mut said, now) = (ChildrenSaid::default(), Instant::now());
        let mut lines = String::new();
        for code in 0..1000 {
            lines.push_str(&said.lines(&child("fork", None, None), now));
            let code = i32::from(code % 100 == 0);
            lines.push_str(&said.lines(&child("exit", Some(code), None), now));
        }
        assert_eq!(lines.lines().count(), 20);
        let killed = said.lines(&child("exit", None, Some(11)), now);
        assert!(killed.contains("killed"), "{killed}");
        assert_eq!(said.due(now), "");
        assert_eq!(
            said.due(now + SPAN),
            "990 children more started, 990 ended, 9 with another code than 0\n"
        );
        assert_eq!(said.rest(), "");
    }

    #[test]
    fn a_few_children_are_each_said() {
        let (mut said, now) = (ChildrenSaid::default(), Instant::now());
        for round in 0..100 {
            let line = said.lines(&child("fork", None, None), now + round * SPAN / 10);
            assert_eq!(line.lines().count(), 1);
        }
        assert_eq!(said.rest(), "");
    }
}

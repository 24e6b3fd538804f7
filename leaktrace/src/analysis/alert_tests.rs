//! What conditions mean, and when they are told of.

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
                level: 0,
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
        "rss>80",
        "growth>100/h",
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
    let check = |conditions: Vec<Condition>, memory: &MemoryTracker| {
        Alerts::new(conditions).check(memory, &[]).alerts
    };
    assert_eq!(check(conditions.clone(), &flat), []);
    let alerts = check(conditions, &climbing);
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
    assert_eq!(check(vec![too_short], &climbing), []);
}

#[test]
fn a_condition_is_a_change_when_it_begins_and_when_it_ends_and_not_between() {
    let mut alerts = Alerts::new(vec![Condition::ResidentBytes(500), Condition::Leak]);
    let (low, high) = (memory(|_| 400), memory(|_| 700));
    assert_eq!(alerts.check(&low, &[]), Alerted::default());
    let above = [Alert::Resident {
        rss_bytes: 700,
        bound_bytes: 500,
    }];
    let change = |turn| {
        let [alert] = above.clone();
        [Change { alert, turn }]
    };
    let found = alerts.check(&high, &[]);
    assert_eq!(found.alerts, above);
    assert_eq!(found.changes, change(Turn::Begun));
    let found = alerts.check(&high, &[]);
    assert_eq!(found.alerts, above, "it still holds");
    assert_eq!(found.changes, []);
    let found = alerts.check(&low, &[]);
    assert_eq!(found.alerts, []);
    assert_eq!(found.changes, change(Turn::Over));
}

#[test]
fn what_held_only_between_two_looks_is_told_with_its_peak() {
    let mut alerts = Alerts::new(vec![Condition::ResidentBytes(500)]);
    let low = memory(|_| 400);
    for level in [400, 600, 900, 700, 450] {
        alerts.watch(&memory(|_| level));
    }
    let found = alerts.check(&low, &[]);
    assert_eq!(found.alerts, []);
    let peak = Alert::Resident {
        rss_bytes: 900,
        bound_bytes: 500,
    };
    let passed = Change {
        alert: peak,
        turn: Turn::Passed,
    };
    assert_eq!(found.changes, [passed]);
    assert_eq!(alerts.check(&low, &[]), Alerted::default(), "told once");
}

#[test]
fn a_leak_is_told_once_and_that_it_is_over_too() {
    let mut alerts = Alerts::new(vec![Condition::Leak]);
    let memory = memory(|_| 1);
    let mut check = |leaks: &[u64]| alerts.check(&memory, leaks);
    let leaks = |ids: &[u64], turn| Change {
        alert: Alert::Leaks(ids.to_vec()),
        turn,
    };
    let found = check(&[7]);
    assert_eq!(found.alerts, [Alert::Leaks(vec![7])]);
    assert_eq!(found.changes, [leaks(&[7], Turn::Begun)]);
    let found = check(&[7]);
    assert_eq!(found.alerts, [Alert::Leaks(vec![7])], "it still holds");
    assert_eq!(found.changes, []);
    let found = check(&[7, 9]);
    assert_eq!(found.alerts, [Alert::Leaks(vec![7, 9])]);
    assert_eq!(found.changes, [leaks(&[9], Turn::Begun)]);
    let found = check(&[9]);
    assert_eq!(found.alerts, [Alert::Leaks(vec![9])]);
    assert_eq!(found.changes, [leaks(&[7], Turn::Over)]);
    assert_eq!(check(&[]).alerts, []);
}

//! Sites of a report → sites merged by what people look at: function, module or line of the first
//! frame outside of allocators and standard libraries. Computes sums; judges nothing anew.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::analysis::Order;
use crate::report::{Frame, Site, Verdict};

/// What makes two sites one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// The whole stack: every site stays.
    #[default]
    Stack,
    /// The function to look at.
    Function,
    /// The file that its code is in.
    Module,
    /// Its line in the source.
    Line,
}

/// Merges the sites that are one, and lists `count` of them (0: all), the top one first.
pub(super) fn group(sites: Vec<Site>, by: GroupBy, order: Order, count: usize) -> Vec<Site> {
    let mut groups: Vec<Site> = Vec::new();
    let mut places: HashMap<(&'static str, String), usize> = HashMap::new();
    for site in sites {
        let key = (site.source, key(&site, by));
        match places.get(&key) {
            Some(place) => absorb(&mut groups[*place], site),
            None => {
                let id = id_of(&key);
                places.insert(key, groups.len());
                groups.push(Site { id, ..site });
            }
        }
    }
    for group in groups.iter_mut().filter(|group| group.stacks > 1) {
        group.reason = format!(
            "{} stacks; the one that is shown is {}: {}",
            group.stacks,
            group.verdict.word(),
            group.reason
        );
        group.verdict = of_whole(group);
    }
    sort(&mut groups, order);
    groups.truncate(if count == 0 { usize::MAX } else { count });
    groups
}

/// A group does not leak or grow when what some of its stacks take, others give back.
fn of_whole(group: &Site) -> Verdict {
    match (group.verdict, group.growth_interval_bytes_per_s) {
        (Verdict::Leaking | Verdict::Growing, Some([_, high])) if high < 0.0 => Verdict::Shrinking,
        (Verdict::Leaking | Verdict::Growing, Some(_)) if group.growth_bytes_per_s <= Some(0.0) => {
            Verdict::Steady
        }
        (verdict, _) => verdict,
    }
}

fn sort(groups: &mut [Site], order: Order) {
    let rate = |site: &Site| site.growth_bytes_per_s.unwrap_or(0.0);
    groups.sort_by(|a, b| {
        let first = match order {
            Order::Growth => rate(b).total_cmp(&rate(a)),
            Order::Count => b.live_count.cmp(&a.live_count),
            Order::Bytes => std::cmp::Ordering::Equal,
        };
        first.then(b.live_bytes.cmp(&a.live_bytes))
    });
}

/// Sites without a frame to look at stay apart by their innermost frame.
fn key(site: &Site, by: GroupBy) -> String {
    let frame = site.suspect_frame.and_then(|index| site.frames.get(index));
    let Some(frame) = frame.or_else(|| site.frames.first()) else {
        return String::new();
    };
    let module = frame.module.as_deref().unwrap_or("?");
    let address = || format!("{module}+{:x}", frame.offset.unwrap_or(frame.address));
    match by {
        GroupBy::Stack => site.id.clone(),
        GroupBy::Module => module.to_owned(),
        GroupBy::Function => function_key(frame, module, address),
        GroupBy::Line => match (&frame.file, frame.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            _ => function_key(frame, module, address),
        },
    }
}

fn function_key(frame: &Frame, module: &str, address: impl Fn() -> String) -> String {
    match &frame.function {
        Some(function) => format!("{function} in {module}"),
        None => address(),
    }
}

/// The same group has the same id in every report.
fn id_of(key: &(&'static str, String)) -> String {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Adds a site to its group, which keeps the stack and the reason of the stronger of both.
fn absorb(group: &mut Site, site: Site) {
    let growth = add(group.growth_bytes_per_s, site.growth_bytes_per_s);
    let interval = match (
        group.growth_interval_bytes_per_s,
        site.growth_interval_bytes_per_s,
    ) {
        (Some([low, high]), Some([l, h])) => Some([low + l, high + h]),
        (one, other) => one.or(other),
    };
    let is_stronger = strength(site.verdict) > strength(group.verdict);
    let (mut kept, other) = match is_stronger {
        true => {
            let id = std::mem::take(&mut group.id);
            (Site { id, ..site }, std::mem::take(group))
        }
        false => (std::mem::take(group), site),
    };
    kept.live_bytes += other.live_bytes;
    kept.live_count += other.live_count;
    kept.allocated_bytes += other.allocated_bytes;
    kept.allocated_count += other.allocated_count;
    kept.stacks += other.stacks;
    kept.live_bytes_since_s = None;
    kept.growth_bytes_per_s = growth;
    kept.growth_interval_bytes_per_s = interval;
    *group = kept;
}

fn add(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

const fn strength(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Leaking => 4,
        Verdict::Growing => 3,
        Verdict::Steady => 2,
        Verdict::Shrinking => 1,
        Verdict::Unknown => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn site(id: &str, suspect: &str, line: u32, verdict: Verdict, bytes: u64) -> Site {
        let frame = |function: &str, line| Frame {
            function: Some(function.to_owned()),
            module: Some("/usr/bin/api".to_owned()),
            file: Some("api.c".to_owned()),
            line: Some(line),
            ..Frame::default()
        };
        Site {
            id: id.to_owned(),
            source: "heap",
            live_bytes: bytes,
            live_count: 1,
            growth_bytes_per_s: Some(bytes as f64),
            growth_interval_bytes_per_s: Some([0.0, bytes as f64]),
            verdict,
            frames: vec![frame("xmalloc", 1), frame(suspect, line)],
            suspect_frame: Some(1),
            stacks: 1,
            ..Site::default()
        }
    }

    fn sites() -> Vec<Site> {
        vec![
            site("a", "parse", 10, Verdict::Steady, 100),
            site("b", "parse", 11, Verdict::Leaking, 10),
            site("c", "serve", 50, Verdict::Growing, 105),
        ]
    }

    #[test]
    fn sites_of_one_function_are_one_with_their_sums_and_the_strongest_verdict() {
        let groups = group(sites(), GroupBy::Function, Order::Growth, 0);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].live_bytes, 110);
        assert_eq!(groups[0].stacks, 2);
        assert_eq!(groups[0].verdict, Verdict::Leaking);
        assert_eq!(groups[0].growth_bytes_per_s, Some(110.0));
        assert_eq!(groups[0].growth_interval_bytes_per_s, Some([0.0, 110.0]));
        assert_eq!(groups[1].stacks, 1);
    }

    #[test]
    fn a_group_does_not_leak_when_it_shrinks_as_a_whole() {
        let shrinks = Site {
            growth_bytes_per_s: Some(-900.0),
            growth_interval_bytes_per_s: Some([-950.0, -850.0]),
            ..site("d", "parse", 12, Verdict::Shrinking, 5)
        };
        let mut all = sites();
        all.push(shrinks);
        let groups = group(all, GroupBy::Function, Order::Bytes, 0);
        let parse = groups.iter().find(|group| group.stacks == 3).unwrap();
        assert_eq!(parse.verdict, Verdict::Shrinking);
        assert!(parse.reason.contains("is leaking"), "{}", parse.reason);
    }

    #[test]
    fn lines_and_stacks_are_finer_and_modules_coarser() {
        for (by, count) in [
            (GroupBy::Stack, 3),
            (GroupBy::Line, 3),
            (GroupBy::Module, 1),
        ] {
            assert_eq!(group(sites(), by, Order::Bytes, 0).len(), count, "{by:?}");
        }
    }

    #[test]
    fn the_order_and_the_number_asked_for_hold_for_groups() {
        let groups = group(sites(), GroupBy::Function, Order::Count, 1);
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].live_count, 2);
    }
}

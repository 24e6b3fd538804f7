//! Sites of a report → sites merged by what people look at: function, module or line of the first
//! frame outside of allocators and standard libraries. Computes sums; whoever calls it judges them.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::analysis::{Growth, Order, keep_places, rank};
use crate::report::{Frame, Site, Verdict};
use crate::snapshot::{SiteReading, Snapshot};

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

/// Sites that are one, with their indexes in the kernel's table. The stack that is shown is that of the
/// strongest verdict.
struct Group {
    shown: Site,
    members: Vec<u32>,
}

/// The sites that hold something, in their order, and all that are empty: what these have taken and given
/// back belongs to their group at any moment of the reading.
pub(super) fn with_empty<'a>(
    live: Vec<&'a SiteReading>,
    snapshot: &'a Snapshot,
) -> impl Iterator<Item = &'a SiteReading> {
    let all = snapshot.sites.iter();
    let empty = all.filter(|site| site.totals.live_count == 0);
    live.into_iter().chain(empty)
}

/// Merges the sites that are one, and lists `count` of them (0: all) that hold something, the top one
/// first. Sites that are empty come last. `growth_of` says how sites with these indexes grow together.
pub(super) fn group(
    sites: impl IntoIterator<Item = (u32, Site)>,
    by: GroupBy,
    order: Order,
    count: usize,
    growth_of: impl Fn(&[u32]) -> Growth,
) -> Vec<Site> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<(&'static str, String), usize> = HashMap::new();
    for (index, site) in sites {
        let key = (site.source, key(&site, by));
        match places.get(&key) {
            Some(place) => groups[*place].absorb(index, site),
            None => {
                let id = id_of(&key);
                places.insert(key, groups.len());
                groups.push(Group {
                    shown: Site { id, ..site },
                    members: vec![index],
                });
            }
        }
    }
    groups.retain(|group| group.shown.live_count != Some(0));
    let judged = groups.into_iter().map(|group| group.judged(&growth_of));
    let mut groups: Vec<Site> = judged.collect();
    sort(&mut groups, order);
    let count = if count == 0 { groups.len() } else { count };
    if order == Order::Growth {
        keep_places(&mut groups, count, |site| site.verdict == Verdict::Leaking);
    }
    groups.truncate(count);
    groups
}

impl Group {
    /// Adds a site.
    fn absorb(&mut self, index: u32, site: Site) {
        self.members.push(index);
        let group = &mut self.shown;
        let is_stronger =
            site.live_count != Some(0) && strength(site.verdict) > strength(group.verdict);
        let (mut kept, other) = match is_stronger {
            true => {
                let id = std::mem::take(&mut group.id);
                (Site { id, ..site }, std::mem::take(group))
            }
            false => (std::mem::take(group), site),
        };
        kept.live_bytes += other.live_bytes;
        let counts = kept.live_count.zip(other.live_count);
        kept.live_count = counts.map(|(one, other)| one + other);
        kept.allocated_bytes += other.allocated_bytes;
        kept.allocated_count += other.allocated_count;
        kept.stacks += other.stacks;
        kept.empty_stacks += other.empty_stacks;
        kept.live_bytes_since_s = None;
        *group = kept;
    }

    /// What is said of all together. A leak in it is one of the whole, unless the whole grows by less
    /// beyond doubt: then others give back what it takes.
    fn judged(self, growth_of: &impl Fn(&[u32]) -> Growth) -> Site {
        let Self { shown, members } = self;
        if members.len() < 2 {
            return shown;
        }
        let whole = growth_of(&members);
        let leaks = shown.verdict == Verdict::Leaking
            && match (
                shown.growth_interval_bytes_per_s,
                whole.interval_bytes_per_s,
            ) {
                (Some([low, _]), Some([_, high])) => high >= low,
                _ => true,
            };
        let verdict = if leaks {
            Verdict::Leaking
        } else {
            whole.verdict
        };
        let stacks = shown.stacks;
        let word = shown.verdict.word();
        let reason = match verdict == whole.verdict {
            true if verdict == shown.verdict => {
                format!("{stacks} stacks together: {}", whole.words())
            }
            true => {
                let words = whole.words();
                format!("{stacks} stacks together: {words}; the one that is shown is {word}")
            }
            false => {
                let why = &shown.reason;
                format!("{stacks} stacks; the one that is shown is {word}: {why}")
            }
        };
        Site {
            growth_bytes_per_s: whole.bytes_per_s,
            growth_interval_bytes_per_s: whole.interval_bytes_per_s,
            verdict,
            reason,
            ..shown
        }
    }
}

fn sort(groups: &mut [Site], order: Order) {
    let rank = |site: &Site| {
        let interval = site.growth_interval_bytes_per_s;
        rank(site.verdict, site.growth_bytes_per_s, interval)
    };
    groups.sort_by(|a, b| {
        let first = match order {
            Order::Growth => rank(b).total_cmp(&rank(a)),
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
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#[path = "grouping_tests.rs"]
mod tests;

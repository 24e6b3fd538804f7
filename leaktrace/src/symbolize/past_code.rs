//! Which code a stack was taken in, when other code has come to its addresses since: a name that was
//! right when the blocks were counted is not exchanged for that of a later library. Names with the
//! mappings of that time; where both may have allocated, not at all.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Frame, Naming};
use crate::snapshot::SiteReading;
use crate::target::Mappings;

/// What frames are said to be in that may be of one library or another.
const REPLACED: &str = "[replaced code]";

/// The code of a process that has gone, and the sites that were in it.
#[derive(Debug, Default)]
pub struct PastCode {
    /// Addresses that have had the code of several files.
    replaced: Vec<Range<u64>>,
    /// Addresses of code that is not there, with no other in its place that was seen.
    absent: Vec<Range<u64>>,
    /// Sites, by the id of their stack, that were there when code of theirs went.
    sites: HashMap<u64, Past>,
}

/// A site when its code went.
#[derive(Debug)]
struct Past {
    /// What was mapped while it was counted.
    mappings: Arc<Mappings>,
    /// Allocations that were counted in that code; absent when that is not known.
    allocated_count: Option<u64>,
}

/// Whose code the frames of a site are.
enum Code<'a> {
    /// What is mapped now.
    Present,
    /// What was mapped then.
    Past(&'a Mappings),
    /// One or the other.
    Unknown,
}

impl PastCode {
    /// Takes note that code was removed from these addresses (`gone`). `before` is what was mapped
    /// while it was there, `sites` are all that have allocated by now, and `counted` says how
    /// often a stack had while the code was certainly still there, or certainly no other.
    pub fn remove(
        &mut self,
        gone: &[Range<u64>],
        before: &Arc<Mappings>,
        sites: &[SiteReading],
        counted: impl Fn(u64) -> Option<u64>,
    ) {
        for site in sites.iter().filter(|site| is_in(site, gone)) {
            let id = site.stack.id;
            let allocated_count = counted(id);
            let was_replaced = is_in(site, &self.replaced);
            match self.sites.get_mut(&id) {
                // Of the code before that one.
                Some(past)
                    if was_replaced
                        && past.allocated_count == Some(site.totals.allocated_count) => {}
                Some(past) if was_replaced => past.allocated_count = None,
                _ => {
                    let mappings = Arc::clone(before);
                    let past = Past {
                        mappings,
                        allocated_count,
                    };
                    self.sites.insert(id, past);
                }
            }
        }
    }

    /// Takes note of the addresses that have other code now (`replaced`): sites that have not been named
    /// to [`PastCode::remove`] are in that. And of those whose code is gone still (`absent`): what
    /// allocates there all the same was not seen.
    pub fn replace(&mut self, replaced: Vec<Range<u64>>, absent: Vec<Range<u64>>) {
        self.absent = absent;
        for range in replaced {
            if !self.replaced.contains(&range) {
                self.replaced.push(range);
            }
        }
    }

    /// The frames of a site, see [`Naming::name`].
    pub fn name(
        &self,
        naming: &mut dyn Naming,
        present: &Mappings,
        site: &SiteReading,
    ) -> Vec<Vec<Frame>> {
        let addresses = &site.stack.frames;
        match self.code_of(site) {
            Code::Present => naming.name(present, addresses),
            Code::Past(mappings) => naming.name(mappings, addresses),
            Code::Unknown => {
                let names = naming.name(present, addresses).into_iter().zip(addresses);
                names
                    .map(|(names, address)| match self.is_in_doubt(*address) {
                        true => vec![Frame {
                            module: Some(REPLACED.to_owned()),
                            address: *address,
                            ..Frame::default()
                        }],
                        false => names,
                    })
                    .collect()
            }
        }
    }

    /// Says of how many sites that hold something it is not known whose code they are.
    pub fn notice(&self, sites: &[SiteReading]) -> Option<String> {
        let held = sites.iter().filter(|site| site.totals.live_count > 0);
        let unknown = held.filter(|site| matches!(self.code_of(site), Code::Unknown));
        let count = unknown.count();
        let whose = match count {
            0 => return None,
            1 => "1 site is".to_owned(),
            count => format!("{count} sites are"),
        };
        Some(format!(
            "libraries were unloaded, and others came to their addresses: {whose} of the one, of the other \
             or of both, and the frames there have no names ({REPLACED})"
        ))
    }

    fn code_of(&self, site: &SiteReading) -> Code<'_> {
        let is_absent = is_in(site, &self.absent);
        if !is_absent && !is_in(site, &self.replaced) {
            return Code::Present;
        }
        match self.sites.get(&site.stack.id) {
            Some(past) if past.allocated_count == Some(site.totals.allocated_count) => {
                Code::Past(&past.mappings)
            }
            None if !is_absent => Code::Present,
            _ => Code::Unknown,
        }
    }

    fn is_in_doubt(&self, address: u64) -> bool {
        contains(&self.replaced, address) || contains(&self.absent, address)
    }
}

fn is_in(site: &SiteReading, ranges: &[Range<u64>]) -> bool {
    !ranges.is_empty()
        && site
            .stack
            .frames
            .iter()
            .any(|frame| contains(ranges, *frame))
}

/// By the call, which ends at the byte before the return address.
fn contains(ranges: &[Range<u64>], address: u64) -> bool {
    let call = address.saturating_sub(1);
    ranges.iter().any(|range| range.contains(&call))
}

#[cfg(test)]
#[path = "past_code_tests.rs"]
mod tests;

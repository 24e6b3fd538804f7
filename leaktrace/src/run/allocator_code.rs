//! Mappings that an allocator makes for itself while it frees: they are its own memory, like those
//! that it makes while it allocates, which the kernel side tells apart by the pending call. A free
//! has none.

use std::collections::HashSet;
use std::ops::Range;

use leaktrace_common::stack::Source;

use crate::allocators::{Detection, Family};
use crate::snapshot::SiteReading;
use crate::target::{FileId, Mappings, Object};

/// The functions of a process that free, where their code is, and what was mapped inside them.
#[derive(Clone, Debug, Default)]
pub(super) struct FreeCode {
    functions: Vec<Function>,
    /// Where they are now.
    code: Vec<Range<u64>>,
    /// Stacks of mappings that were made inside them, also of those that have gone: other code can be there.
    own: HashSet<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Function {
    file: FileId,
    file_offset: u64,
    size_bytes: u64,
}

impl FreeCode {
    /// Takes note of the functions that were detected. Where they are is not known yet.
    pub(super) fn add(&mut self, detection: &Detection, objects: &[Object]) {
        let frees = detection.functions.iter().filter(|found| {
            found.signature.is_free() && matches!(found.family, Family::Heap | Family::Operators)
        });
        self.functions.extend(frees.filter_map(|found| {
            Some(Function {
                file: objects.get(found.object)?.file_id(),
                file_offset: found.file_offset,
                size_bytes: found.size_bytes,
            })
        }));
    }

    /// The functions are where they are mapped now.
    pub(super) fn place(&mut self, now: &Mappings) {
        self.code = self.present(now);
    }

    /// Keeps in mind which sites are theirs: these were counted while they were where they are known to be.
    pub(super) fn note(&mut self, sites: &[SiteReading]) {
        let own = sites.iter().filter(|site| is_inside(site, &self.code));
        self.own.extend(own.map(|site| site.stack.id));
    }

    /// Whether a site is a mapping that was made inside one of the functions.
    pub(super) fn has_mapped(&self, site: &SiteReading) -> bool {
        self.own.contains(&site.stack.id) || is_inside(site, &self.code)
    }

    fn present(&self, now: &Mappings) -> Vec<Range<u64>> {
        let functions = self.functions.iter();
        let places = functions.flat_map(|function| {
            let own = now
                .executable()
                .filter(|mapping| mapping.file == Some(function.file));
            own.filter_map(|mapping| {
                let start = mapping.address_of(function.file_offset)?;
                Some(start..start.saturating_add(function.size_bytes))
            })
        });
        places.collect()
    }
}

fn is_inside(site: &SiteReading, frees: &[Range<u64>]) -> bool {
    // A return address may be the first one behind a function that ends with a call.
    let is_inside = |frame: &u64| {
        frees
            .iter()
            .any(|code| code.contains(&frame.wrapping_sub(1)))
    };
    site.stack.source == Source::Mmap && site.stack.frames.iter().any(is_inside)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leaktrace_common::stack::StackEnd;

    use super::*;
    use crate::snapshot::{Stack, Totals};

    fn site(source: Source, frames: &[u64]) -> SiteReading {
        SiteReading {
            index: 1,
            stack: Arc::new(Stack {
                id: 1,
                source,
                end: StackEnd::Complete,
                frames: frames.to_vec(),
            }),
            totals: Totals::default(),
            live_by_birth: None,
        }
    }

    #[test]
    fn only_mappings_inside_a_free_are_the_allocators() {
        let mut frees = FreeCode {
            code: vec![0x1000..0x1100, 0x3000..0x3010],
            ..FreeCode::default()
        };
        let own = |source, frames: &[u64]| frees.has_mapped(&site(source, frames));
        assert!(own(Source::Mmap, &[0x5000, 0x1080, 0x9000]));
        assert!(own(Source::Mmap, &[0x1100]));
        assert!(!own(Source::Mmap, &[0x1000]));
        assert!(!own(Source::Mmap, &[0x5000, 0x9000]));
        assert!(!own(Source::Heap, &[0x1080]));
        let before = site(Source::Mmap, &[0x1080]);
        let mut after = site(Source::Mmap, &[0x1090]);
        after.stack = Arc::new(Stack {
            id: 2,
            ..(*after.stack).clone()
        });
        frees.note(std::slice::from_ref(&before));
        frees.place(&Mappings::default());
        assert!(frees.has_mapped(&before));
        assert!(!frees.has_mapped(&after), "other code is there now");
    }
}

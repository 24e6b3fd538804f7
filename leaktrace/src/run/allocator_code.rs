//! Mappings that an allocator makes for itself while it frees: they are its own memory, like those
//! that it makes while it allocates, which the kernel side tells apart by the pending call. A free
//! has none.

use std::ops::Range;

use leaktrace_common::stack::Source;

use crate::allocators::{Detection, Family};
use crate::snapshot::SiteReading;
use crate::target::{Mappings, Object};

/// Where the functions that free have their code in the process.
pub(super) fn code_of_frees(
    detection: &Detection,
    objects: &[Object],
    mappings: &Mappings,
) -> Vec<Range<u64>> {
    let frees = detection.functions.iter().filter(|found| {
        found.signature.is_free() && matches!(found.family, Family::Heap | Family::Operators)
    });
    frees
        .filter_map(|found| {
            let file = objects.get(found.object)?.file_id();
            let start = mappings
                .executable()
                .filter(|mapping| mapping.file == Some(file))
                .find_map(|mapping| mapping.address_of(found.file_offset))?;
            Some(start..start.saturating_add(found.size_bytes))
        })
        .collect()
}

/// Whether a site is a mapping that was made inside one of these functions.
pub(super) fn is_allocators_own(site: &SiteReading, frees: &[Range<u64>]) -> bool {
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
        let frees = [0x1000..0x1100, 0x3000..0x3010];
        let own = |source, frames: &[u64]| is_allocators_own(&site(source, frames), &frees);
        assert!(own(Source::Mmap, &[0x5000, 0x1080, 0x9000]));
        assert!(own(Source::Mmap, &[0x1100]));
        assert!(!own(Source::Mmap, &[0x1000]));
        assert!(!own(Source::Mmap, &[0x5000, 0x9000]));
        assert!(!own(Source::Heap, &[0x1080]));
    }
}

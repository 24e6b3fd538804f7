//! Decides how much of an object the symboliser may be given. Its owner wrote it, and blazesym
//! 0.2.7 follows what it says: opens the files that it names and inflates what it says is packed.
//! Pure.

use crate::target::Section;

/// Objects larger than this are not given to the symboliser: their tables would not fit.
const MAX_OBJECT_BYTES: u64 = 2 << 30;

/// Debug information is not inflated to more than this.
const MAX_INFLATED_BYTES: u64 = 1 << 30;

/// The most that deflate packs: 258 bytes into two bits.
const MAX_DEFLATE_RATIO: u64 = 1032;

/// Sections that make blazesym open another file. An empty list of debug directories does not stop
/// it: the directory of the object counts as one, and an absolute name replaces it. What is opened
/// there is a file of this machine, not of the target, or a FIFO that never answers.
const LINKS: [&str; 3] = [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"];

/// What names are taken from. A failure leads to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Debug information, then symbols.
    Debug,
    /// Symbols alone.
    Symbols,
    /// Nothing: frames stay `module+0xoffset`.
    Nothing,
}

impl Depth {
    /// The depth for an object of this size with these sections.
    pub(super) fn of(size_bytes: u64, sections: &[Section]) -> Self {
        let packed = |section: &&Section| section.inflated_bytes.is_some();
        let is_debug = |section: &Section| section.name.starts_with(".debug_");
        if size_bytes > MAX_OBJECT_BYTES
            || sections
                .iter()
                .filter(packed)
                .any(|section| !is_debug(section))
        {
            return Self::Nothing;
        }
        let inflated_bytes = sections
            .iter()
            .filter_map(|section| {
                let stated = section.inflated_bytes?;
                // blazesym takes the stated size for a hint and inflates to the end.
                Some(stated.max(section.size_bytes.saturating_mul(MAX_DEFLATE_RATIO)))
            })
            .fold(0, u64::saturating_add);
        let links = sections
            .iter()
            .any(|section| LINKS.contains(&section.name.as_str()));
        match links || inflated_bytes > MAX_INFLATED_BYTES {
            true => Self::Symbols,
            false => Self::Debug,
        }
    }

    /// What to try when this one failed.
    pub(super) fn less(self) -> Self {
        match self {
            Self::Debug => Self::Symbols,
            Self::Symbols | Self::Nothing => Self::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(name: &str, inflated_bytes: Option<u64>) -> Section {
        Section {
            name: name.to_owned(),
            size_bytes: 100,
            inflated_bytes,
        }
    }

    #[test]
    fn ordinary_objects_are_read_to_the_bottom() {
        let sections = [
            section(".text", None),
            section(".debug_info", Some(5 << 20)),
        ];
        assert_eq!(Depth::of(10 << 20, &sections), Depth::Debug);
        assert_eq!(Depth::of(10 << 20, &[]), Depth::Debug);
    }

    #[test]
    fn links_to_other_files_are_not_followed() {
        for link in LINKS {
            let sections = [section(".text", None), section(link, None)];
            assert_eq!(Depth::of(1000, &sections), Depth::Symbols);
        }
    }

    #[test]
    fn what_inflates_to_too_much_is_left_alone() {
        let lie = [section(".debug_info", Some(1 << 40))];
        assert_eq!(Depth::of(1000, &lie), Depth::Symbols);
        let many = [
            section(".debug_info", Some(u64::MAX)),
            section(".debug_line", Some(u64::MAX)),
        ];
        assert_eq!(Depth::of(1000, &many), Depth::Symbols);
        let symbols = [section(".strtab", Some(10))];
        assert_eq!(Depth::of(1000, &symbols), Depth::Nothing);
    }

    #[test]
    fn huge_objects_are_not_read() {
        assert_eq!(Depth::of(3 << 30, &[]), Depth::Nothing);
    }

    #[test]
    fn every_failure_leads_closer_to_nothing() {
        assert_eq!(Depth::Debug.less(), Depth::Symbols);
        assert_eq!(Depth::Symbols.less(), Depth::Nothing);
        assert_eq!(Depth::Nothing.less(), Depth::Nothing);
    }
}

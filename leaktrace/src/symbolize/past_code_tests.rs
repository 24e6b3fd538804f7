//! Whose name a stack gets when one library follows another at the same addresses.

use leaktrace_common::stack::{Source, StackEnd};

use super::*;
use crate::snapshot::{Stack, Totals};

/// Says the file that is mapped there.
struct ByFile;

impl Naming for ByFile {
    fn name(&mut self, mappings: &Mappings, addresses: &[u64]) -> Vec<Vec<Frame>> {
        let frame = |address: &u64| Frame {
            address: *address,
            module: mappings
                .containing(address - 1)
                .map(|mapping| mapping.path.to_string_lossy().into_owned()),
            ..Frame::default()
        };
        addresses
            .iter()
            .map(|address| vec![frame(address)])
            .collect()
    }
}

fn library(inode: u32, path: &str) -> Arc<Mappings> {
    let text = format!(
        "1000-2000 r-xp 00000000 fe:00 1 /program\n3000-7000 r-xp 00001000 fe:00 {inode} {path}\n"
    );
    Arc::new(Mappings::parse(text.as_bytes()))
}

fn site(id: u64, allocated_count: u64) -> SiteReading {
    let totals = Totals {
        allocated_count,
        live_count: allocated_count,
        ..Totals::default()
    };
    let stack = Stack {
        id,
        source: Source::Heap,
        end: StackEnd::Complete,
        frames: vec![0x3100, 0x1100],
    };
    SiteReading {
        stack: Arc::new(stack),
        ..SiteReading::of_numbers(id as u32, totals, None)
    }
}

fn module(past: &PastCode, present: &Mappings, site: &SiteReading) -> String {
    let frames = past.name(&mut ByFile, present, site);
    assert_eq!(frames[1][0].module.as_deref(), Some("/program"));
    frames[0][0].module.clone().unwrap_or_default()
}

/// `/a.so` was there with these sites, of which so many allocations are certain, and `/b.so` has come.
fn after_b(sites: &[SiteReading], certain: Option<u64>) -> (PastCode, Arc<Mappings>) {
    let (a, b) = (library(2, "/a.so"), library(3, "/b.so"));
    let mut past = PastCode::default();
    past.remove(&a.code_gone_from(&b), &a, sites, |_| certain);
    past.replace(a.code_replaced_by(&b), Vec::new());
    (past, b)
}

#[test]
fn a_site_that_has_not_changed_keeps_its_name() {
    let (past, b) = after_b(&[site(1, 10)], Some(10));
    assert_eq!(module(&past, &b, &site(1, 10)), "/a.so");
    assert_eq!(past.notice(&[site(1, 10)]), None);
}

#[test]
fn a_site_in_which_both_may_have_allocated_has_no_name_and_is_said() {
    for (certain, now) in [(Some(10), 11), (None, 10), (Some(9), 10)] {
        let (past, b) = after_b(&[site(1, 10)], certain);
        assert_eq!(module(&past, &b, &site(1, now)), REPLACED);
        let notice = past.notice(&[site(1, now), site(2, 5)]).unwrap_or_default();
        assert!(notice.contains("1 site is"), "{notice}");
    }
}

#[test]
fn a_site_that_was_not_there_before_is_the_new_library_s() {
    let (past, b) = after_b(&[site(1, 10)], Some(10));
    assert_eq!(module(&past, &b, &site(2, 10)), "/b.so");
}

#[test]
fn what_comes_back_to_its_place_has_its_name_all_along() {
    let a = library(2, "/a.so");
    let mut past = PastCode::default();
    let nothing = Mappings::default();
    past.remove(&a.code_gone_from(&nothing), &a, &[site(1, 10)], |_| None);
    past.replace(a.code_replaced_by(&a), Vec::new());
    assert_eq!(module(&past, &a, &site(1, 99)), "/a.so");
}

#[test]
fn of_three_libraries_each_keeps_its_own() {
    let (mut past, b) = after_b(&[site(1, 10)], Some(10));
    let c = library(4, "/c.so");
    let now = [site(1, 10), site(2, 20), site(3, 30)];
    let counted = |id| (id < 3).then_some(id * 10);
    past.remove(&b.code_gone_from(&c), &b, &now, counted);
    past.replace(b.code_replaced_by(&c), Vec::new());
    assert_eq!(module(&past, &c, &site(1, 10)), "/a.so");
    assert_eq!(module(&past, &c, &site(2, 20)), "/b.so");
    assert_eq!(module(&past, &c, &site(3, 30)), REPLACED);
    assert_eq!(module(&past, &c, &site(1, 11)), REPLACED);
    assert_eq!(module(&past, &c, &site(4, 1)), "/c.so");
}

#[test]
fn what_allocates_where_no_code_was_seen_has_no_name() {
    let a = library(2, "/a.so");
    let mut past = PastCode::default();
    let program = Mappings::parse(b"1000-2000 r-xp 00000000 fe:00 1 /program\n");
    let gone = a.code_gone_from(&program);
    past.remove(&gone, &a, &[site(1, 10)], |_| Some(10));
    past.replace(Vec::new(), gone);
    assert_eq!(module(&past, &a, &site(1, 10)), "/a.so");
    assert_eq!(module(&past, &a, &site(1, 11)), REPLACED);
    assert_eq!(module(&past, &a, &site(2, 1)), REPLACED);
}

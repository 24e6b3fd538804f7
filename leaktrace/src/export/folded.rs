//! Reports → folded stacks: one line a stack, root first, with its live bytes. Opens no file.

use std::collections::{BTreeMap, BTreeSet};

use crate::report::{Report, Site};

use super::sanitize::folded_frame;

/// Every site of these reports as `comm;outer;…;inner bytes`, equal stacks summed, sorted. A
/// frame `[heap]` or `[mmap]` follows the process only where both occur, and the process is
/// `comm (pid N)` only where there are several. Sites that hold no byte are left out.
pub fn folded(reports: &[&Report]) -> Vec<u8> {
    let mut out = Vec::new();
    for (stack, live_bytes) in stacks(reports) {
        out.extend_from_slice(format!("{stack} {live_bytes}\n").as_bytes());
    }
    out
}

/// Live bytes by folded stack.
pub(super) fn stacks(reports: &[&Report]) -> BTreeMap<String, u64> {
    let holding = |site: &&Site| site.live_bytes > 0;
    let sources: BTreeSet<&str> = reports
        .iter()
        .flat_map(|report| report.sites.iter().filter(holding))
        .map(|site| site.source)
        .collect();
    let mut stacks = BTreeMap::new();
    for report in reports {
        let process = if reports.len() > 1 {
            format!("{} (pid {})", report.comm, report.pid)
        } else {
            report.comm.clone()
        };
        for site in report.sites.iter().filter(holding) {
            let stack = stack(&process, site, sources.len() > 1);
            *stacks.entry(stack).or_insert(0) += site.live_bytes;
        }
    }
    stacks
}

fn stack(process: &str, site: &Site, with_source: bool) -> String {
    let mut frames = vec![folded_frame(process)];
    if with_source {
        frames.push(format!("[{}]", site.source));
    }
    if site.frames.is_empty() {
        frames.push("[no stack]".to_owned());
    }
    let outermost_first = site.frames.iter().rev();
    frames.extend(outermost_first.map(|frame| folded_frame(&frame.label())));
    frames.join(";")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::export::samples;

    fn text(reports: &[&Report]) -> String {
        String::from_utf8(folded(reports)).unwrap()
    }

    #[test]
    fn stacks_are_root_first_with_live_bytes() {
        insta::assert_snapshot!(text(&[&samples::report()]));
    }

    #[test]
    fn heap_alone_has_no_source_frame_and_equal_stacks_are_summed() {
        let mut report = samples::report();
        report.sites.retain(|site| site.source == "heap");
        report.sites.truncate(1);
        report.sites.push(report.sites[0].clone());
        let live_bytes = report.sites[0].live_bytes * 2;
        assert_eq!(
            text(&[&report]),
            format!("api;__libc_start_main;main;handle;leak_a {live_bytes}\n")
        );
    }

    #[test]
    fn several_processes_stay_apart() {
        let (one, mut other) = (samples::report(), samples::report());
        other.pid = 4243;
        let text = text(&[&one, &other]);
        assert!(text.contains("api (pid 4242);"));
        assert!(text.contains("api (pid 4243);"));
    }

    #[test]
    fn hostile_names_cannot_forge_frames_lines_or_counts() {
        let report = samples::hostile();
        let text = text(&[&report]);
        assert_eq!(text.lines().count(), 1);
        let (stack, bytes) = text.trim_end().rsplit_once(' ').unwrap();
        assert_eq!(bytes.parse(), Ok(report.sites[0].live_bytes));
        assert_eq!(stack.split(';').count(), 1 + report.sites[0].frames.len());
        assert!(
            !text
                .trim_end()
                .chars()
                .any(crate::export::sanitize::is_unsafe)
        );
    }

    #[test]
    fn nothing_live_is_an_empty_file() {
        assert!(folded(&[&samples::empty()]).is_empty());
        assert!(folded(&[]).is_empty());
    }
}

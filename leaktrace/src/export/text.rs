//! A report → text for people: at most 100 columns, aligned, in human units. Every name passes
//! `sanitize`; nothing is computed but shares.

use std::fmt::Write;

use crate::report::{Report, Site, Verdict};

use super::brief;
use super::churn_text::push_churn;
use super::columns::{pad_right, wrap, wrap_pieces};
use super::memory_text;
use super::pairs_text;
use super::sanitize::plain;
use super::stack_text::push_stack;
use crate::units;

pub use super::brief::Detail;

/// How text may look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Whether verdicts are coloured: only ever on a terminal.
    pub colour: bool,
    /// How much is said.
    pub detail: Detail,
}

/// The report as text. Ends with an empty line, so that the next one stands apart, but for a child that
/// is said in a line.
pub fn report(report: &Report, style: Style) -> String {
    let mut out = String::new();
    if brief::is_quiet_child(report, style.detail) {
        push_line_of_child(&mut out, report);
        push_remarks(&mut out, report);
        return out;
    }
    push_header(&mut out, report);
    if report.sites.is_empty() {
        out.push_str(&wrap("", &nothing_listed(report)));
    } else {
        let listed = brief::listed(report, style.detail);
        push_sites(&mut out, report, &listed, style);
        push_unlisted(&mut out, report, &listed);
    }
    pairs_text::push_sites(&mut out, report);
    push_churn(&mut out, report);
    out.push('\n');
    out
}

fn push_line_of_child(out: &mut String, report: &Report) {
    let mut text = format!("{}: {}", title(report), heap(report));
    if let Some(mapped) = report
        .mapped
        .as_ref()
        .filter(|mapped| mapped.live_bytes > 0)
    {
        // Writing to a String cannot fail.
        let _ = write!(text, ", {} mapped", units::bytes(mapped.live_bytes));
    }
    out.push_str(&wrap("", &text));
}

/// What the report is about.
fn title(report: &Report) -> String {
    let kind = if report.is_final {
        "final report".to_owned()
    } else {
        format!("report {}", report.seq)
    };
    let comm = plain(&report.comm);
    let after = units::elapsed(report.elapsed_s);
    format!("pid {} ({comm}) after {after}, {kind}", report.pid)
}

fn push_header(out: &mut String, report: &Report) {
    let time = humantime::format_rfc3339_seconds(report.time);
    out.push_str(&wrap("", &format!("{}, {time}", title(report))));
    let process = [
        ("  rss   ", memory_text::resident(report)),
        ("  of it ", memory_text::owners(report)),
        ("  next  ", report.process.next_tool.clone()),
        ("  limit ", memory_text::limits(report)),
    ];
    for (label, text) in process {
        if let Some(text) = text {
            out.push_str(&wrap(label, &text));
        }
    }
    out.push_str(&wrap("  heap  ", &heap(report)));
    if let Some(mapped) = &report.mapped {
        let (bytes, count) = (units::bytes(mapped.live_bytes), mapped.live_count);
        let mut text = format!("{bytes} live in {}", units::counted(count, "mapping"));
        if mapped.reserved_bytes > 0 {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                ", {} of it only reserved",
                units::bytes(mapped.reserved_bytes)
            );
        }
        out.push_str(&wrap("  mmap  ", &text));
    }
    pairs_text::push_totals(out, report);
    if let Some(cut) = cut_stacks(report) {
        out.push_str(&wrap("  cut   ", &cut));
    }
    push_remarks(out, report);
}

/// What was lost, and what else the reader should know.
fn push_remarks(out: &mut String, report: &Report) {
    let lost: Vec<String> = report
        .losses
        .iter()
        // A cut stack loses no byte; what is cut has a line of its own.
        .filter(|(name, count)| **count > 0 && *name != "stack_truncated")
        .map(|(name, count)| format!("{} {}", plain(name), units::count(*count)))
        .collect();
    if !lost.is_empty() {
        let lost = lost.join(",\n");
        out.push_str(&wrap_pieces("  lost  ", lost.lines()));
    }
    for change in &report.alert_changes {
        out.push_str(&wrap("  alert ", &plain(change)));
    }
    for notice in &report.notices {
        out.push_str(&wrap("  note  ", &plain(notice)));
    }
}

/// Allocations whose stack is cut, by the reason.
fn cut_stacks(report: &Report) -> Option<String> {
    let reasons = report
        .truncated_stacks
        .iter()
        .filter(|(_, count)| **count > 0);
    let total: u64 = reasons.clone().map(|(_, count)| count).sum();
    let reasons: Vec<String> = reasons
        .map(|(reason, count)| format!("{reason} {}", units::count(*count)))
        .collect();
    (total > 0).then(|| {
        let whose = units::counted(total, "allocation");
        format!("the stacks of {whose} are cut: {}", reasons.join(", "))
    })
}

fn heap(report: &Report) -> String {
    let totals = &report.totals;
    let mut text = format!(
        "{} live in {}{} ({} allocated, {} freed)",
        units::bytes(totals.live_bytes),
        blocks(totals.live_count, "block"),
        report
            .older_counted_s
            .or(report.older_s)
            .map_or_else(String::new, |older_s| format!(
                " that are at least {} old, of all",
                units::elapsed(older_s)
            )),
        units::count(totals.allocated_count),
        units::count(totals.freed_count),
    );
    if let Some(frees) = totals.unmatched_frees.filter(|frees| *frees > 0) {
        let unmatched = units::counted(frees, "unmatched free");
        // Writing to a String cannot fail.
        let _ = write!(text, ", {unmatched}");
    }
    text
}

/// What was seen, where no site is listed.
fn nothing_listed(report: &Report) -> String {
    let totals = &report.totals;
    let mapped_count = report.mapped.as_ref().map_or(0, |mapped| mapped.live_count);
    let live_count = totals.live_count.unwrap_or(0) + mapped_count;
    if live_count > 0 {
        let live = units::counted(live_count, "block");
        return format!("{live} live, none of them at a site that is listed");
    }
    if totals.allocated_count == 0 {
        let after = units::elapsed(report.elapsed_s);
        return format!("no allocation was seen in {after}");
    }
    let allocated = units::counted(totals.allocated_count, "allocation");
    if totals.freed_count >= totals.allocated_count {
        return format!("nothing live: {allocated}, all freed");
    }
    let freed = units::count(totals.freed_count);
    let what = match report.older_s {
        Some(older_s) => format!("nothing live that is {} old", units::elapsed(older_s)),
        None => "nothing live".to_owned(),
    };
    format!("{what}: {allocated}, {freed} freed")
}

/// The cells of the line above a stack.
struct Heading {
    rank: String,
    rate: String,
    verdict: Verdict,
    bytes: String,
    blocks: String,
    share: String,
    id: String,
}

fn push_sites(out: &mut String, report: &Report, sites: &[&Site], style: Style) {
    let headings: Vec<Heading> = (1..)
        .zip(sites)
        .map(|(rank, site)| heading(rank, site, report))
        .collect();
    let widest = |cell: fn(&Heading) -> &str| {
        headings
            .iter()
            .map(|heading| cell(heading).len())
            .max()
            .unwrap_or(0)
    };
    let (rank, rate) = (widest(|h| &h.rank), widest(|h| &h.rate));
    let (bytes, blocks) = (widest(|h| &h.bytes), widest(|h| &h.blocks));
    let share = widest(|h| &h.share);
    for (h, site) in headings.iter().zip(sites) {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "\n{}  {:>rate$}  {}  {:>bytes$} in {}  {:>share$}  id {}",
            pad_right(&h.rank, rank),
            h.rate,
            painted(h.verdict, style),
            h.bytes,
            pad_right(&h.blocks, blocks),
            h.share,
            h.id,
        );
        out.push_str(&wrap("      ", &plain(&site.reason)));
        let most_frames = brief::most_frames(site, style.detail);
        push_stack(
            out,
            &site.frames,
            site.suspect_frame,
            site.truncated,
            most_frames,
        );
    }
}

fn heading(rank: usize, site: &Site, report: &Report) -> Heading {
    let (noun, whole_bytes) = match (site.source, &report.mapped) {
        ("mmap", Some(mapped)) => ("mapping", mapped.live_bytes),
        ("mmap", None) => ("mapping", site.live_bytes),
        _ => ("block", report.totals.live_bytes),
    };
    let share = units::share(site.live_bytes, whole_bytes);
    Heading {
        rank: format!("#{rank}"),
        rate: rate(site),
        verdict: site.verdict,
        bytes: units::bytes(site.live_bytes),
        blocks: blocks(site.live_count, noun),
        share: format!("{share} of {}", site.source),
        id: short_id(&site.id),
    }
}

/// How many there are, if that is known.
fn blocks(count: Option<u64>, noun: &str) -> String {
    match count {
        Some(count) => units::counted(count, noun),
        None => format!("? {noun}s"),
    }
}

/// The growth in its column. What moves and is judged to be at rest has a slope by chance; the line below
/// says it with its interval.
fn rate(site: &Site) -> String {
    let is_chance = site.verdict == Verdict::Steady
        && site.growth_bytes_per_s != Some(0.0)
        && site
            .growth_interval_bytes_per_s
            .is_some_and(|[low, high]| low <= 0.0 && high >= 0.0);
    match site.growth_bytes_per_s {
        Some(_) if is_chance => "~0 B/s".to_owned(),
        Some(rate) => units::rate(rate),
        None => "? B/s".to_owned(),
    }
}

/// The first half of an id: enough to find it among the JSON lines.
fn short_id(id: &str) -> String {
    let id = plain(id);
    match id.char_indices().nth(8) {
        Some((end, _)) => format!("{}…", &id[..end]),
        None => id.into_owned(),
    }
}

/// The verdict, padded to the longest one, in its colour if there may be one.
fn painted(verdict: Verdict, style: Style) -> String {
    let word = format!("{:<9}", verdict.word());
    let code = match verdict {
        Verdict::Leaking => "1;31",
        Verdict::Growing => "33",
        Verdict::Shrinking => "32",
        Verdict::Steady | Verdict::Unknown => return word,
    };
    if style.colour {
        format!("\x1b[{code}m{word}\x1b[0m")
    } else {
        word
    }
}

/// Says how many sites are left out, and what they hold.
fn push_unlisted(out: &mut String, report: &Report, listed: &[&Site]) {
    // What is listed may be several sites in one, of which some are empty.
    let live_stacks = |site: &Site| site.stacks.saturating_sub(site.empty_stacks);
    let listed_count: u64 = listed.iter().map(|site| live_stacks(site)).sum();
    let left_out = report.site_count.saturating_sub(listed_count);
    if left_out == 0 {
        return;
    }
    let mapped_bytes = report.mapped.as_ref().map_or(0, |mapped| mapped.live_bytes);
    let listed_bytes: u64 = listed.iter().map(|site| site.live_bytes).sum();
    let rest_bytes = (report.totals.live_bytes + mapped_bytes).saturating_sub(listed_bytes);
    let sites = units::counted(left_out, "more site");
    let rest = units::bytes(rest_bytes);
    let reported_count: u64 = report.sites.iter().map(live_stacks).sum();
    let at_rest = reported_count - listed_count;
    let what = match at_rest {
        0 => format!("{sites} with {rest} live"),
        1 if left_out == 1 => {
            format!("{sites} that does not grow and holds less than 1%: {rest}")
        }
        some if some == left_out => {
            format!("{sites} that do not grow and hold less than 1% each, {rest} in all")
        }
        some => format!(
            "{sites} with {rest} live, of which the next {some} do not grow and hold less than 1% each"
        ),
    };
    out.push('\n');
    // What grows and is not listed is said, however many leaks stand before it.
    let fastest = report
        .unlisted_growth_bytes_per_s
        .filter(|rate| *rate > 0.0);
    let fastest = fastest.map_or_else(String::new, |rate| {
        format!(", the fastest at {}", units::rate(rate))
    });
    out.push_str(&wrap("", &format!("… {what}{fastest} (--top 0 lists all)")));
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;

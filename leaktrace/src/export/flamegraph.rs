//! Reports → an interactive flame graph (SVG) of their live bytes. Opens no file; loads nothing
//! from anywhere.

use std::io;

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{Options, from_lines};

use crate::report::Report;

use super::folded;
use super::sanitize::plain;
use crate::units;

/// The flame graph: search, zoom, bytes in the tooltip. An SVG that says so where nothing is
/// live.
///
/// # Errors
///
/// What inferno says of the stacks; none is known for the stacks that are handed to it.
pub fn flamegraph(reports: &[&Report]) -> io::Result<Vec<u8>> {
    let stacks = folded::stacks(reports);
    let title = title(reports);
    // inferno fails on no stacks at all, and leaves an image that speaks of an error.
    if stacks.is_empty() {
        return Ok(empty(&title).into_bytes());
    }
    let lines: Vec<String> = stacks
        .iter()
        .map(|(stack, live_bytes)| format!("{stack} {live_bytes}"))
        .collect();
    let mut options = Options::default();
    options.title = title;
    options.count_name = "bytes".to_owned();
    options.colors = Palette::Basic(BasicPalette::Mem);
    // The same function has the same colour in the next report.
    options.hash = true;
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)?;
    Ok(svg)
}

fn title(reports: &[&Report]) -> String {
    let processes: Vec<String> = reports
        .iter()
        .map(|report| {
            let after = units::elapsed(report.elapsed_s);
            format!("pid {} ({}) after {after}", report.pid, plain(&report.comm))
        })
        .collect();
    format!("Live bytes: {}", processes.join(", "))
}

fn empty(title: &str) -> String {
    format!(
        r#"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="90" viewBox="0 0 1200 90" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="rgb(240,240,240)"/>
<text x="50%" y="35" text-anchor="middle" font-family="monospace" font-size="17">{}</text>
<text x="50%" y="65" text-anchor="middle" font-family="monospace" font-size="12">nothing was live</text>
</svg>
"#,
        xml_text(title)
    )
}

fn xml_text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use roxmltree::{Document, ParsingOptions};

    use super::*;
    use crate::export::samples;

    /// The text of every element of this name; panics where the SVG is not well-formed XML.
    fn texts(svg: &[u8], element: &str) -> Vec<String> {
        let options = ParsingOptions {
            allow_dtd: true,
            ..ParsingOptions::default()
        };
        let text = std::str::from_utf8(svg).unwrap();
        let document = Document::parse_with_options(text, options).unwrap();
        document
            .descendants()
            .filter(|node| node.has_tag_name(("http://www.w3.org/2000/svg", element)))
            .filter_map(|node| node.text().map(str::to_owned))
            .collect()
    }

    #[test]
    fn tooltips_name_functions_with_their_bytes() {
        let svg = flamegraph(&[&samples::report()]).unwrap();
        let tooltips = texts(&svg, "title");
        assert!(
            tooltips
                .iter()
                .any(|tip| tip.starts_with("leak_a (12,897,484 bytes,")),
            "{tooltips:?}"
        );
        assert!(
            texts(&svg, "text").contains(&"Live bytes: pid 4242 (api) after 10.0 s".to_owned())
        );
        let svg = String::from_utf8(svg).unwrap();
        assert!(svg.contains("Search") && svg.contains("Reset Zoom") && svg.contains("<script"));
    }

    #[test]
    fn hostile_names_leave_the_svg_well_formed_and_harmless() {
        let report = samples::hostile();
        let svg = flamegraph(&[&report]).unwrap();
        let tooltips = texts(&svg, "title");
        assert_eq!(tooltips.len(), 2 + report.sites[0].frames.len());
        assert!(tooltips.iter().any(|tip| tip.contains("<b>&\"']]>")));
        for text in tooltips.iter().chain(&texts(&svg, "text")) {
            assert!(
                !text.chars().any(crate::export::sanitize::is_unsafe),
                "{text:?}"
            );
        }
    }

    #[test]
    fn nothing_live_is_a_valid_svg_that_says_so() {
        for reports in [&[&samples::empty()][..], &[]] {
            let svg = flamegraph(reports).unwrap();
            assert!(texts(&svg, "text").contains(&"nothing was live".to_owned()));
        }
        let mut hostile = samples::hostile();
        hostile.sites.clear();
        let svg = flamegraph(&[&hostile]).unwrap();
        assert_eq!(texts(&svg, "text").len(), 2);
    }

    #[test]
    fn the_same_report_gives_the_same_bytes() {
        let report = samples::report();
        assert_eq!(
            flamegraph(&[&report]).unwrap(),
            flamegraph(&[&report]).unwrap()
        );
    }
}

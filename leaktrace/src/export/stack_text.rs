//! A site's frames → indented, aligned lines for people. The full names stay in the JSON lines.

use std::fmt::Write;

use crate::report::Frame;
use crate::symbolize::base_name;

use super::columns::{MAX_COLUMNS, pad_right, shorten_middle, width};
use super::sanitize::plain;

/// Frames shown of one stack.
const MAX_FRAMES_SHOWN: usize = 32;
const INDENT: &str = "      ";
/// In place of the indent, before the frame to look at.
const SUSPECT: &str = "    > ";
const GAP: &str = "  ";
/// Columns of the place (file and line, or module) at most.
const MAX_PLACE_COLUMNS: usize = 36;

/// A frame in two columns: what runs, and where that is written.
struct Row {
    name: String,
    /// `+0x9`, kept whole when the name is shortened.
    offset: String,
    place: String,
}

/// Appends the stack of a site, innermost frame first, of at most so many frames.
pub(super) fn push_stack(
    out: &mut String,
    frames: &[Frame],
    suspect: Option<usize>,
    truncated: Option<&str>,
    most_frames: Option<usize>,
) {
    let shown = most_frames.map_or(MAX_FRAMES_SHOWN, |most| most.min(MAX_FRAMES_SHOWN));
    let rows: Vec<Row> = frames.iter().take(shown).map(row).collect();
    let widest = |column: fn(&Row) -> usize| rows.iter().map(column).max().unwrap_or(0);
    let place_columns = widest(|row| width(&row.place));
    let room = MAX_COLUMNS - INDENT.len() - GAP.len() - place_columns;
    let name_columns = widest(|row| width(&row.name) + row.offset.len()).min(room);
    for (index, row) in rows.iter().enumerate() {
        let indent = if suspect == Some(index) {
            SUSPECT
        } else {
            INDENT
        };
        let name = shorten_middle(&row.name, name_columns.saturating_sub(row.offset.len()));
        let called = pad_right(&format!("{name}{}", row.offset), name_columns);
        let line = format!("{indent}{called}{GAP}{}", row.place);
        push_line(out, line.trim_end());
    }
    let hidden = frames.len() - rows.len();
    if hidden > 0 {
        push_line(out, &format!("{INDENT}… {hidden} more"));
    }
    if let Some(why) = truncated {
        let line = format!("{INDENT}(the stack is cut here: {})", plain(why));
        push_line(out, &shorten_middle(&line, MAX_COLUMNS));
    } else if frames.is_empty() {
        push_line(out, &format!("{INDENT}(no stack)"));
    }
}

fn push_line(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn row(frame: &Frame) -> Row {
    let offset = match (&frame.function, frame.offset) {
        (Some(function), Some(offset)) if !frame.inlined && !function.is_empty() => {
            format!("+{offset:#x}")
        }
        _ => String::new(),
    };
    Row {
        name: plain(&frame.label()).into_owned(),
        offset,
        place: place(frame),
    }
}

/// Where the frame's code is written; else, for named code, the module that it is in.
fn place(frame: &Frame) -> String {
    let named = frame.function.as_deref().is_some_and(|f| !f.is_empty());
    let place = match (&frame.file, &frame.module) {
        (Some(file), _) => {
            let line = frame
                .line
                .map(|line| format!(":{line}"))
                .unwrap_or_default();
            format!("{}{line}", base_name(file))
        }
        (None, Some(module)) if named => base_name(module).to_owned(),
        _ => String::new(),
    };
    let mark = if frame.inlined { " (inlined)" } else { "" };
    let room = MAX_PLACE_COLUMNS - mark.len();
    let place = format!("{}{mark}", shorten_middle(&plain(&place), room));
    place.trim_start().to_owned()
}

//! Lines of the interface → JSON, one object a line, flushed. The data is not changed: characters
//! that could steer a terminal are written as JSON escapes, which readers turn back.

use std::io::{self, Write};

use crate::report::Line;

use super::sanitize::is_unsafe;

/// Writes one line and flushes it.
///
/// # Errors
///
/// What the writer says.
pub fn write_line(writer: &mut impl Write, line: &Line) -> io::Result<()> {
    let mut json = escaped(&serde_json::to_string(line)?);
    json.push('\n');
    // One write, so that a reader of a pipe or a log does not see half a line.
    writer.write_all(json.as_bytes())?;
    writer.flush()
}

/// JSON text with every unsafe character as `\uXXXX`. They only occur inside strings, where
/// both forms mean the same.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 1);
    let mut units = [0; 2];
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;

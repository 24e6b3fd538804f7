//! Text → text that fits a number of terminal columns. Expects sanitised text: no character in it
//! moves the cursor.

/// Columns that no line of a report exceeds.
pub(super) const MAX_COLUMNS: usize = 100;

/// Columns that a text takes at most. East Asian characters take two; the boundary is drawn low,
/// which can only make lines shorter than they might be.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// The text in at most `columns` columns, with `…` in place of its middle where it is too long:
/// the outermost namespace and the method both say more than the template arguments between.
pub(super) fn shorten_middle(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let head = take(text.chars(), room.div_ceil(2));
    let tail = take(text.chars().rev(), room - width(&head));
    let mut short = head;
    short.push('…');
    short.extend(tail.chars().rev());
    short
}

/// A labelled text broken between words into lines of at most [`MAX_COLUMNS`], those after the
/// first indented by the width of the label.
pub(super) fn wrap(label: &str, text: &str) -> String {
    wrap_pieces(label, text.split_whitespace())
}

/// As [`wrap`], but broken between these pieces only.
pub(super) fn wrap_pieces<'a>(label: &str, pieces: impl Iterator<Item = &'a str>) -> String {
    let indent = width(label);
    let mut out = label.to_owned();
    let mut column = indent;
    for piece in pieces {
        let piece = shorten_middle(piece, MAX_COLUMNS - indent);
        let wide = width(&piece);
        if column > indent && column + 1 + wide > MAX_COLUMNS {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(&piece);
        column += wide;
    }
    out.push('\n');
    out
}

/// The text padded with spaces on its right to this many columns.
pub(super) fn pad_right(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}

fn char_width(c: char) -> usize {
    if c < '\u{1100}' || ('\u{2000}'..'\u{2e80}').contains(&c) {
        1
    } else {
        2
    }
}

/// As many characters as fit, in the order of the iterator.
fn take(chars: impl Iterator<Item = char>, columns: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += char_width(*c);
            used <= columns
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_middle_and_fit() {
        assert_eq!(shorten_middle("short", 10), "short");
        assert_eq!(
            shorten_middle("std::map<a, b, c>::insert", 15),
            "std::ma…:insert"
        );
        for columns in 1..20 {
            assert!(width(&shorten_middle("计算计算计算计算计算计算", columns)) <= columns);
        }
    }

    #[test]
    fn wrapped_text_keeps_every_word_and_the_limit() {
        let text = "word ".repeat(60);
        let wrapped = wrap("  note  ", &text);
        assert!(wrapped.lines().all(|line| width(line) <= MAX_COLUMNS));
        assert_eq!(wrapped.split_whitespace().count(), 61);
        assert!(
            wrapped
                .lines()
                .skip(1)
                .all(|line| line.starts_with("        word"))
        );
        assert!(width(wrap("x ", &"y".repeat(300)).trim_end()) <= MAX_COLUMNS);
    }
}

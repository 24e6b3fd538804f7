//! Names from the traced process → text that a terminal, an XML reader or a folded file takes as
//! text and as nothing else. Never drops a character: what is unsafe is written out as an escape.

use std::borrow::Cow;

/// The name with every unsafe character escaped: safe in a terminal and in XML text (whose `<`
/// and `&` the XML writer still has to escape).
pub fn plain(name: &str) -> Cow<'_, str> {
    if !name.chars().any(is_unsafe) {
        return Cow::Borrowed(name);
    }
    let mut safe = String::with_capacity(name.len() + 16);
    for c in name.chars() {
        if is_unsafe(c) {
            push_escape(&mut safe, c);
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// The name as one frame of a folded stack: safe as [`plain`], without the `;` that separates
/// frames (`:` stands for it, as other writers of the format do), and without what readers take
/// for a comment (`# ` in front) or for a count (a number as last word).
pub fn folded_frame(name: &str) -> String {
    let safe = plain(name.trim()).replace(';', ":");
    if safe.is_empty() {
        return "[unnamed]".to_owned();
    }
    let mut safe = match safe.strip_prefix("# ") {
        Some(rest) => format!("#\\u{{20}}{rest}"),
        None => safe,
    };
    if let Some((before, last)) = safe.rsplit_once(' ')
        && last.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        safe = format!("{before}\\u{{20}}{last}");
    }
    safe
}

/// Whether a character can do more than stand for itself: control characters of both sets, bidi
/// controls, characters without width, line separators of Unicode, and what XML 1.0 excludes.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{fffe}'..='\u{ffff}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

fn push_escape(out: &mut String, c: char) {
    match c {
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        _ => out.extend(c.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass_unchanged() {
        for name in [
            "leak_a",
            "std::vec<int, std::allocator<int> >::push_back(int&&)",
            "<T as core::fmt::Debug>::fmt",
            "größe_计算_функция",
            r"C:\path",
        ] {
            assert!(matches!(plain(name), Cow::Borrowed(same) if same == name));
        }
    }

    #[test]
    fn every_control_bidi_and_zero_width_character_is_escaped() {
        let bad = "\u{0}\u{7}\u{1b}\u{7f}\u{85}\u{9b}\u{200b}\u{200d}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}\u{2028}\u{fffe}\u{e0041}";
        for c in bad.chars() {
            assert!(is_unsafe(c), "{:x}", c as u32);
        }
        let safe = plain(bad);
        assert!(!safe.chars().any(is_unsafe));
        assert!(safe.is_ascii());
        assert_eq!(plain("a\u{1b}[2Jb\n\u{202e}"), r"a\u{1b}[2Jb\n\u{202e}");
    }

    #[test]
    fn folded_frames_hold_no_separator_comment_or_count() {
        assert_eq!(folded_frame("<[u8; 8] as Foo>"), "<[u8: 8] as Foo>");
        assert_eq!(folded_frame("a\nb;c 100"), r"a\nb:c\u{20}100");
        assert_eq!(folded_frame("# not a comment"), r"#\u{20}not a comment");
        assert_eq!(folded_frame("x 1."), r"x\u{20}1.");
        assert_eq!(folded_frame(" \t"), "[unnamed]");
        assert_eq!(
            folded_frame("operator new(unsigned long)"),
            "operator new(unsigned long)"
        );
    }
}

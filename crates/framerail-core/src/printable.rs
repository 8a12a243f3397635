//! Escapes untrusted text for terminals and web pages.

use std::{borrow::Cow, fmt::Write};

/// Escapes control characters (`\x1b`), including line ends and tabs: escape sequences in file names and tags must
/// not reach a terminal, and a name must not appear as a separate line.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Like [`printable`] for multi-line text: keeps line ends and tabs.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| matches!(letter, '\n' | '\t'))
}

fn escaped(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_bad = |letter: char| is_unprintable(letter) && !is_kept(letter);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        // Writing to a string cannot fail.
        let _ = match letter {
            _ if !is_bad(letter) => write!(shown, "{letter}"),
            '\n' => write!(shown, "\\n"),
            '\r' => write!(shown, "\\r"),
            '\t' => write!(shown, "\\t"),
            _ if letter.is_ascii() => write!(shown, "\\x{:02x}", letter as u32),
            _ => write!(shown, "\\u{{{:x}}}", letter as u32),
        };
    }
    Cow::Owned(shown)
}

/// Escapes text for HTML and XML, including quoted attributes. Characters that neither allows become a replacement character.
pub fn markup_escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            bad if (bad.is_control() && !bad.is_ascii_whitespace()) || matches!(bad, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            other => safe.push(other),
        }
    }
    safe
}

/// Control characters, bidirectional controls and zero-width characters.
fn is_unprintable(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_does_not_become_markup() {
        assert_eq!(markup_escaped("<a href=\"x\" id='y'>&\n\u{7}"), "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\n\u{fffd}");
    }

    #[test]
    fn escape_sequences_are_written_out() {
        assert_eq!(printable("a\x1b]0;title\x07\r\nb\u{9b}31m\u{202e}c"), "a\\x1b]0;title\\x07\\r\\nb\\u{9b}31m\\u{202e}c");
        assert_eq!(printable_lines("a\tb\nc\x1b[2J"), "a\tb\nc\\x1b[2J");
        assert!(matches!(printable("Straße 日本 🎥"), Cow::Borrowed(_)));
    }
}

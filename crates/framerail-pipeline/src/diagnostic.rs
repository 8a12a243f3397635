//! Errors in a pipeline, shown in the author's text.

use std::{fmt, ops::Deref, sync::Arc};

use framerail_core::{masked, printable, printable_lines, redacted};
use unicode_width::UnicodeWidthChar;

use crate::{
    ErrorKind,
    description::{Origin, Span},
};

/// Maximum number of columns shown of a line.
const SHOWN_COLUMNS: usize = 96;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[1;31m";
const CYAN: &str = "\x1b[36m";
const RESET: &str = "\x1b[0m";

/// An error in a pipeline, with its position.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Error message, one line.
    pub message: String,
    /// How to fix it.
    pub help: Option<String>,
    /// Position in the text.
    pub span: Option<Span>,
    /// The text.
    pub origin: Arc<Origin>,
    /// Category of the failure.
    pub kind: ErrorKind,
}

impl Diagnostic {
    /// A usage error in a pipeline.
    pub fn new(origin: &Arc<Origin>, span: Option<Span>, message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), help: None, span, origin: Arc::clone(origin), kind: ErrorKind::Usage }
    }

    /// Adds how to fix it.
    #[must_use]
    pub fn help(mut self, help: impl fmt::Display) -> Self {
        self.help = Some(help.to_string());
        self
    }

    /// Sets the category of the failure.
    #[must_use]
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }

    /// Line and column of the position, both from 1; columns count characters.
    pub fn line_and_column(&self) -> Option<(usize, usize)> {
        let place = Place::find(&self.origin.text, self.span?)?;
        Some((place.line_number, place.line.get(..place.start)?.chars().count() + 1))
    }

    /// The message, the line with the position underlined, and the help; without a trailing line feed.
    pub fn render(&self, color: bool) -> String {
        let paint = |style: &'static str| if color { style } else { "" };
        let (bold, red, cyan, reset) = (paint(BOLD), paint(RED), paint(CYAN), paint(RESET));
        let mut text = format!("{red}error:{reset} {bold}{}{reset}", printable_lines(&redacted(&self.message)));
        let origin = masked(&self.origin.text);
        if let Some(place) = self.span.and_then(|span| Place::find(&origin, span)) {
            if let (Some(file), Some((line, column))) = (&self.origin.file, self.line_and_column()) {
                text += &format!("\n  {}:{line}:{column}", file.display());
            }
            let (line, underline) = place.draw();
            text += &format!("\n  {}\n  {red}{underline}{reset}", printable(&line));
        } else if let Some(file) = &self.origin.file {
            text += &format!("\n  {}", file.display());
        }
        if let Some(help) = &self.help {
            text += &format!("\n  {cyan}help:{reset} {}", printable_lines(&redacted(help)));
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostic {}

/// Rendered errors of one pipeline: a file that is not TOML at all has an error on every line.
const MAX_RENDERED: usize = 20;

/// All errors in a pipeline; never empty. Dereferences to a slice of [`Diagnostic`].
#[derive(Clone, Debug)]
pub struct Diagnostics(pub(crate) Vec<Diagnostic>);

impl Diagnostics {
    /// The first 20 rendered, separated by empty lines, and the number of further ones.
    pub fn render(&self, color: bool) -> String {
        let mut texts: Vec<String> = self.0.iter().take(MAX_RENDERED).map(|diagnostic| diagnostic.render(color)).collect();
        match self.0.len().saturating_sub(MAX_RENDERED) {
            0 => {}
            1 => texts.push("and 1 more error".to_owned()),
            more => texts.push(format!("and {more} more errors")),
        }
        texts.join("\n\n")
    }

    /// Category of the first failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.first().map_or(ErrorKind::Usage, |first| first.kind)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        Self(vec![diagnostic])
    }
}

impl From<Diagnostics> for Vec<Diagnostic> {
    fn from(diagnostics: Diagnostics) -> Self {
        diagnostics.0
    }
}

impl Deref for Diagnostics {
    type Target = [Diagnostic];

    fn deref(&self) -> &[Diagnostic] {
        &self.0
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// The part of a span that lies on its first line.
struct Place<'a> {
    line: &'a str,
    /// From 1.
    line_number: usize,
    /// Byte range within the line.
    start: usize,
    end: usize,
}

impl<'a> Place<'a> {
    fn find(text: &'a str, span: Span) -> Option<Self> {
        let before = text.get(..span.start).filter(|_| !text.is_empty())?;
        let line_start = before.rfind('\n').map_or(0, |feed| feed + 1);
        let rest = text.get(line_start..)?;
        let line = rest.split('\n').next()?;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let start = (span.start - line_start).min(line.len());
        let end = span.end.saturating_sub(line_start).clamp(start, line.len());
        let line_number = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        line.is_char_boundary(end).then_some(Self { line, line_number, start, end })
    }

    /// The line, shortened around the position if it is long, and carets under the position.
    fn draw(&self) -> (String, String) {
        let cells: Vec<(usize, char, usize)> = self.line.char_indices().map(|(at, character)| cell(at, character)).collect();
        let first = cells.iter().position(|(at, ..)| *at >= self.start).unwrap_or(cells.len());
        let (from, to) = window(&cells, first);
        let mut line = String::from(if from > 0 { "…" } else { "" });
        let mut underline = String::from(if from > 0 { " " } else { "" });
        for (at, character, width) in cells.get(from..to).unwrap_or_default() {
            line.push(*character);
            let mark = if (self.start..self.end).contains(at) { "^" } else { " " };
            underline += &mark.repeat(*width);
        }
        if to < cells.len() {
            line.push('…');
        }
        let mut underline = underline.trim_end().to_owned();
        if !underline.ends_with('^') {
            // An empty span is marked with one caret, also at the end of the line.
            let columns = cells.get(from..first).unwrap_or_default().iter().map(|(.., width)| width).sum::<usize>();
            underline = format!("{}^", " ".repeat(columns + usize::from(from > 0)));
        }
        (line, underline)
    }
}

/// A character as displayed: control characters become a space, so that they have a width.
fn cell(at: usize, character: char) -> (usize, char, usize) {
    match character.width() {
        Some(width) if !character.is_control() => (at, character, width),
        _ => (at, ' ', 1),
    }
}

/// The range of cells to show: all, or as many as fit around the position.
fn window(cells: &[(usize, char, usize)], first: usize) -> (usize, usize) {
    let width = |cells: &[(usize, char, usize)]| cells.iter().map(|(.., width)| width).sum::<usize>();
    if width(cells) <= SHOWN_COLUMNS {
        return (0, cells.len());
    }
    let mut from = first.min(cells.len());
    while from > 0 && width(cells.get(from..first).unwrap_or_default()) < SHOWN_COLUMNS / 3 {
        from -= 1;
    }
    let mut to = from;
    while to < cells.len() && width(cells.get(from..to).unwrap_or_default()) < SHOWN_COLUMNS {
        to += 1;
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, span: std::ops::Range<usize>) -> String {
        Diagnostic::new(&Origin::text(text), Some(span.into()), "m").render(false)
    }

    #[test]
    fn carets_stand_under_wide_characters() {
        assert_eq!(shown("read 映画.mp4 x", 5..15), "error: m\n  read 映画.mp4 x\n       ^^^^^^^^");
        assert_eq!(shown("a\tb", 2..3), "error: m\n  a b\n    ^");
        assert_eq!(shown("ab", 2..2), "error: m\n  ab\n    ^");
    }

    #[test]
    fn only_the_first_line_of_a_span_is_shown() {
        assert_eq!(shown("one\r\ntwo\r\nthree", 5..14), "error: m\n  two\n  ^^^");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{} here {}", "x".repeat(200), "y".repeat(200));
        let shown = shown(&text, 201..205);
        let lines: Vec<&str> = shown.lines().collect();
        let column = |line: &str, mark: &str| line.find(mark).map(|at| line[..at].chars().count());
        assert_eq!(column(lines[1], "here"), column(lines[2], "^^^^"));
        assert!(lines[1].chars().count() <= SHOWN_COLUMNS + 4 && lines[1].ends_with('…'));
    }

    #[test]
    fn spans_outside_of_the_text_are_left_out() {
        assert_eq!(shown("é", 1..9), "error: m");
        assert_eq!(shown("é", 70..90), "error: m");
    }
}

//! Standard output and standard error: terminals, colours, and closed pipes.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

use framerail::core::{printable_lines, redacted};

use crate::progress;

/// Whether messages on standard error are coloured: a terminal, and `NO_COLOR` not set.
pub fn stderr_has_color() -> bool {
    let set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !set("NO_COLOR") && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard error is a terminal.
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// `error:` at the start of a line.
pub fn error_word() -> &'static str {
    if stderr_has_color() { "\x1b[1;31merror:\x1b[0m" } else { "error:" }
}

/// Writes a line to standard error, above a progress bar. Control characters of file names and tags are escaped.
pub fn line(text: &str) {
    rendered(&printable_lines(&redacted(text)));
}

/// The same for text that is already coloured and escaped.
pub fn rendered(text: &str) {
    progress::suspended(|| {
        // If standard error is closed, nothing can be reported.
        let _ = writeln!(io::stderr(), "{}", text.trim_end());
    });
}

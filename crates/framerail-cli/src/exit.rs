//! Exit codes of the program.

use std::fmt::Display;

use framerail::{
    core::{printable_lines, redacted},
    pipeline::{Diagnostics, ErrorKind, RunError},
};

use crate::terminal;

/// Every exit code with its meaning; printed by `--help`.
pub const EXIT_CODES: [(u8, &str); 9] = [
    (DONE, "done"),
    (INTERNAL, "a bug in framerail: please report it; from doctor: something is missing"),
    (USAGE, "the command, the pipeline or an option is wrong"),
    (INPUT, "an input is missing, unreadable, or not a video"),
    (OUTPUT, "an output cannot be written: it exists, its folder is missing, the disk is full"),
    (MODEL, "a model, its model card or ONNX Runtime is missing or unsuitable"),
    (RESOURCE, "memory, threads or a device are exhausted, or the requested device is missing"),
    (DAMAGED, "done, but an input was damaged, or not everything could be sent (only with --strict)"),
    (INTERRUPTED, "interrupted: once, outputs are complete up to that point; twice, they are discarded"),
];

/// See [`EXIT_CODES`].
pub const DONE: u8 = 0;
/// See [`EXIT_CODES`].
pub const INTERNAL: u8 = 1;
/// See [`EXIT_CODES`].
pub const USAGE: u8 = 2;
/// See [`EXIT_CODES`].
pub const INPUT: u8 = 3;
/// See [`EXIT_CODES`].
pub const OUTPUT: u8 = 4;
/// See [`EXIT_CODES`].
pub const MODEL: u8 = 5;
/// See [`EXIT_CODES`].
pub const RESOURCE: u8 = 6;
/// See [`EXIT_CODES`].
pub const DAMAGED: u8 = 7;
/// See [`EXIT_CODES`].
pub const INTERRUPTED: u8 = 130;

/// The exit code for a kind of failure.
pub fn code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => USAGE,
        ErrorKind::Input => INPUT,
        ErrorKind::Output => OUTPUT,
        ErrorKind::Model => MODEL,
        ErrorKind::Resource => RESOURCE,
        ErrorKind::Cancelled => INTERRUPTED,
        _ => INTERNAL,
    }
}

/// The exit codes as a paragraph of help.
pub fn help() -> String {
    let lines: String = EXIT_CODES.iter().map(|(code, words)| format!("  {code:>3}  {words}\n")).collect();
    format!("Exit codes:\n{lines}")
}

/// Why a command failed: its exit code, and the message for standard error.
#[derive(Clone, Debug)]
pub struct Failure {
    /// One of [`EXIT_CODES`].
    pub code: u8,
    /// Rendered for the terminal.
    text: String,
}

impl Failure {
    /// A failure with a one-line message.
    pub fn new(code: u8, message: impl Display) -> Self {
        Self { code, text: format!("{} {}", terminal::error_word(), clean(&message)) }
    }

    /// An interruption; a notice rather than an error.
    pub fn interrupted(message: impl Display) -> Self {
        Self { code: INTERRUPTED, text: clean(&message) }
    }

    /// Completed, but not fully as requested.
    pub fn damaged(message: impl Display) -> Self {
        Self { code: DAMAGED, text: clean(&message) }
    }

    /// Prints the message and returns the exit code. Without a message it was printed before.
    pub fn report(&self) -> u8 {
        if !self.text.is_empty() {
            terminal::rendered(&self.text);
        }
        self.code
    }

    /// The same code for a failure that has been printed.
    pub fn silent(code: u8) -> Self {
        Self { code, text: String::new() }
    }
}

/// A message without secrets and escape sequences.
fn clean(message: &dyn Display) -> String {
    printable_lines(&redacted(&message.to_string())).into_owned()
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self { code: code_of(diagnostics.kind()), text: diagnostics.render(terminal::stderr_has_color()) }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error.kind() {
            ErrorKind::Cancelled => Self::interrupted(error.error.message),
            kind => Self::new(code_of(kind), error),
        }
    }
}

/// The result of a command.
pub type CommandResult = Result<(), Failure>;

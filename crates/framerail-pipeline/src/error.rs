//! Errors of stages and runs.

use std::fmt;

use framerail_core::redacted;

use crate::stage::Closed;

/// Category of a failure; the command line maps each to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The pipeline or an option is wrong: change the command.
    Usage,
    /// An input is missing, unreadable, or not a video.
    Input,
    /// An output cannot be written.
    Output,
    /// A model, its model card or the inference runtime is missing or unusable.
    Model,
    /// A resource is exhausted or a device failed.
    Resource,
    /// The run was aborted externally.
    Cancelled,
    /// A stage panicked or violated its contract: a bug.
    Internal,
    /// All stages downstream have ended: end quietly. Never reported.
    Closed,
}

/// A one-line error of a stage: names the file, stream, PTS or option, and how to fix it.
#[derive(Clone, Debug)]
pub struct StageError {
    /// Category of the failure.
    pub kind: ErrorKind,
    /// The error message, one line.
    pub message: String,
}

impl StageError {
    /// An error with its category and one-line message. Secrets in URLs are redacted.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { kind, message: redacted(&message.to_string()).into_owned() }
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StageError {}

impl From<Closed> for StageError {
    fn from(_: Closed) -> Self {
        StageError::new(ErrorKind::Closed, "every following stage has ended")
    }
}

/// Why a run failed: the first failure, and the stage in which it occurred.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{stage}: {error}")]
pub struct RunError {
    /// Name of the stage that failed first.
    pub stage: String,
    /// The error.
    pub error: StageError,
}

impl RunError {
    /// Category of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind
    }
}

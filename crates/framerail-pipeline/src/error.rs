//! How a stage and a run fail.

use std::fmt;

use framerail_core::redacted;

use crate::stage::Closed;

/// What a failure calls for; the command line maps each to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The pipeline or an option is wrong: change the command.
    Usage,
    /// An input is missing, damaged beyond use, or no video.
    Input,
    /// An output cannot be written.
    Output,
    /// A model, its card or the inference runtime is missing or unfit.
    Model,
    /// A resource is exhausted or a device failed.
    Resource,
    /// The run was aborted from outside.
    Cancelled,
    /// A stage panicked or broke its contract: a bug.
    Internal,
    /// Every stage after this one has ended: end quietly. Never reported.
    Closed,
}

/// One line on what went wrong in a stage: with which file, stream, PTS or option, and what to do.
#[derive(Clone, Debug)]
pub struct StageError {
    /// What the failure calls for.
    pub kind: ErrorKind,
    /// The line.
    pub message: String,
}

impl StageError {
    /// An error of a kind with its one line. Secrets of addresses in it are hidden.
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

/// Why a run ended without completing: the first failure, and the stage it came from.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{stage}: {error}")]
pub struct RunError {
    /// Name of the stage that failed first.
    pub stage: String,
    /// What went wrong there.
    pub error: StageError,
}

impl RunError {
    /// What the failure calls for.
    pub fn kind(&self) -> ErrorKind {
        self.error.kind
    }
}

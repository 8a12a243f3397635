//! A configured stage before it runs: it agrees on formats with its neighbours, then becomes work for threads.

use std::fmt;

use crate::{BatchPolicy, EdgeFormat, StageError, Work};

/// What a stage may ask about the rest of the pipeline while it links.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkContext {
    /// Whether a stage downstream writes sound and subtitles, so that a source should pass their packets on.
    pub packets_wanted: bool,
}

/// Why a stage cannot follow the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkMismatch {
    /// What the stage takes, such as `frames with detections`.
    pub needs: String,
    /// What would mend it, such as ``put `infer MODEL` before it``.
    pub mend: String,
}

/// A problem found before anything starts.
#[derive(Clone, Debug)]
pub enum PlanError {
    /// The stage does not take what the one before it gives.
    Link(LinkMismatch),
    /// The stage cannot work as configured: a missing file, a model that does not load.
    Stage(StageError),
}

impl From<StageError> for PlanError {
    fn from(error: StageError) -> Self {
        PlanError::Stage(error)
    }
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Link(mismatch) => write!(f, "needs {}; {}", mismatch.needs, mismatch.mend),
            PlanError::Stage(error) => error.fmt(f),
        }
    }
}

/// A configured stage.
///
/// # For implementors
/// `link` is called once, sources first, before any thread starts: open inputs and models there, so that every
/// mistake shows before the first frame. `into_work` gives one [`crate::Stage`] per worker.
pub trait StagePlan: Send {
    /// Agrees on formats: takes what the stage before gives (`None` for a source), says what this one gives (`None` for a sink).
    ///
    /// # Errors
    /// `Link` when the input does not fit, `Stage` when the stage itself cannot work.
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError>;

    /// Most frames per call, and how long to wait for them.
    fn batch(&self) -> BatchPolicy {
        BatchPolicy::default()
    }

    /// Whether this stage uses packets of sound and subtitles.
    fn wants_packets(&self) -> bool {
        false
    }

    /// The work for the threads: as many stages as workers are wanted.
    ///
    /// # Errors
    /// When the stage cannot be brought to life.
    fn into_work(self: Box<Self>) -> Result<Work, StageError>;
}

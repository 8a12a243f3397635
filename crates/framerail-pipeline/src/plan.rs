//! A configured stage before it runs: it agrees on formats with its neighbours, then becomes work for threads.

use std::{any::Any, fmt, sync::Arc};

use framerail_core::{CancelToken, Device, RunFiles};

use crate::{BatchPolicy, EdgeFormat, OnSinkError, StageError, Work};

/// What a stage wants its input made into, of a type that the stages on both sides know: see [`StagePlan::wants_tensor`].
pub type TensorRequest = Arc<dyn Any + Send + Sync>;

/// What a stage may ask about the rest of the pipeline while it links.
#[derive(Clone, Default)]
pub struct LinkContext {
    /// Whether a stage downstream writes sound and subtitles, so that a source should pass their packets on.
    pub packets_wanted: bool,
    /// Whether a stage downstream copies the video's packets, which a source then passes on beside its frames.
    pub video_packets_wanted: bool,
    /// Whether a stage downstream puts frames of several streams together by their times: files are then read concurrently, none ahead of
    /// the others.
    pub streams_in_step: bool,
    /// Whether a stage downstream, on any branch, reads pixels. Where none does, frames need not carry them.
    pub pixels_wanted: bool,
    /// What the only stage downstream that reads pixels wants them made into, so that a source on a device can do that
    /// while it decodes. `None` when several stages read pixels, or that one did not ask.
    pub tensor_wanted: Option<TensorRequest>,
    /// Cancelled when inputs should no longer be opened.
    pub cancel: CancelToken,
    /// The files of the run. A stage notes here what it reads and what it writes, so that neither meets the other.
    pub files: RunFiles,
    /// Host memory that the frames of the run may take together.
    pub memory_bytes: u64,
}

impl fmt::Debug for LinkContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets_wanted, video_packets_wanted, streams_in_step, pixels_wanted, tensor_wanted, cancel, files, memory_bytes } =
            self;
        f.debug_struct("LinkContext")
            .field("packets_wanted", packets_wanted)
            .field("video_packets_wanted", video_packets_wanted)
            .field("streams_in_step", streams_in_step)
            .field("pixels_wanted", pixels_wanted)
            .field("tensor_wanted", &tensor_wanted.is_some())
            .field("cancel", cancel)
            .field("files", files)
            .field("memory_bytes", memory_bytes)
            .finish()
    }
}

/// Why a stage cannot follow the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkMismatch {
    /// What the stage takes, such as `frames with detections`.
    pub needs: String,
    /// What would fix it, such as ``put `infer MODEL` before it``.
    pub hint: String,
}

/// A problem found before anything starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// The stage does not take what the one before it gives.
    Link(LinkMismatch),
    /// The stage takes such frames, but on this device. The planner puts a copy before it and links it again.
    NeedsDevice(Device),
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
            PlanError::Link(mismatch) => write!(f, "needs {}; {}", mismatch.needs, mismatch.hint),
            PlanError::NeedsDevice(device) => write!(f, "needs frames on {device}"),
            PlanError::Stage(error) => error.fmt(f),
        }
    }
}

/// A configured stage.
///
/// # For implementors
/// `link` is called sources first, before any thread starts: open inputs and models there, so that every mistake shows
/// before the first frame. It is called once, and again after it answered `NeedsDevice`, with frames on that device: what was
/// opened before must serve then. `into_work` gives one [`crate::Stage`] per worker. Everything else may be asked before `link`.
pub trait StagePlan: Send {
    /// Called once, before any stage of the pipeline links: what takes long to load may begin on another thread.
    fn prepare(&mut self) {}

    /// Agrees on formats: takes what the stage before gives (`None` for a source), says what this one gives (`None` for a sink).
    ///
    /// # Errors
    /// `NeedsDevice` for frames on another device, `Link` when the input does not fit otherwise, `Stage` when the stage
    /// itself cannot work.
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError>;

    /// Most frames per call, and how long to wait for them.
    fn batch(&self) -> BatchPolicy {
        BatchPolicy::default()
    }

    /// For a sink: what happens when it fails, unless the user says otherwise. Those that send to someone who may be out of reach drop.
    fn on_error(&self) -> OnSinkError {
        OnSinkError::Fail
    }

    /// Whether this stage uses packets of sound and subtitles.
    fn wants_packets(&self) -> bool {
        false
    }

    /// Whether this stage copies the packets of the video itself.
    fn wants_video_packets(&self) -> bool {
        false
    }

    /// Whether this stage may change the pixels of frames, so that packets no longer say what they show.
    fn changes_pixels(&self) -> bool {
        self.reads_pixels()
    }

    /// Whether this stage puts frames of several streams together by their times ([`LinkContext::streams_in_step`]).
    fn wants_streams_in_step(&self) -> bool {
        false
    }

    /// Whether this stage looks at pixels or changes them, rather than passing frames on or reading what is attached to them.
    fn reads_pixels(&self) -> bool {
        true
    }

    /// Whether this stage works on frames in device memory. Where it reads pixels and does not, it gets them on the host.
    fn takes_device_frames(&self) -> bool {
        false
    }

    /// Whether this stage works on each frame where it lies, on whichever of several devices ([`EdgeFormat::other_devices`]). Where it
    /// reads pixels and does not, it gets all frames on the first of them.
    fn takes_several_devices(&self) -> bool {
        false
    }

    /// Whether this stage looks at the parts that the stage before it hung on frames ([`EdgeFormat::parts`]) and gives whole frames.
    /// No other stage may follow one that gives parts.
    fn takes_parts(&self) -> bool {
        false
    }

    /// What this stage would make of each frame first, when the source can do it instead while it decodes.
    fn wants_tensor(&self) -> Option<TensorRequest> {
        None
    }

    /// After [`StagePlan::link`]: how the stage will work, for those who check a pipeline without running it.
    fn note(&self) -> Option<String> {
        None
    }

    /// The work for the threads: as many stages as workers are wanted.
    ///
    /// # Errors
    /// When the stage cannot be brought to life.
    fn into_work(self: Box<Self>) -> Result<Work, StageError>;
}

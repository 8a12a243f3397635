//! A configured stage before the run: it negotiates formats with its neighbours, then becomes work for threads.

use std::{any::Any, fmt, sync::Arc};

use framerail_core::{CancelToken, Device, RunFiles};

use crate::{BatchPolicy, EdgeFormat, OnSinkError, StageError, Work};

/// The tensor format that a stage wants as input, of a type that the stages on both sides know: see [`StagePlan::wants_tensor`].
pub type TensorRequest = Arc<dyn Any + Send + Sync>;

/// Information about the rest of the pipeline, available to a stage while it links.
#[derive(Clone, Default)]
pub struct LinkContext {
    /// Whether a stage downstream writes audio and subtitles, so that a source should pass on their packets.
    pub packets_wanted: bool,
    /// Whether a stage downstream copies the video packets, which a source then passes on in addition to its frames.
    pub video_packets_wanted: bool,
    /// Whether a stage downstream combines frames of several streams by timestamp: files are then read concurrently and in step.
    pub streams_in_step: bool,
    /// Whether a stage downstream, on any branch, reads pixels. If none does, frames need not carry them.
    pub pixels_wanted: bool,
    /// The input format wanted by the only stage downstream that reads pixels, so that a source on a device can convert to it while
    /// decoding. `None` when several stages read pixels, or when that stage wants no conversion.
    pub tensor_wanted: Option<TensorRequest>,
    /// Cancelled when opening inputs should be aborted.
    pub cancel: CancelToken,
    /// The files of the run. Stages record here which files they read and write, so that none is both read and written.
    pub files: RunFiles,
    /// Limit on the host memory of all frames of the run, in bytes.
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

/// Why a stage cannot follow the previous one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkMismatch {
    /// The input that the stage accepts, such as `frames with detections`.
    pub needs: String,
    /// How to fix it, such as ``put `infer MODEL` before it``.
    pub hint: String,
}

/// A problem found before the run starts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PlanError {
    /// The stage does not accept the output of the previous one.
    Link(LinkMismatch),
    /// The stage accepts these frames, but on this device. The planner inserts a copy before it and links it again.
    NeedsDevice(Device),
    /// The stage cannot work as configured, for example because of a missing file or a model that does not load.
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
/// `link` is called sources first, before any thread starts: open inputs and models there, so that all mistakes are found before the first
/// frame. It is called once, and again after it returned `NeedsDevice`, with frames on that device: whatever was opened before must be
/// reused. `into_work` returns one [`crate::Stage`] per worker. Everything else may be called before `link`.
pub trait StagePlan: Send {
    /// Called once, before any stage of the pipeline links. Slow loading may start on another thread here.
    fn prepare(&mut self) {}

    /// Negotiates formats: gets the output of the previous stage (`None` for a source), returns the output of this one (`None` for a sink).
    ///
    /// # Errors
    /// `NeedsDevice` for frames on another device, `Link` when the input is not accepted for another reason, `Stage` when the stage
    /// itself cannot work.
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError>;

    /// Maximum number of frames per call, and how long to wait for them.
    fn batch(&self) -> BatchPolicy {
        BatchPolicy::default()
    }

    /// For a sink: what happens when it fails, unless the user sets it. Sinks that send to a possibly unreachable peer should drop.
    fn on_error(&self) -> OnSinkError {
        OnSinkError::Fail
    }

    /// Whether this stage uses audio and subtitle packets.
    fn wants_packets(&self) -> bool {
        false
    }

    /// Whether this stage copies the packets of the video.
    fn wants_video_packets(&self) -> bool {
        false
    }

    /// Whether this stage may change the pixels of frames, so that packets no longer match them.
    fn changes_pixels(&self) -> bool {
        self.reads_pixels()
    }

    /// Whether this stage combines frames of several streams by timestamp ([`LinkContext::streams_in_step`]).
    fn wants_streams_in_step(&self) -> bool {
        false
    }

    /// Whether this stage reads or changes pixels, instead of only passing frames on or reading their attachments.
    fn reads_pixels(&self) -> bool {
        true
    }

    /// Whether this stage supports frames in device memory. If it reads pixels and does not, it gets them on the host.
    fn takes_device_frames(&self) -> bool {
        false
    }

    /// Whether this stage processes each frame on the device that holds it, with several devices ([`EdgeFormat::other_devices`]). If it
    /// reads pixels and does not, it gets all frames on the first device.
    fn takes_several_devices(&self) -> bool {
        false
    }

    /// Whether this stage runs on the parts that the previous stage attached to frames ([`EdgeFormat::parts`]) and outputs whole frames.
    /// No other stage may follow one that outputs parts.
    fn takes_parts(&self) -> bool {
        false
    }

    /// The format to which this stage would convert each frame first, if the source can do it while decoding.
    fn wants_tensor(&self) -> Option<TensorRequest> {
        None
    }

    /// How the stage will work, after [`StagePlan::link`]; shown when a pipeline is checked without running it.
    fn note(&self) -> Option<String> {
        None
    }

    /// The work for the threads, with one stage per worker.
    ///
    /// # Errors
    /// When the stage cannot be created.
    fn into_work(self: Box<Self>) -> Result<Work, StageError>;
}

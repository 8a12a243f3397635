//! State of one video, shared by a reader, its decoders and its batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use framerail_core::{Frame, FramePool};
use framerail_media::{DecoderSetup, Input, InputOptions, MediaError};
use parking_lot::Mutex;

use crate::{
    FrameInfo, FrameStatus, IndexSource, OnError, OutputOptions, ReaderError,
    batch::ImageShape,
    counters::Counters,
    frame_index::FrameIndex,
    host_frames::{FrameKind, image_shape},
    host_memory::HostPool,
    threads::Threads,
};

/// Number of attempts when the file does not match its header or index.
pub(crate) const MAX_TRIES: usize = 4;

/// Why a read failed.
pub(crate) enum Fault {
    /// Returned to the caller.
    Error(ReaderError),
    /// A frame differs in size or format from the header.
    OtherKind,
    /// Packets and decoded frames do not match although nothing is damaged: the index is wrong.
    IndexWrong,
}

impl From<ReaderError> for Fault {
    fn from(error: ReaderError) -> Self {
        Fault::Error(error)
    }
}

impl From<MediaError> for Fault {
    fn from(error: MediaError) -> Self {
        Fault::Error(error.into())
    }
}

/// Settings and state shared by all threads of a reader.
#[derive(Clone)]
pub(crate) struct Video {
    /// The whole source, without a selection.
    pub(crate) input: InputOptions,
    pub(crate) setup: DecoderSetup,
    pub(crate) threads: Threads,
    /// Memory for frames decoded ahead of their turn.
    pub(crate) memory_bytes: u64,
    pub(crate) timeout: Option<Duration>,
    pub(crate) on_error: OnError,
    pub(crate) counters: Arc<Counters>,
    /// For frames that must be copied (rotated or converted frames).
    pub(crate) frames: FramePool,
    pub(crate) memory: HostPool,
    /// A better index, built by a thread that found the reader's index wrong, until the reader takes it.
    pub(crate) repaired: Arc<Mutex<Option<Arc<FrameIndex>>>>,
    /// Incremented whenever the index of the video changes.
    pub(crate) version: Arc<AtomicU64>,
}

impl Video {
    pub(crate) fn source_name(&self) -> String {
        self.input.source.to_string()
    }

    /// The same video with a child cancel token, so that its reads can be cancelled separately.
    pub(crate) fn with_own_cancel(&self) -> Arc<Self> {
        let input = InputOptions { cancel: self.input.cancel.child(), ..self.input.clone() };
        Arc::new(Self { input, ..self.clone() })
    }

    pub(crate) fn open(&self) -> Result<Input, MediaError> {
        Input::open(&self.input)
    }

    pub(crate) fn decoder_setup(&self, threads: usize) -> DecoderSetup {
        self.counters.decoders_opened.add(1);
        let mut setup = self.setup.clone();
        setup.threads = threads;
        setup
    }

    pub(crate) fn deadline(self: &Arc<Self>) -> Deadline {
        Deadline { video: Arc::clone(self), end: self.timeout.and_then(|timeout| Instant::now().checked_add(timeout)) }
    }

    /// Metadata of a frame; an error if it is not intact and the options require that.
    pub(crate) fn info(&self, index: &FrameIndex, number: usize, status: FrameStatus) -> Result<FrameInfo, ReaderError> {
        let time = index.times().get(number).ok_or(ReaderError::Closed)?;
        if self.on_error == OnError::Fail && status != FrameStatus::Ok {
            let reason = match status {
                FrameStatus::Missing => "it could not be decoded",
                _ => "the decoder concealed errors, or its timestamp was reconstructed",
            };
            return Err(self.decode_error(index, number, reason));
        }
        let crate::FrameTime { pts, seconds, duration_secs, is_keyframe } = *time;
        Ok(FrameInfo { number, pts, seconds, duration_secs, is_keyframe, status })
    }

    /// Metadata of a decoded frame. With an approximate index, its time comes from the frame.
    pub(crate) fn info_of(&self, index: &FrameIndex, number: usize, status: FrameStatus, frame: &Frame) -> Result<FrameInfo, ReaderError> {
        let info = self.info(index, number, status)?;
        if index.source != IndexSource::Approximate {
            return Ok(info);
        }
        let duration_secs = frame.duration.map_or(info.duration_secs, |ticks| frame.time_base.seconds(ticks));
        Ok(FrameInfo { pts: frame.pts, seconds: frame.seconds(), duration_secs, is_keyframe: frame.is_keyframe, ..info })
    }

    /// Passes a better index on to the reader.
    pub(crate) fn offer(&self, index: &Arc<FrameIndex>) {
        *self.repaired.lock() = Some(Arc::clone(index));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Converts a fault that nothing repairs to an error.
    pub(crate) fn error_of(&self, fault: Fault) -> ReaderError {
        match fault {
            Fault::Error(error) => error,
            Fault::OtherKind => self.failed("the size or format changes before the first frame"),
            Fault::IndexWrong => self.failed("the packet index does not match the decoded frames"),
        }
    }

    /// Uploads a batch made on the host to a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) fn uploaded(
        &self,
        memory: &crate::device_engine::GpuMemory,
        tensor: &crate::HostTensor,
    ) -> Result<crate::Tensor, ReaderError> {
        let failed = |error| ReaderError::Cuda { source_name: self.source_name(), error };
        let uploaded = memory.upload(tensor).map_err(failed)?;
        self.counters.upload_bytes.add(tensor.as_bytes().len() as u64);
        Ok(crate::Tensor::Cuda(uploaded))
    }

    pub(crate) fn failed(&self, reason: &str) -> ReaderError {
        ReaderError::Failed { reason: format!("{}: {reason}", self.source_name()) }
    }

    pub(crate) fn decode_error(&self, index: &FrameIndex, number: usize, reason: &str) -> ReaderError {
        let pts = index.frames.get(number).map_or(0, |frame| frame.pts);
        ReaderError::Decode { source_name: self.source_name(), number, pts, reason: reason.to_owned() }
    }
}

/// When a call times out.
#[derive(Clone)]
pub(crate) struct Deadline {
    video: Arc<Video>,
    end: Option<Instant>,
}

impl Deadline {
    /// Returns an error when the time is over; `state` describes what was awaited.
    pub(crate) fn check(&self, state: impl FnOnce() -> String) -> Result<(), ReaderError> {
        if self.end.is_some_and(|end| Instant::now() >= end) {
            return Err(self.error(state()));
        }
        Ok(())
    }

    pub(crate) fn error(&self, state: String) -> ReaderError {
        let seconds = self.video.timeout.map_or(0.0, |timeout| timeout.as_secs_f64());
        ReaderError::Timeout { source_name: self.video.source_name(), seconds, state }
    }
}

/// Output format, and the size and format of decoded frames.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) output: OutputOptions,
    pub(crate) kind: FrameKind,
    /// Whether the size and format are those of a decoded frame, not only of the header.
    pub(crate) is_seen: bool,
}

impl Target {
    pub(crate) fn shape(&self) -> ImageShape {
        image_shape(&self.output, self.kind)
    }
}

//! What a reader, its decoders and its batches share of one video.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use framerail_core::{Frame, FramePool};
use framerail_media::{DecoderSetup, Input, InputOptions, MediaError};

use crate::{
    FrameInfo, FrameStatus, IndexSource, OnError, OutputOptions, ReaderError,
    batch::PictureShape,
    counters::Counters,
    frame_index::FrameIndex,
    host_memory::HostPool,
    host_pictures::{FrameKind, picture_shape},
};

/// Why a read did not come to its end.
pub(crate) enum Fault {
    /// For the caller.
    Error(ReaderError),
    /// A frame is of another size or format than the header promised.
    OtherKind,
    /// Packets and pictures do not match although nothing is damaged: the index is not to be trusted.
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

/// How decoding is set up; shared by all threads of a reader.
#[derive(Clone)]
pub(crate) struct Video {
    /// The source, whole.
    pub(crate) input: InputOptions,
    pub(crate) setup: DecoderSetup,
    /// Threads that may decode at once.
    pub(crate) threads: usize,
    /// Memory for frames decoded ahead of their turn.
    pub(crate) memory_bytes: u64,
    pub(crate) timeout: Option<Duration>,
    pub(crate) on_error: OnError,
    pub(crate) counters: Arc<Counters>,
    /// For frames that must be copied: turned or converted ones.
    pub(crate) frames: FramePool,
    pub(crate) memory: HostPool,
    /// A thread found that the index is not to be trusted.
    pub(crate) is_index_wrong: Arc<AtomicBool>,
    /// Rises whenever something else is known of the video's frames than before.
    pub(crate) version: Arc<AtomicU64>,
}

impl Video {
    pub(crate) fn source_name(&self) -> String {
        self.input.source.to_string()
    }

    /// The same video with its own token, so that what reads it can be ended alone.
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

    /// What is told of a frame.
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

    /// What is told of a frame that came out: an approximate index does not know its time, the frame does.
    pub(crate) fn info_of(&self, index: &FrameIndex, number: usize, status: FrameStatus, frame: &Frame) -> Result<FrameInfo, ReaderError> {
        let info = self.info(index, number, status)?;
        if index.source != IndexSource::Approximate {
            return Ok(info);
        }
        let duration_secs = frame.duration.map_or(info.duration_secs, |ticks| frame.time_base.seconds(ticks));
        Ok(FrameInfo { pts: frame.pts, seconds: frame.seconds(), duration_secs, is_keyframe: frame.is_keyframe, ..info })
    }

    /// A fault in words, for a thread that cannot fix it; a wrong index is made again by the next call.
    pub(crate) fn error_of(&self, fault: Fault) -> ReaderError {
        match fault {
            Fault::Error(error) => error,
            Fault::OtherKind => self.failed("its frames change their size or format while the first is looked for"),
            Fault::IndexWrong => {
                self.is_index_wrong.store(true, Ordering::Relaxed);
                self.version.fetch_add(1, Ordering::Release);
                self.failed("the packet index does not match the decoded frames; read again, and frames will be counted")
            }
        }
    }

    /// A batch made on the host, on a card.
    #[cfg(feature = "cuda")]
    pub(crate) fn uploaded(
        &self,
        memory: &crate::device_engine::CardMemory,
        tensor: &crate::HostTensor,
    ) -> Result<crate::Tensor, ReaderError> {
        let failed = |error| ReaderError::Cuda { source_name: self.source_name(), error };
        let uploaded = memory.upload(tensor).map_err(failed)?;
        self.counters.upload_bytes.add(tensor.as_bytes().len() as u64);
        Ok(crate::Tensor::Cuda(uploaded))
    }

    fn failed(&self, reason: &str) -> ReaderError {
        ReaderError::Failed { reason: format!("{}: {reason}", self.source_name()) }
    }

    pub(crate) fn decode_error(&self, index: &FrameIndex, number: usize, reason: &str) -> ReaderError {
        let pts = index.frames.get(number).map_or(0, |frame| frame.pts);
        ReaderError::Decode { source_name: self.source_name(), number, pts, reason: reason.to_owned() }
    }
}

/// When a call gives up.
#[derive(Clone)]
pub(crate) struct Deadline {
    video: Arc<Video>,
    end: Option<Instant>,
}

impl Deadline {
    /// An error when the time is over; `state` says what was waited for.
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

/// What is made of frames, and what they are like.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) output: OutputOptions,
    pub(crate) kind: FrameKind,
    /// The kind was seen, not only promised by the header.
    pub(crate) is_seen: bool,
}

impl Target {
    pub(crate) fn shape(&self) -> PictureShape {
        picture_shape(&self.output, self.kind)
    }
}

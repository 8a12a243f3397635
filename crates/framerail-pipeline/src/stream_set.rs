//! Reading many streams in parallel: the interfaces that open and read them, and the policies for late, stalled and failed ones.

use std::{sync::Arc, time::Duration};

use framerail_core::{CancelToken, SourceUrl, StreamId, StreamInfo};

use crate::{Emitter, Flow, StageContext, StageError};

/// A source to be read as a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// Number of the stream within the run.
    pub id: StreamId,
    /// Path or URL as given by the user.
    pub source: SourceUrl,
    /// Short name for files and records, unique in the run.
    pub name: String,
    /// Whether it produces frames in real time, so that it cannot wait to be read.
    pub is_live: bool,
    /// Whether it can be opened again after a failure or its end.
    pub can_reopen: bool,
}

/// The connection of a stream's thread to the run.
#[derive(Clone, Debug)]
pub struct StreamLine {
    /// Counters and notices of the reading stage.
    pub context: StageContext,
    /// Cancelled when the stream is removed or the run ends: blocking calls should return soon.
    pub cancel: CancelToken,
}

impl StreamLine {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// Opens sources. Called from several threads concurrently.
pub trait StreamOpener: Send + Sync {
    /// Checks a source that is added during the run, and names its stream. Does not open it.
    ///
    /// # Errors
    /// `Usage` or `Input` for sources that can never be a stream.
    fn admit(&self, source: &str, id: StreamId) -> Result<StreamRequest, StageError>;

    /// Opens a source on the thread that will read it; called again for a retry.
    ///
    /// # Errors
    /// When it has no video. `Usage` errors are never retried.
    fn open(&self, request: &StreamRequest, line: &StreamLine) -> Result<Box<dyn StreamReader>, StageError>;
}

/// Reads one stream on a separate thread. The engine adds the stream's start before its items and its end after them.
pub trait StreamReader: Send {
    /// Called once on the reading thread, before the first [`StreamReader::produce`].
    ///
    /// # Errors
    /// When the stream cannot be read.
    fn start(&mut self, _line: &StreamLine) -> Result<(), StageError> {
        Ok(())
    }

    /// Stream info, with the properties of its first frame.
    fn info(&self) -> Arc<StreamInfo>;

    /// Produces the next items of the stream; returns [`Flow::Done`] at its end.
    ///
    /// # Errors
    /// Errors that end the stream early.
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError>;

    /// Called once after the end, a stop, a removal or an error: outputs what is still held. Returns why the source ended early, if it did.
    ///
    /// # Errors
    /// When what is held cannot be output.
    fn finish(&mut self, out: &mut dyn Emitter) -> Result<Option<String>, StageError>;
}

/// Which frames of a live stream are dropped when its buffer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropPolicy {
    /// The oldest waiting frame is dropped: frames stay recent.
    Oldest,
    /// The newly arrived frame is dropped: waiting ones are kept.
    Newest,
    /// None: the source has to wait. Frames over budget are counted.
    None,
}

/// What happens when a stream of a run fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnStreamError {
    /// The run fails.
    Fail,
    /// The stream ends; others continue.
    End,
    /// The source is reopened after a while; others continue meanwhile.
    Retry,
}

/// How often and after what delay a failed source is reopened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait before the first attempt; doubled for each further one. Starts over once a connection has produced a frame.
    pub first_wait: Duration,
    /// Maximum wait between two attempts.
    pub max_wait: Duration,
    /// Number of consecutive attempts before the stream ends. Default: no limit for live streams, `file_attempts` for others.
    pub attempts: Option<u32>,
    /// Number of attempts for streams that are not live, when `attempts` is `None`.
    pub file_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first_wait: Duration::from_millis(500), max_wait: Duration::from_secs(30), attempts: None, file_attempts: 5 }
    }
}

impl RetryPolicy {
    /// Wait before an attempt, counted from 1; `None` when there are no more attempts.
    pub(crate) fn wait(&self, attempt: u32, is_live: bool) -> Option<Duration> {
        let limit = self.attempts.or((!is_live).then_some(self.file_attempts));
        if limit.is_some_and(|attempts| attempt > attempts) {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(16);
        Some(self.first_wait.saturating_mul(1 << doublings).min(self.max_wait))
    }
}

/// How the streams of a set are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPolicy {
    /// Maximum number of streams read at once, not counting live ones; at least 1. Others wait for their turn.
    pub at_once: usize,
    /// Whether files are read in real time, as from a camera.
    pub realtime: bool,
    /// Which frames to drop. Default: `Oldest` for live and paced streams. Streams that are read at full speed never drop frames.
    pub drop: Option<DropPolicy>,
    /// Latency budget from a frame's arrival to the end of the pipeline; for live and paced streams.
    pub latency: Option<Duration>,
    /// Buffered frames per stream. Default: 2, or 8 for live and paced streams.
    pub buffer: Option<usize>,
    /// What happens when a stream fails. Default: `Retry` for live streams, `End` for others added during the run, otherwise `Fail`.
    pub on_error: Option<OnStreamError>,
    /// Settings for `Retry`.
    pub retry: RetryPolicy,
    /// Whether the run continues when no stream is left, so that others can be added.
    pub stays: bool,
    /// Whether streams that are not timed advance together: the next frame is the one with the earliest time since the start of its stream.
    pub in_step: bool,
}

impl Default for StreamPolicy {
    fn default() -> Self {
        Self {
            at_once: 1,
            realtime: false,
            drop: None,
            latency: None,
            buffer: None,
            on_error: None,
            retry: RetryPolicy::default(),
            stays: false,
            in_step: false,
        }
    }
}

/// Default number of buffered frames per stream.
const FILE_BUFFER: usize = 2;
/// The same for live and paced streams, whose frames arrive in bursts.
const LIVE_BUFFER: usize = 8;

impl StreamPolicy {
    /// Whether these streams are read one after another at full speed.
    pub fn reads_in_turn(&self, requests: &[StreamRequest]) -> bool {
        self.at_once <= 1 && !self.realtime && !self.stays && !requests.iter().any(|request| request.is_live)
    }

    pub(crate) fn is_timed(&self, request: &StreamRequest) -> bool {
        request.is_live || self.realtime
    }

    pub(crate) fn drop_of(&self, request: &StreamRequest) -> DropPolicy {
        if self.is_timed(request) { self.drop.unwrap_or(DropPolicy::Oldest) } else { DropPolicy::None }
    }

    pub(crate) fn buffer_of(&self, request: &StreamRequest) -> usize {
        self.buffer.unwrap_or(if self.is_timed(request) { LIVE_BUFFER } else { FILE_BUFFER }).max(1)
    }

    /// What happens when this stream fails.
    pub fn on_error_of(&self, request: &StreamRequest) -> OnStreamError {
        let default = if request.is_live { OnStreamError::Retry } else { OnStreamError::Fail };
        let chosen = self.on_error.unwrap_or(default);
        if chosen == OnStreamError::Retry && !request.can_reopen { OnStreamError::Fail } else { chosen }
    }
}

/// A stream that was opened before the run to determine its format.
pub struct OpenedStream {
    /// ID of the stream within the set.
    pub id: StreamId,
    /// Its reader.
    pub reader: Box<dyn StreamReader>,
    /// The token that its blocking calls observe.
    pub cancel: CancelToken,
}

/// The streams of a source stage, and how they are read.
pub struct StreamSet {
    /// Opens the streams.
    pub opener: Arc<dyn StreamOpener>,
    /// The initial streams, in the order in which they are opened.
    pub requests: Vec<StreamRequest>,
    /// One of them that is already open.
    pub opened: Option<OpenedStream>,
    /// How they are read.
    pub policy: StreamPolicy,
    /// Part of the run's memory limit reserved for frames that they decode ahead, in bytes.
    pub ahead_bytes: u64,
}

impl StreamSet {
    /// Whether the stage's thread can read all of them: one at a time, at full speed.
    pub(crate) fn is_in_turn(&self) -> bool {
        self.policy.reads_in_turn(&self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let policy = RetryPolicy {
            first_wait: Duration::from_millis(100),
            max_wait: Duration::from_millis(350),
            attempts: Some(4),
            file_attempts: 1,
        };
        let waits: Vec<_> = (1..=5).map(|attempt| policy.wait(attempt, true).map(|wait| wait.as_millis())).collect();
        assert_eq!(waits, [Some(100), Some(200), Some(350), Some(350), None]);
        assert!(RetryPolicy::default().wait(u32::MAX, true).is_some() && RetryPolicy::default().wait(6, false).is_none());
    }
}

//! Many streams read side by side: what opens and reads them, and what holds when one is late, stalls or fails.

use std::{sync::Arc, time::Duration};

use framerail_core::{CancelToken, SourceUrl, StreamId, StreamInfo};

use crate::{Emitter, Flow, StageContext, StageError};

/// A source that becomes one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRequest {
    /// The stream's number within the run.
    pub id: StreamId,
    /// Path or URL, as the user wrote it.
    pub source: SourceUrl,
    /// Short name for files and records, unlike any other in the run.
    pub name: String,
    /// Whether it gives frames at its own time, so that it cannot wait to be read.
    pub is_live: bool,
}

/// What a stream's thread holds of the run.
#[derive(Clone, Debug)]
pub struct StreamLine {
    /// Counters and notices of the stage that reads.
    pub context: StageContext,
    /// Cancelled when the stream is removed or the run ends: blocking calls should return soon.
    pub cancel: CancelToken,
}

impl StreamLine {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// Opens sources. Called from several threads at once.
pub trait StreamOpener: Send + Sync {
    /// Looks at a source that is added while the run goes on, and names its stream. Nothing is opened yet.
    ///
    /// # Errors
    /// `Usage` or `Input` for what can never be a stream.
    fn admit(&self, source: &str, id: StreamId) -> Result<StreamRequest, StageError>;

    /// Opens a source, on the thread that will read it; again after a failure that is retried.
    ///
    /// # Errors
    /// When it gives no video. `Usage` errors are never retried.
    fn open(&self, request: &StreamRequest, line: &StreamLine) -> Result<Box<dyn StreamReader>, StageError>;
}

/// Reads one stream, on its own thread. The engine gives the stream's start before its items and its end after them.
pub trait StreamReader: Send {
    /// Called once, on the thread that reads, before the first [`StreamReader::produce`].
    ///
    /// # Errors
    /// What keeps it from being read.
    fn start(&mut self, _line: &StreamLine) -> Result<(), StageError> {
        Ok(())
    }

    /// The stream, as its first frame has it.
    fn info(&self) -> Arc<StreamInfo>;

    /// Makes the next item or few of the stream; [`Flow::Done`] at its end.
    ///
    /// # Errors
    /// What ends the stream before its time.
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError>;

    /// Called once after the end, a stop, a removal or an error: gives what is held. Says why the source ended early, if it did.
    ///
    /// # Errors
    /// When what is held cannot be given.
    fn finish(&mut self, out: &mut dyn Emitter) -> Result<Option<String>, StageError>;
}

/// What becomes of frames of a live stream when those after them come before there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropPolicy {
    /// The oldest that waits is dropped: pictures stay fresh.
    Oldest,
    /// The one that comes is dropped: what waits is kept.
    Newest,
    /// Nothing is dropped: the source has to wait. Frames over their budget are counted.
    None,
}

/// What becomes of a run when one of its streams fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnStreamError {
    /// The run fails.
    Fail,
    /// The stream ends, the others go on.
    End,
    /// The source is opened again after a while, the others go on meanwhile.
    Retry,
}

/// How often and how soon a failed source is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Wait before the first attempt; twice as long before each further one. A connection that gave a frame starts again.
    pub first_wait: Duration,
    /// Longest wait between two attempts.
    pub max_wait: Duration,
    /// Attempts in a row before the stream ends. Default: no limit for live streams, `file_attempts` for others.
    pub attempts: Option<u32>,
    /// Attempts for streams that are not live, where `attempts` does not say.
    pub file_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { first_wait: Duration::from_millis(500), max_wait: Duration::from_secs(30), attempts: None, file_attempts: 5 }
    }
}

impl RetryPolicy {
    /// How long to wait before an attempt, the first being 1; `None` when there are no more.
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
    /// Most streams that are read at once, live ones not counted; at least 1. Others wait for their turn.
    pub at_once: usize,
    /// Whether frames of files come at their own time, as from a camera.
    pub realtime: bool,
    /// Default: `Oldest` for live and paced streams. Streams that are read as fast as they go never drop.
    pub drop: Option<DropPolicy>,
    /// Longest time from a frame's arrival to the end of the pipeline; for live and paced streams.
    pub latency: Option<Duration>,
    /// Frames of a stream that wait for their turn. Default: 2, and 8 for live and paced streams.
    pub buffer: Option<usize>,
    /// Default: `Retry` for live streams, `End` for others that are added to a run, `Fail` for those it starts with.
    pub on_error: Option<OnStreamError>,
    /// For `Retry`.
    pub retry: RetryPolicy,
    /// Whether the run goes on when no stream is left, so that others can be added.
    pub stays: bool,
    /// Whether no stream that is not timed may be ahead of another: the next frame is that with the earliest time from its stream's start.
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

/// Frames of a stream that wait where nothing else is said.
const FILE_BUFFER: usize = 2;
/// The same for a live or paced stream, whose frames come in bursts.
const LIVE_BUFFER: usize = 8;

impl StreamPolicy {
    /// Whether these streams are read one after another, as fast as they go.
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

    pub(crate) fn on_error_of(&self, request: &StreamRequest) -> OnStreamError {
        self.on_error.unwrap_or(if request.is_live { OnStreamError::Retry } else { OnStreamError::Fail })
    }
}

/// A stream that was opened before the run, so that its format was known.
pub struct OpenedStream {
    /// The stream of the set that it is.
    pub id: StreamId,
    /// Its reader.
    pub reader: Box<dyn StreamReader>,
    /// What its blocking calls watch.
    pub cancel: CancelToken,
}

/// The streams of a source, and how they are read.
pub struct StreamSet {
    /// Opens them.
    pub opener: Arc<dyn StreamOpener>,
    /// Those that are there from the start, in the order in which they are opened.
    pub requests: Vec<StreamRequest>,
    /// One of them that is open already.
    pub opened: Option<OpenedStream>,
    /// How they are read.
    pub policy: StreamPolicy,
    /// Host memory for frames that they decode ahead: that part of the run's limit is theirs.
    pub ahead_bytes: u64,
}

impl StreamSet {
    /// Whether all can be read by the stage's own thread: one at a time, as fast as they go.
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

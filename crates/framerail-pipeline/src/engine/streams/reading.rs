//! The thread of a stream: opens, reads, paces and reopens the source.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use framerail_core::Frame;

use super::{
    super::{memory::Admission, stream_table::StreamRecord},
    continuity::{Continuity, Followed},
    lanes::{Lanes, Outcome},
};
use crate::{
    Arrival, Closed, DropPolicy, Emitter, ErrorKind, Flow, FrameItem, FrameLease, Item, OnStreamError, OpenedStream, StageError, StreamEnd,
    StreamLine, StreamOpener, StreamReader, StreamRequest, stats::StreamState,
};

/// One stream, from its first opening to its end.
pub(super) struct Reading {
    pub(super) request: StreamRequest,
    pub(super) line: StreamLine,
    pub(super) record: Arc<StreamRecord>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) opener: Arc<dyn StreamOpener>,
    pub(super) opened: Option<OpenedStream>,
}

/// Progress of a stream over all of its connections.
struct Progress {
    continuity: Continuity,
    has_started: bool,
    has_frames: bool,
    /// Failed attempts since the last frame.
    attempts: u32,
}

impl Reading {
    /// Reads the stream to its end.
    ///
    /// # Errors
    /// Errors that end the whole run; `Closed` when items are no longer accepted.
    pub(super) fn read(&mut self, sink: &mut dyn Emitter) -> Result<Outcome, StageError> {
        let mut progress =
            Progress { continuity: Continuity::new(self.request.is_live), has_started: false, has_frames: false, attempts: 0 };
        let (ended_early, failure) = loop {
            let failure = match self.read_once(&mut progress, sink) {
                Err(error) if error.kind == ErrorKind::Closed => return Err(error),
                _ if self.line.is_cancelled() => break (None, None),
                Ok(ended_early) if !self.reopens_at_end() => break (ended_early, None),
                Ok(ended_early) => {
                    let reason = ended_early.unwrap_or_else(|| "the source ended".to_owned());
                    StageError::new(ErrorKind::Input, format!("{}: {reason}", self.request.source))
                }
                Err(error) => error,
            };
            match self.wait_to_reopen(&mut progress, &failure)? {
                AfterFailure::Reopen => {}
                AfterFailure::Cancelled => break (None, None),
                AfterFailure::GiveUp => break (Some(failure.message.clone()), Some(failure)),
            }
        };
        if progress.has_started {
            sink.push(Item::StreamEnd(StreamEnd { id: self.request.id, ended_early }))?;
        }
        self.record.update(|stats| {
            if stats.state != StreamState::Removed {
                stats.state = if failure.is_some() { StreamState::Failed } else { StreamState::Ended };
            }
        });
        Ok(Outcome { has_started: progress.has_started, failure: failure.filter(|_| !progress.has_frames) })
    }

    fn reopens_at_end(&self) -> bool {
        self.request.is_live && self.lanes.policy().on_error_of(&self.request) == OnStreamError::Retry
    }

    /// Opens the source and reads until it ends or fails; returns why it ended early, if it did.
    fn read_once(&mut self, progress: &mut Progress, sink: &mut dyn Emitter) -> Result<Option<String>, StageError> {
        let mut reader = match self.opened.take() {
            Some(opened) => opened.reader,
            None => self.opener.open(&self.request, &self.line)?,
        };
        reader.start(&self.line)?;
        if progress.has_started {
            progress.continuity.reopened(&reader.info().side_streams);
            self.record.update(|stats| {
                stats.reconnects += 1;
                stats.state = StreamState::Running;
            });
            self.line.context.counter("reconnects").add(1);
        } else {
            let info = reader.info();
            progress.continuity.opened(&info.side_streams);
            self.record.update(|stats| {
                info.name.clone_into(&mut stats.name);
                if stats.state != StreamState::Removed {
                    stats.state = StreamState::Running;
                }
            });
            sink.push(Item::StreamStart(info))?;
            progress.has_started = true;
        }
        let mut out = StreamEmitter { reading: self, progress, pace: Pace::default(), sink };
        let read = out.reading.read_all(reader.as_mut(), &mut out);
        match read {
            Err(error) if error.kind == ErrorKind::Closed => Err(error),
            read => {
                let ended_early = reader.finish(&mut out);
                read.and(ended_early)
            }
        }
    }

    fn read_all(&self, reader: &mut dyn StreamReader, out: &mut StreamEmitter<'_>) -> Result<(), StageError> {
        while !self.line.is_cancelled() {
            if reader.produce(out)? == Flow::Done {
                break;
            }
        }
        Ok(())
    }

    /// Decides how to handle a failure; waits if the source is to be reopened.
    fn wait_to_reopen(&self, progress: &mut Progress, failure: &StageError) -> Result<AfterFailure, StageError> {
        let policy = self.lanes.policy();
        self.record.update(|stats| stats.last_error = Some(failure.message.clone()));
        if self.lanes.is_fatal(&self.request, failure) {
            return Err(failure.clone());
        }
        // A file would start again from its beginning, and a wrong option stays wrong.
        let is_worth_it = failure.kind != ErrorKind::Usage && (self.request.is_live || !progress.has_frames);
        let may_reopen = is_worth_it && policy.on_error_of(&self.request) == OnStreamError::Retry;
        progress.attempts = progress.attempts.saturating_add(1);
        let Some(wait) = policy.retry.wait(progress.attempts, self.request.is_live).filter(|_| may_reopen) else {
            self.line.context.counter("streams_failed").add(1);
            self.line.context.notice(format_args!("stream {} ends after an error: {}", self.request.name, failure.message));
            return Ok(AfterFailure::GiveUp);
        };
        log::warn!("{}: {}; trying again in {} s", self.line.context.name(), failure.message, wait.as_secs_f32());
        self.record.update(|stats| {
            if stats.state != StreamState::Removed {
                stats.state = StreamState::Retrying;
            }
        });
        let goes_on = self.lanes.sleep_until(self.request.id, Instant::now() + wait);
        Ok(if goes_on { AfterFailure::Reopen } else { AfterFailure::Cancelled })
    }
}

enum AfterFailure {
    Reopen,
    Cancelled,
    GiveUp,
}

/// Passes the items of a reader into the pipeline, with continuous timestamps, paced, stamped with arrival times and counted.
struct StreamEmitter<'a> {
    reading: &'a Reading,
    progress: &'a mut Progress,
    pace: Pace,
    sink: &'a mut dyn Emitter,
}

impl Emitter for StreamEmitter<'_> {
    fn push(&mut self, item: Item) -> Result<(), Closed> {
        match item {
            Item::Frame(item) => self.push_frame(item),
            Item::Packet(packet) => match self.progress.continuity.packet(packet, Instant::now()) {
                Followed::Now(packet) => self.sink.push(Item::Packet(packet)),
                Followed::Held => Ok(()),
                Followed::LeftOut => {
                    self.reading.line.context.counter("packets_left_out").add(1);
                    Ok(())
                }
            },
            item => self.sink.push(item),
        }
    }
}

impl StreamEmitter<'_> {
    fn push_frame(&mut self, mut item: Box<FrameItem>) -> Result<(), Closed> {
        let (policy, request) = (self.reading.lanes.policy(), &self.reading.request);
        for packet in self.progress.continuity.resume(&item.frame, Instant::now()) {
            self.sink.push(Item::Packet(packet))?;
        }
        let jumped = self.progress.continuity.frame(&mut item.frame, Instant::now());
        if jumped {
            self.reading.record.update(|stats| stats.clock_jumps += 1);
        }
        (self.progress.has_frames, self.progress.attempts) = (true, 0);
        if policy.is_timed(request) {
            let at = if request.is_live { Instant::now() } else { self.wait_until_due(&item.frame) };
            let wall = SystemTime::now().checked_sub(at.elapsed()).unwrap_or_else(SystemTime::now);
            let may_drop = policy.drop_of(request) != DropPolicy::None;
            item.arrival = Some(Arrival { at, wall, budget: policy.latency, may_drop });
        }
        self.reading.record.read();
        match self.admit(&item.frame)? {
            Some(lease) => item.lease = lease,
            None => return Ok(()),
        }
        self.sink.push(Item::Frame(item))
    }

    /// Reserves memory for a frame; `None` when a frame that cannot wait is dropped.
    fn admit(&self, frame: &Frame) -> Result<Option<Option<Arc<FrameLease>>>, Closed> {
        let Reading { lanes, request, line, record, .. } = self.reading;
        let control = lanes.control();
        let waits = lanes.policy().drop_of(request) == DropPolicy::None;
        let admission = if waits { control.memory.admit(frame, control, || line.is_cancelled()) } else { control.memory.try_admit(frame) };
        match admission {
            Admission::Lease(lease) => Ok(Some(lease)),
            Admission::Full => {
                record.dropped(&format!("{}: memory full", lanes.place()), 1);
                Ok(None)
            }
            Admission::Never(why) => {
                control.fail(lanes.place(), StageError::new(ErrorKind::Resource, format!("{}: {why}", request.source)));
                Err(Closed)
            }
        }
    }

    /// Waits until a paced frame is due and returns that time as its arrival. Does not wait for late frames.
    fn wait_until_due(&mut self, frame: &Frame) -> Instant {
        let due = self.pace.due(frame.seconds());
        self.reading.lanes.sleep_until(self.reading.request.id, due);
        due.min(Instant::now())
    }
}

/// When the frames of a paced file are due.
#[derive(Default)]
struct Pace {
    start: Option<(Instant, f64)>,
}

impl Pace {
    fn due(&mut self, secs: f64) -> Instant {
        let (start, first) = *self.start.get_or_insert_with(|| (Instant::now(), secs));
        let wait = Duration::try_from_secs_f64(secs - first).unwrap_or_default();
        start.checked_add(wait).unwrap_or(start)
    }
}

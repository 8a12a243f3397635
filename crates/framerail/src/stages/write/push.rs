//! Pushes one stream to a server, with reconnects, on a separate thread.
//!
//! The stage encodes and puts packets into a bounded buffer; the thread connects, sends and connects again. A server that was out of
//! reach gets a new keyframe first, and everything from there on.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use framerail_core::{CancelToken, Frame, Packet, StreamId, StreamInfo};
use framerail_media::{MediaError, PushConnection, PushEncoder, PushOptions, PushPacket, PushTarget, WriteReport, WriterOptions};
use framerail_pipeline::{Counter, ErrorKind, StageContext, StageError};
use parking_lot::{Condvar, Mutex};

use crate::convert::output_error;

/// Maximum time between checks whether the run ends.
const WAIT_SLICE: Duration = Duration::from_millis(50);
/// Maximum pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Time to send the rest when a stream that may drop ends.
const GOODBYE: Duration = Duration::from_secs(3);
/// Time to send the rest of a file.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// Default number of attempts in a row while the pipeline waits: half a minute.
const PATIENT_RETRIES: u32 = 6;
/// The place of dropped frames in the statistics of streams.
const NOT_SENT: &str = "not sent";
/// Packets of audio and others per frame of the buffer.
const PACKETS_PER_FRAME: usize = 8;

/// What to do when a server is unreachable or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLoss {
    Retry,
    Fail,
}

/// Options of a push.
#[derive(Clone, Debug)]
pub(super) struct PushSettings {
    pub(super) push: PushOptions,
    pub(super) on_loss: OnLoss,
    /// Attempts in a row; `None` for no limit.
    pub(super) retries: Option<u32>,
    pub(super) retry_wait: Duration,
    /// Maximum number of encoded frames that wait.
    pub(super) buffer: usize,
    /// Whether the pipeline waits when the buffer is full; `None`: by the input.
    pub(super) waits: Option<bool>,
}

impl PushSettings {
    /// Resolves options that depend on the input.
    pub(super) fn settle(&mut self, is_live: bool) {
        let waits = *self.waits.get_or_insert(!is_live);
        self.retries = self.retries.or(waits.then_some(PATIENT_RETRIES));
    }

    fn waits(&self) -> bool {
        self.waits.unwrap_or(false)
    }
}

/// Counters of pushes over all streams; dropped frames are also counted by their stream.
#[derive(Clone)]
pub(super) struct PushCounters {
    context: StageContext,
    stream: StreamId,
    frames: Counter,
    packets: Counter,
    packets_skipped: Counter,
    bytes: Counter,
    frames_not_sent: Counter,
    packets_not_sent: Counter,
    reconnects: Counter,
}

impl PushCounters {
    pub(super) fn new(context: &StageContext) -> Self {
        Self {
            context: context.clone(),
            stream: StreamId::default(),
            frames: context.counter("frames_written"),
            packets: context.counter("packets_copied"),
            packets_skipped: context.counter("packets_skipped"),
            bytes: context.counter("bytes_written"),
            frames_not_sent: context.counter("frames_not_sent"),
            packets_not_sent: context.counter("packets_not_sent"),
            reconnects: context.counter("reconnects"),
        }
    }

    fn of(&self, stream: StreamId) -> Self {
        Self { stream, ..self.clone() }
    }

    fn lost(&self, packet: &PushPacket) {
        if packet.is_video() {
            self.frames_lost(1);
        } else {
            self.packets_not_sent.add(1);
        }
    }

    fn frames_lost(&self, frames: u64) {
        self.frames_not_sent.add(frames);
        self.context.count_dropped(self.stream, NOT_SENT, frames);
    }

    fn sent(&self, packet: &PushPacket, is_taken: bool) {
        let counter = match (packet.is_video(), is_taken) {
            (true, _) => &self.frames,
            (false, true) => &self.packets,
            (false, false) => &self.packets_skipped,
        };
        counter.add(1);
        self.bytes.add(if is_taken { packet.bytes() as u64 } else { 0 });
    }
}

/// State between the stage and the thread.
struct Line {
    settings: PushSettings,
    counters: PushCounters,
    shown: String,
    stop: CancelToken,
    abort: CancelToken,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<PushPacket>,
    frames_waiting: usize,
    /// Frames are skipped until the next keyframe, because earlier ones were dropped.
    awaits_keyframe: bool,
    /// The encoder should make a keyframe.
    wants_keyframe: bool,
    /// No further packets follow.
    is_closed: bool,
    connections: u64,
    /// The thread failed permanently.
    failure: Option<StageError>,
    /// The last error.
    trouble: Option<String>,
}

impl State {
    fn pop(&mut self) -> Option<PushPacket> {
        let packet = self.waiting.pop_front()?;
        self.frames_waiting -= usize::from(packet.is_video());
        Some(packet)
    }

    /// Drops the oldest frames, up to the next keyframe after the first packet.
    fn shorten(&mut self, counters: &PushCounters) {
        let keep = self.waiting.iter().skip(1).position(PushPacket::is_keyframe).map(|place| place + 1);
        if keep.is_none() {
            (self.awaits_keyframe, self.wants_keyframe) = (true, true);
        }
        self.let_go(keep.unwrap_or(self.waiting.len()), counters);
    }

    /// Restarts for a server that was unreachable: with the next frame, if frames may be dropped, else with the first waiting keyframe.
    fn begin_anew(&mut self, waits: bool, counters: &PushCounters) {
        if !waits {
            self.let_go(self.waiting.len(), counters);
            self.awaits_keyframe = true;
        }
        self.wants_keyframe |= !self.waiting.iter().any(PushPacket::is_keyframe);
    }

    fn let_go(&mut self, count: usize, counters: &PushCounters) {
        for _ in 0..count {
            if let Some(packet) = self.pop() {
                counters.lost(&packet);
            }
        }
    }
}

impl Line {
    fn is_full(&self, state: &State) -> bool {
        state.frames_waiting >= self.settings.buffer || state.waiting.len() >= self.settings.buffer.saturating_mul(PACKETS_PER_FRAME)
    }

    /// The stage's side: adds a packet, and returns whether the encoder should make a keyframe.
    fn push(&self, packet: PushPacket) -> Result<bool, StageError> {
        let mut state = self.state.lock();
        while self.is_full(&state) && state.failure.is_none() {
            if self.abort.is_cancelled() {
                self.counters.lost(&packet);
                return Err(StageError::new(ErrorKind::Cancelled, format!("stopped while waiting for {}", self.shown)));
            }
            // A stopped run does not wait.
            if !self.settings.waits() || self.stop.is_cancelled() {
                state.shorten(&self.counters);
            } else {
                self.changed.wait_for(&mut state, WAIT_SLICE);
            }
        }
        if let Some(failure) = &state.failure {
            self.counters.lost(&packet);
            return Err(failure.clone());
        }
        if packet.is_keyframe() {
            state.awaits_keyframe = false;
        }
        if state.awaits_keyframe {
            self.counters.lost(&packet);
        } else {
            state.frames_waiting += usize::from(packet.is_video());
            state.waiting.push_back(packet);
            self.changed.notify_all();
        }
        Ok(std::mem::take(&mut state.wants_keyframe))
    }

    fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    // The thread's side.

    /// The next packet, once it is there; `None` when all are sent and no more follow.
    fn take(&self) -> Option<PushPacket> {
        let mut state = self.state.lock();
        loop {
            if let Some(packet) = state.pop() {
                self.changed.notify_all();
                return Some(packet);
            }
            if state.is_closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn connected(&self, warnings: &[String]) {
        let mut state = self.state.lock();
        state.connections += 1;
        let was_lost = state.trouble.take().is_some();
        if state.connections > 1 {
            self.counters.reconnects.add(1);
        } else {
            warnings.iter().for_each(|warning| self.counters.context.notice(format_args!("{}: {warning}", self.shown)));
        }
        if was_lost {
            state.begin_anew(self.settings.waits(), &self.counters);
        }
        self.changed.notify_all();
    }

    /// Records a failure; returns whether to retry.
    fn failed(&self, error: &MediaError, attempt: u32) -> bool {
        let mut state = self.state.lock();
        let is_first = state.trouble.is_none();
        state.trouble = Some(error.to_string());
        if error.is_usage() || self.settings.on_loss == OnLoss::Fail || self.settings.retries.is_some_and(|most| attempt > most) {
            let hint = if self.settings.on_loss == OnLoss::Fail { "; on_loss=retry tries again" } else { "" };
            let kind = if error.is_usage() { ErrorKind::Usage } else { ErrorKind::Output };
            state.failure.get_or_insert(StageError::new(kind, format!("{}{hint}", self.naming(error))));
            self.changed.notify_all();
            return false;
        }
        if is_first {
            let next = if state.is_closed { "nothing more is sent" } else { "trying again" };
            self.counters.context.notice(format_args!("{}; {next}", self.naming(error)));
        }
        !state.is_closed
    }

    fn naming(&self, error: &MediaError) -> String {
        let words = error.to_string();
        if words.contains(&self.shown) { words } else { format!("{}: {words}", self.shown) }
    }

    fn pause(&self, time: Duration) {
        let (mut state, end) = (self.state.lock(), Instant::now() + time);
        while !state.is_closed && !self.changed.wait_until(&mut state, end).timed_out() {}
    }
}

/// The thread's work: connects, sends, and reconnects until there is nothing left to send.
fn run(line: &Line, target: &PushTarget, cancel: &CancelToken) {
    let (mut pause, mut attempt) = (line.settings.retry_wait, 0);
    loop {
        let error = match target.connect(cancel) {
            Ok(connection) => {
                line.connected(connection.warnings());
                let (sent, error) = send_all(line, connection);
                if sent {
                    (pause, attempt) = (line.settings.retry_wait, 0);
                }
                error
            }
            Err(error) => Some(error),
        };
        attempt += 1;
        match error {
            None | Some(MediaError::Cancelled { .. }) => return,
            Some(error) if !line.failed(&error, attempt) => return,
            Some(_) => line.pause(pause),
        }
        pause = (pause * 2).min(LONGEST_PAUSE.max(line.settings.retry_wait));
    }
}

/// Sends until the connection breaks; `None` when all was sent and the server was closed. Also whether a frame was sent.
fn send_all(line: &Line, mut connection: PushConnection) -> (bool, Option<MediaError>) {
    let mut sent = false;
    while let Some(packet) = line.take() {
        if !sent && !packet.is_keyframe() {
            line.counters.lost(&packet);
            continue;
        }
        match connection.write(&packet) {
            Ok(is_taken) => line.counters.sent(&packet, is_taken),
            Err(error) => {
                line.counters.lost(&packet);
                return (sent, Some(error));
            }
        }
        sent = true;
    }
    (sent, connection.finish().err())
}

/// One stream being pushed.
pub(super) struct Pusher {
    encoder: PushEncoder,
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
    /// Number of encoded frames.
    frames_given: u64,
    /// How long the connection stays open after the last packet.
    linger: Duration,
    /// Ends blocking calls of the thread.
    cancel: CancelToken,
}

impl Pusher {
    pub(super) fn start(
        url: &str,
        options: &WriterOptions,
        settings: &PushSettings,
        info: &StreamInfo,
        counters: &PushCounters,
    ) -> Result<Self, StageError> {
        let encoder = PushEncoder::open(url, options, &settings.push, info).map_err(output_error)?;
        let (target, cancel) = (encoder.target(), counters.context.abort_token().child());
        let linger = target.linger();
        let context = &counters.context;
        let line = Arc::new(Line {
            settings: settings.clone(),
            counters: counters.of(info.id),
            shown: target.shown(),
            stop: context.stop_token(),
            abort: context.abort_token(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let (own, flag) = (Arc::clone(&line), cancel.clone());
        let spawned = thread::Builder::new().name("push".into()).spawn(move || run(&own, &target, &flag));
        let thread =
            spawned.map_err(|error| StageError::new(ErrorKind::Resource, format!("cannot start a thread to push with: {error}")))?;
        Ok(Self { encoder, line, thread: Some(thread), frames_given: 0, linger, cancel })
    }

    pub(super) fn frame(&mut self, frame: &Frame) -> Result<(), StageError> {
        let packets = self.encoder.encode(frame).map_err(output_error)?;
        self.push(packets)
    }

    pub(super) fn packet(&mut self, packet: &Packet) -> Result<(), StageError> {
        let packets = self.encoder.copy(packet).map_err(output_error)?;
        self.push(packets)
    }

    fn push(&mut self, packets: impl IntoIterator<Item = PushPacket>) -> Result<(), StageError> {
        for packet in packets {
            self.frames_given += u64::from(packet.is_video());
            if self.line.push(packet)? {
                self.encoder.request_keyframe();
            }
        }
        Ok(())
    }

    /// Sends the rest and disconnects, for a bounded time.
    pub(super) fn complete(mut self) -> Result<WriteReport, StageError> {
        let rest = self.encoder.drain().map_err(output_error)?;
        self.push(rest)?;
        self.line.close();
        let is_patient = self.line.settings.waits() && !self.line.stop.is_cancelled();
        self.end(self.linger + if is_patient { LAST_WORDS } else { GOODBYE });
        self.outcome()?;
        Ok(self.encoder.report())
    }

    fn outcome(&self) -> Result<(), StageError> {
        let state = self.line.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if state.connections == 0 && self.encoder.report().frames > 0 {
            let (shown, reason) = (&self.line.shown, state.trouble.as_deref().unwrap_or("it timed out"));
            return Err(StageError::new(ErrorKind::Output, format!("{shown} was never reached, so nothing was sent: {reason}")));
        }
        Ok(())
    }

    /// Waits for the thread, then ends its blocking calls; unsent packets are dropped. A thread that hangs in a system call is left
    /// behind.
    fn end(&mut self, patience: Duration) {
        let Some(thread) = self.thread.take() else { return };
        for limit in [patience, GOODBYE] {
            let began = Instant::now();
            while !thread.is_finished() && began.elapsed() < limit && !self.line.abort.is_cancelled() {
                thread::sleep(Duration::from_millis(5));
            }
            self.cancel.cancel();
        }
        let mut state = self.line.state.lock();
        let left = state.waiting.len();
        state.let_go(left, &self.line.counters);
        self.line.counters.frames_lost(self.encoder.report().frames.saturating_sub(self.frames_given));
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.line.close();
        self.end(Duration::ZERO);
    }
}

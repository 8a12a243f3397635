//! Pushes one stream to a server, with reconnects.
//!
//! The stage encodes and puts packets into the buffer of a [`Sender`], whose thread connects, sends and connects again. After a reconnect
//! the server gets a new keyframe first, and everything after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use framerail_core::{CancelToken, Frame, Packet, StreamId, StreamInfo};
use framerail_media::{MediaError, PushConnection, PushEncoder, PushOptions, PushPacket, PushTarget, WriteReport, WriterOptions};
use framerail_pipeline::{Counter, ErrorKind, StageContext, StageError};
use parking_lot::Mutex;

use crate::{
    convert::output_error,
    sender::{Batch, Counters, Failure, Limits, Message, Protocol, Remedy, Sender, Surroundings, Waiting, WhenFull},
};

/// Time to send the rest of a stream that may drop frames.
const GOODBYE: Duration = Duration::from_secs(3);
/// Time to send the rest of a file.
const LAST_WORDS: Duration = Duration::from_secs(30);
/// Default number of attempts in a row while the pipeline waits: half a minute.
const PATIENT_RETRIES: u32 = 6;
/// The place of dropped frames in the statistics of streams.
const NOT_SENT: &str = "not sent";
/// Maximum packets waiting for one server: far more than its frames, for audio without video.
const BUFFER_BYTES: usize = 256_000_000;

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

impl Message for PushPacket {
    fn bytes(&self) -> usize {
        PushPacket::bytes(self)
    }

    fn entries(&self) -> usize {
        usize::from(self.is_video())
    }
}

/// Restart of a stream.
#[derive(Default)]
struct Keyframes {
    /// Packets are skipped until the next keyframe, because earlier frames were dropped.
    is_awaited: bool,
    /// A keyframe was requested from the encoder.
    is_wanted: bool,
}

/// A server that receives encoded video.
struct VideoServer {
    target: PushTarget,
    on_loss: OnLoss,
    waits: bool,
    counters: PushCounters,
    keyframes: Mutex<Keyframes>,
    has_warned: AtomicBool,
}

/// A connection, and whether a keyframe was sent.
struct Open {
    connection: PushConnection,
    has_begun: bool,
}

impl VideoServer {
    fn failure(&self, error: &MediaError) -> Failure {
        let (hint, remedy) = match (error.is_usage(), self.on_loss) {
            (true, _) => ("", Remedy::Stop(ErrorKind::Usage)),
            (false, OnLoss::Fail) => ("; on_loss=retry tries again", Remedy::Stop(ErrorKind::Output)),
            (false, OnLoss::Retry) => ("", Remedy::Retry(None)),
        };
        Failure { words: format!("{error}{hint}"), remedy }
    }

    /// Drops waiting packets up to a keyframe.
    fn drop_until(&self, keyframe: Option<usize>, waiting: &mut Waiting<PushPacket>) {
        if keyframe.is_none() {
            *self.keyframes.lock() = Keyframes { is_awaited: true, is_wanted: true };
        }
        waiting.drop_first(keyframe.unwrap_or(usize::MAX));
    }
}

impl Protocol for VideoServer {
    type Message = PushPacket;
    type Connection = Open;

    fn target(&self) -> String {
        self.target.shown()
    }

    fn batch(&self) -> Batch {
        Batch { messages: 1, bytes: usize::MAX, wait: Duration::ZERO }
    }

    fn connect(&self, cancel: &CancelToken) -> Result<Open, Failure> {
        let connection = self.target.connect(cancel).map_err(|error| self.failure(&error))?;
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            let shown = self.target.shown();
            connection.warnings().iter().for_each(|warning| self.counters.context.notice(format_args!("{shown}: {warning}")));
        }
        Ok(Open { connection, has_begun: false })
    }

    fn send(&self, open: &mut Open, packets: &mut Vec<PushPacket>) -> Result<(), Failure> {
        while let Some(packet) = packets.first() {
            if open.has_begun || packet.is_keyframe() {
                let is_taken = open.connection.write(packet).map_err(|error| self.failure(&error))?;
                self.counters.sent(packet, is_taken);
                open.has_begun = true;
            } else {
                self.counters.lost(packet);
            }
            packets.remove(0);
        }
        Ok(())
    }

    fn finish(&self, open: Open) -> Result<(), Failure> {
        open.connection.finish().map_err(|error| self.failure(&error))
    }

    fn admits(&self, packet: &PushPacket) -> bool {
        let mut keyframes = self.keyframes.lock();
        keyframes.is_awaited &= !packet.is_keyframe();
        !keyframes.is_awaited
    }

    /// The oldest frames, up to the next keyframe after the first packet.
    fn make_room(&self, waiting: &mut Waiting<PushPacket>) {
        let keyframe = waiting.iter().skip(1).position(PushPacket::is_keyframe).map(|place| place + 1);
        self.drop_until(keyframe, waiting);
    }

    /// With the next frame if frames may be dropped, else with the first waiting keyframe.
    fn begin_again(&self, waiting: &mut Waiting<PushPacket>) {
        let keyframe = waiting.iter().position(PushPacket::is_keyframe);
        self.drop_until(keyframe.filter(|_| self.waits), waiting);
    }

    fn lost(&self, packet: &PushPacket) {
        self.counters.lost(packet);
    }
}

/// One stream being pushed.
pub(super) struct Pusher {
    encoder: PushEncoder,
    server: Arc<VideoServer>,
    sender: Sender<VideoServer>,
    stop: CancelToken,
    /// Number of encoded frames.
    frames_given: u64,
    /// How long the connection stays open after the last packet.
    linger: Duration,
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
        let (target, run) = (encoder.target(), Surroundings::of(&counters.context));
        let (linger, stop, waits) = (target.linger(), run.stop.clone(), settings.waits());
        let server = Arc::new(VideoServer {
            target,
            on_loss: settings.on_loss,
            waits,
            counters: counters.of(info.id),
            keyframes: Mutex::default(),
            has_warned: AtomicBool::new(false),
        });
        let limits = Limits {
            // One more may be in flight.
            entries: settings.buffer.saturating_add(1),
            bytes: BUFFER_BYTES,
            when_full: if waits { WhenFull::Wait } else { WhenFull::Drop },
            // Attempts are limited instead.
            patience: Duration::MAX,
            fails_at_end: false,
            retries: settings.retries,
            first_pause: settings.retry_wait,
            gives_up_on_stop: true,
            noun: "packets",
        };
        let reconnects = counters.reconnects.clone();
        // Packets are counted by the protocol, each by its kind.
        let nothing = || Box::new(|_| {}) as Box<dyn Fn(u64) + Send + Sync>;
        let reconnected = Box::new(move |count| reconnects.add(count));
        let counts = Counters { sent: nothing(), dropped: nothing(), rejected: nothing(), retried: nothing(), reconnected };
        let sender = Sender::start(Arc::clone(&server), limits, counts, run, "push")?;
        Ok(Self { encoder, server, sender, stop, frames_given: 0, linger })
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
            self.sender.push(packet)?;
            if std::mem::take(&mut self.server.keyframes.lock().is_wanted) {
                self.encoder.request_keyframe();
            }
        }
        Ok(())
    }

    /// Sends the rest and disconnects, for a bounded time.
    pub(super) fn complete(mut self) -> Result<WriteReport, StageError> {
        let rest = self.encoder.drain().map_err(output_error)?;
        self.push(rest)?;
        let is_patient = self.server.waits && !self.stop.is_cancelled();
        let within = match self.sender.connections() {
            // A server that was never reached is not waited for.
            (0, Some(_)) => Duration::ZERO,
            _ if is_patient => LAST_WORDS,
            _ => GOODBYE,
        };
        self.sender.finish(Some(within), self.linger + GOODBYE)?;
        let (connections, trouble) = self.sender.connections();
        let report = self.encoder.report();
        if connections == 0 && report.frames > 0 {
            let (shown, reason) = (self.server.target(), trouble.as_deref().unwrap_or("it timed out").to_owned());
            return Err(StageError::new(ErrorKind::Output, format!("{shown} was never reached, so nothing was sent: {reason}")));
        }
        Ok(report)
    }
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.server.counters.frames_lost(self.encoder.report().frames.saturating_sub(self.frames_given));
    }
}

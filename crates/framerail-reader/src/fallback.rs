//! If a decoder rejects a stream midway, FFmpeg decodes the rest on the host from the same packets. Each frame is delivered exactly once.
//!
//! A decoder rejects a stream with [`ReaderError::NotOnDevice`]. If that happens before its first frame, the error goes to the caller,
//! which may open the whole stream on another decoder.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use framerail_core::{Frame, FramePool};
use framerail_media::{Damage, Decoded, Decoder, DecoderSetup, InputPacket, MediaError, decoder::Conversion};
use parking_lot::Mutex;

use crate::{CpuPieces, Piece, PieceDecoder, PieceEnd, PieceOutput, ReaderError, Tagged, packets::VideoPacket};

/// Minimum number of recent packets to keep: more than any codec's reordering delay, so that no frame is lost that the first
/// decoder had accepted and not yet output.
const MIN_KEPT_PACKETS: usize = 64;
/// Maximum number of packets to keep, and of their bytes. A stream without a random access point within them cannot be handed over.
const MAX_KEPT_PACKETS: usize = 4096;
const MAX_KEPT_BYTES: usize = 64 << 20;
/// Buffers kept for frames that are copied on the host (rotated or converted frames).
const KEPT_FRAMES: usize = 8;

/// Decoder output: a frame of the first decoder, or one of the host decoder.
#[derive(Debug)]
pub enum GpuOrHost<P> {
    /// Output of the first decoder.
    Gpu(P),
    /// Output of the host decoder.
    Host(Box<HostFrame>),
}

/// A frame that the host decoded instead of the first decoder.
#[derive(Debug)]
pub struct HostFrame {
    /// The frame as [`Decoder`] returns it.
    pub frame: Frame,
    /// Whether its PTS is that of its packet; otherwise it is made up.
    pub is_timed: bool,
}

/// Settings and shared state of the host decoders.
#[derive(Clone)]
pub struct HostFallback {
    setup: DecoderSetup,
    pool: FramePool,
    state: Arc<Mutex<FallbackState>>,
}

#[derive(Default)]
struct FallbackState {
    reason: Option<String>,
    /// Damage and conversions of each decoder.
    work: Vec<(Damage, Vec<Conversion>)>,
}

impl HostFallback {
    /// A fallback for the stream of an input; clones share the counts.
    pub fn new(setup: &DecoderSetup) -> Self {
        Self { setup: setup.clone(), pool: FramePool::new(KEPT_FRAMES), state: Arc::default() }
    }

    /// Sets the number of threads of each decoder; 0 lets FFmpeg choose.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.setup.threads = threads;
        self
    }

    /// Why the host decodes, once it does.
    pub fn reason(&self) -> Option<String> {
        self.state.lock().reason.clone()
    }

    /// Damage found by the host decoders. Repaired frames and timestamps are not included: they are counted when the frames are delivered.
    pub fn damage(&self) -> Damage {
        let sum = self.state.lock().work.iter().fold(Damage::default(), |sum, (damage, _)| sum.merged(damage));
        Damage { frames_repaired: 0, timestamps_repaired: 0, timestamps_absent: 0, ..sum }
    }

    /// Frames that the host decoders converted to supported pixel formats.
    pub fn conversions(&self) -> Vec<Conversion> {
        let mut sums: BTreeMap<(String, String), u64> = BTreeMap::new();
        for Conversion { from, to, frames } in self.state.lock().work.iter().flat_map(|(_, conversions)| conversions) {
            *sums.entry((from.clone(), to.clone())).or_default() += frames;
        }
        sums.into_iter().map(|((from, to), frames)| Conversion { from, to, frames }).collect()
    }

    fn begin(&self, reason: String) -> usize {
        let mut state = self.state.lock();
        state.reason.get_or_insert(reason);
        state.work.push((Damage::default(), Vec::new()));
        state.work.len() - 1
    }

    fn note(&self, place: usize, damage: &Damage, conversions: Vec<Conversion>) {
        if let Some(work) = self.state.lock().work.get_mut(place) {
            *work = (damage.clone(), conversions);
        }
    }
}

/// Decodes pieces with one decoder, and on the host those that it rejects.
pub struct FallbackPieces<D> {
    first: D,
    fallback: HostFallback,
    /// The host decoder, once needed, and its index in the shared state.
    host: Option<(CpuPieces, usize)>,
}

impl<D: PieceDecoder> FallbackPieces<D> {
    /// Tries `first` for every piece: a stream may change back to a format that it decodes.
    pub fn new(first: D, fallback: &HostFallback) -> Self {
        Self { first, fallback: fallback.clone(), host: None }
    }

    fn on_host(&mut self, piece: &Piece, reason: String, output: &mut dyn PieceOutput<Frame>) -> Result<PieceEnd, ReaderError> {
        let (mut host, place) = match self.host.take() {
            Some(host) => host,
            None => (CpuPieces::new(&self.fallback.setup, &self.fallback.pool)?, self.fallback.begin(reason)),
        };
        let outcome = host.decode(piece, output);
        self.fallback.note(place, host.damage(), host.conversions());
        self.host = Some((host, place));
        outcome
    }
}

impl<D: PieceDecoder> PieceDecoder for FallbackPieces<D> {
    type Decoded = GpuOrHost<D::Decoded>;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Self::Decoded>) -> Result<PieceEnd, ReaderError> {
        let mut given = Given { output, reserved: 0, pushed: 0 };
        match self.first.decode(piece, &mut given) {
            Err(ReaderError::NotOnDevice { reason, .. }) if piece.number > 0 || given.pushed > 0 => {
                let is_timed = piece.packets.iter().all(|packet| packet.packet.pts().is_some());
                let Given { output, reserved, pushed } = given;
                self.on_host(piece, reason, &mut Rest { output, reserved, pushed, asked: 0, is_timed })
            }
            outcome => outcome,
        }
    }
}

/// Counts the frames of the first decoder.
struct Given<'a, P> {
    output: &'a mut dyn PieceOutput<GpuOrHost<P>>,
    reserved: usize,
    pushed: usize,
}

impl<P> PieceOutput<P> for Given<'_, P> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        self.output.reserve()?;
        self.reserved += 1;
        Ok(())
    }

    fn check(&mut self) -> Result<(), ReaderError> {
        self.output.check()
    }

    fn push(&mut self, image: Tagged<P>) {
        self.pushed += 1;
        self.output.push(Tagged { tag: image.tag, image: GpuOrHost::Gpu(image.image) });
    }
}

/// Passes on the frames that the first decoder did not output: both decoders output the same frames in the same order.
struct Rest<'a, P> {
    output: &'a mut dyn PieceOutput<GpuOrHost<P>>,
    /// Places that the first decoder reserved.
    reserved: usize,
    /// Frames that the first decoder output.
    pushed: usize,
    /// Frames of the host decoder so far.
    asked: usize,
    is_timed: bool,
}

impl<P> PieceOutput<Frame> for Rest<'_, P> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        self.asked += 1;
        if self.asked > self.reserved { self.output.reserve() } else { Ok(()) }
    }

    fn check(&mut self) -> Result<(), ReaderError> {
        self.output.check()
    }

    fn push(&mut self, image: Tagged<Frame>) {
        if self.asked > self.pushed {
            let frame = HostFrame { frame: image.image, is_timed: self.is_timed };
            self.output.push(Tagged { tag: image.tag, image: GpuOrHost::Host(Box::new(frame)) });
        }
    }
}

/// Decodes a stream packet by packet.
pub trait PacketDecoder {
    /// The output of the decoder.
    type Decoded;

    /// Sends the next packet, or `None` at the end.
    ///
    /// # Errors
    /// Any error that ends the reading. After [`ReaderError::NotOnDevice`], only [`PacketDecoder::take`] is called, for finished frames.
    fn send(&mut self, packet: Option<InputPacket>) -> Result<(), ReaderError>;

    /// Returns the finished frames in display order, each with the PTS of its packet if known.
    fn take(&mut self) -> Vec<(Option<i64>, Self::Decoded)>;
}

/// Decodes a stream with one decoder until it rejects the stream, then on the host.
pub struct FallbackPackets<D> {
    /// `None` after it has rejected the stream.
    first: Option<D>,
    backlog: Backlog,
    /// PTS of the last frame that `first` output.
    last_pts: Option<i64>,
    fallback: HostFallback,
    host: Option<(Decoder, usize)>,
}

impl<D: PacketDecoder> FallbackPackets<D> {
    /// A stream from its first packet or from a random access point.
    pub fn new(first: D, fallback: &HostFallback) -> Self {
        Self { first: Some(first), backlog: Backlog::default(), last_pts: None, fallback: fallback.clone(), host: None }
    }

    /// Sends the next packet; returns the finished frames in display order.
    ///
    /// # Errors
    /// The errors of the decoders. `NotOnDevice` when the first decoder rejects the stream and the host cannot continue: no frame was
    /// output yet, packets have no PTS, or there was no random access point for a long time.
    pub fn send(&mut self, packet: VideoPacket) -> Result<Vec<GpuOrHost<D::Decoded>>, ReaderError> {
        if self.first.is_none() {
            return self.on_host(Some(&packet.packet));
        }
        self.backlog.push(&packet)?;
        self.on_first(Some(packet.packet))
    }

    /// Sends the end of the stream; returns the remaining frames.
    ///
    /// # Errors
    /// As [`FallbackPackets::send`].
    pub fn end(&mut self) -> Result<Vec<GpuOrHost<D::Decoded>>, ReaderError> {
        if self.first.is_none() { self.on_host(None) } else { self.on_first(None) }
    }

    fn on_first(&mut self, packet: Option<InputPacket>) -> Result<Vec<GpuOrHost<D::Decoded>>, ReaderError> {
        let Some(first) = &mut self.first else { return Ok(Vec::new()) };
        let is_end = packet.is_none();
        let sent = first.send(packet);
        let mut ready = Vec::new();
        for (pts, image) in first.take() {
            self.last_pts = pts.max(self.last_pts);
            ready.push(GpuOrHost::Gpu(image));
        }
        match sent {
            Err(ReaderError::NotOnDevice { reason, source_name }) => {
                self.hand_over(reason, source_name)?;
                for packet in self.backlog.take() {
                    ready.append(&mut self.on_host(Some(&packet))?);
                }
                if is_end {
                    ready.append(&mut self.on_host(None)?);
                }
                Ok(ready)
            }
            sent => sent.map(|()| ready),
        }
    }

    fn hand_over(&mut self, reason: String, source_name: String) -> Result<(), ReaderError> {
        if self.last_pts.is_none() || !self.backlog.can_be_decoded() {
            return Err(ReaderError::NotOnDevice { reason, source_name });
        }
        let decoder = Decoder::open_with(&self.fallback.setup, &self.fallback.pool)?;
        self.first = None;
        self.host = Some((decoder, self.fallback.begin(reason)));
        Ok(())
    }

    fn on_host(&mut self, packet: Option<&InputPacket>) -> Result<Vec<GpuOrHost<D::Decoded>>, ReaderError> {
        let Some((decoder, place)) = &mut self.host else { return Ok(Vec::new()) };
        decoder.send(packet)?;
        let mut ready = Vec::new();
        while let Decoded::Frame(frame) = decoder.receive()? {
            if self.last_pts.is_none_or(|last| frame.pts.0 > last) {
                ready.push(GpuOrHost::Host(Box::new(HostFrame { frame, is_timed: true })));
            }
        }
        self.fallback.note(*place, decoder.damage(), decoder.conversions());
        Ok(ready)
    }
}

/// The latest packets, starting at a random access point.
#[derive(Default)]
struct Backlog {
    packets: VecDeque<InputPacket>,
    bytes: usize,
    /// Positions of the random access points among them, counted over all packets of the stream.
    starts: VecDeque<usize>,
    /// Number of packets of the stream so far.
    seen: usize,
}

impl Backlog {
    fn push(&mut self, packet: &VideoPacket) -> Result<(), MediaError> {
        let is_start = self.seen == 0 || packet.facts.random_access.is_exact();
        if is_start {
            self.starts.push_back(self.seen);
        }
        self.seen += 1;
        if self.starts.is_empty() {
            return Ok(());
        }
        self.bytes += packet.packet.data().len();
        self.packets.push_back(packet.packet.share()?);
        while self.starts.get(1).is_some_and(|second| self.seen - second > MIN_KEPT_PACKETS) {
            self.shorten();
        }
        while self.packets.len() > MAX_KEPT_PACKETS || self.bytes > MAX_KEPT_BYTES {
            self.shorten();
        }
        Ok(())
    }

    /// Drops packets up to the second random access point, or all of them.
    fn shorten(&mut self) {
        let first = self.starts.pop_front().unwrap_or(self.seen);
        let count = self.starts.front().unwrap_or(&self.seen).saturating_sub(first).min(self.packets.len());
        self.bytes -= self.packets.drain(..count).map(|packet| packet.data().len()).sum::<usize>();
    }

    fn can_be_decoded(&self) -> bool {
        !self.packets.is_empty() && self.packets.iter().all(|packet| packet.pts().is_some())
    }

    fn take(&mut self) -> VecDeque<InputPacket> {
        std::mem::take(&mut self.packets)
    }
}

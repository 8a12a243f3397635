//! What a decoder refuses in mid-stream is decoded by FFmpeg on the host, from the same packets: each picture comes once, whoever
//! decoded it.
//!
//! A decoder refuses by [`ReaderError::NotOnDevice`]. Refused before its first picture, a stream is the caller's affair: it may be
//! opened elsewhere as a whole.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use framerail_core::{Frame, FramePool};
use framerail_media::{Damage, Decoded, Decoder, DecoderSetup, InputPacket, MediaError, decoder::Conversion};
use parking_lot::Mutex;

use crate::{CpuPieces, Piece, PieceDecoder, PieceEnd, PieceOutput, ReaderError, Tagged, packets::VideoPacket};

/// Packets before the newest that are kept at least: more than any codec holds pictures back for, so that none is lost that the first
/// decoder had taken and not given.
const MIN_KEPT_PACKETS: usize = 64;
/// Packets, and their bytes, that are kept at most. A stream without random access points for so long cannot be handed over.
const MAX_KEPT_PACKETS: usize = 4096;
const MAX_KEPT_BYTES: usize = 64 << 20;
/// Buffers kept for frames that are copied on the host: turned or converted ones.
const KEPT_FRAMES: usize = 8;

/// What came out: a picture of the decoder that was asked first, or a frame of the host's.
#[derive(Debug)]
pub enum CardOrHost<P> {
    /// Of the decoder that was asked first.
    Card(P),
    /// Of the host's.
    Host(Box<HostFrame>),
}

/// A frame that the host decoded in place of another decoder.
#[derive(Debug)]
pub struct HostFrame {
    /// As [`Decoder`] gives it.
    pub frame: Frame,
    /// Whether its PTS is that of its packet. Else it is made up.
    pub is_timed: bool,
}

/// How the host decodes what was refused.
#[derive(Clone)]
pub struct HostFallback {
    setup: DecoderSetup,
    pool: FramePool,
    state: Arc<Mutex<FallbackState>>,
}

#[derive(Default)]
struct FallbackState {
    reason: Option<String>,
    /// What each decoder met, and converted.
    work: Vec<(Damage, Vec<Conversion>)>,
}

impl HostFallback {
    /// For the stream of an input; clones count together.
    pub fn new(setup: &DecoderSetup) -> Self {
        Self { setup: setup.clone(), pool: FramePool::new(KEPT_FRAMES), state: Arc::default() }
    }

    /// The same with so many threads for each decoder; 0 lets FFmpeg choose.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.setup.threads = threads;
        self
    }

    /// Why the host decodes, once it does.
    pub fn reason(&self) -> Option<String> {
        self.state.lock().reason.clone()
    }

    /// What the host's decoders met that was not as it should be. Repairs of frames and times are not in it: they are seen with the
    /// frames.
    pub fn damage(&self) -> Damage {
        let sum = self.state.lock().work.iter().fold(Damage::default(), |sum, (damage, _)| sum.merged(damage));
        Damage { frames_repaired: 0, timestamps_repaired: 0, timestamps_absent: 0, ..sum }
    }

    /// Frames that the host's decoders converted to pixel formats that are passed on.
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

/// Decodes pieces by one decoder, and on the host those that it refuses.
pub struct FallbackPieces<D> {
    first: D,
    fallback: HostFallback,
    /// The host's decoder, once it was needed, and its place among those that count.
    host: Option<(CpuPieces, usize)>,
}

impl<D: PieceDecoder> FallbackPieces<D> {
    /// `first` is asked for every piece: a stream may turn back to what it decodes.
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
    type Picture = CardOrHost<D::Picture>;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Self::Picture>) -> Result<PieceEnd, ReaderError> {
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

/// Counts what the first decoder gives.
struct Given<'a, P> {
    output: &'a mut dyn PieceOutput<CardOrHost<P>>,
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

    fn push(&mut self, picture: Tagged<P>) {
        self.pushed += 1;
        self.output.push(Tagged { tag: picture.tag, picture: CardOrHost::Card(picture.picture) });
    }
}

/// Passes on what the first decoder has not given: both give the same pictures in the same order.
struct Rest<'a, P> {
    output: &'a mut dyn PieceOutput<CardOrHost<P>>,
    /// Places that the first decoder took.
    reserved: usize,
    /// Pictures that it gave.
    pushed: usize,
    /// Pictures of the host's so far.
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

    fn push(&mut self, picture: Tagged<Frame>) {
        if self.asked > self.pushed {
            let frame = HostFrame { frame: picture.picture, is_timed: self.is_timed };
            self.output.push(Tagged { tag: picture.tag, picture: CardOrHost::Host(Box::new(frame)) });
        }
    }
}

/// Decodes a stream packet by packet.
pub trait PacketDecoder {
    /// What is made of a picture.
    type Picture;

    /// Sends the next packet, or the end.
    ///
    /// # Errors
    /// Whatever ends the reading. After [`ReaderError::NotOnDevice`] it is asked for the pictures that were ready, and for nothing else.
    fn send(&mut self, packet: Option<InputPacket>) -> Result<(), ReaderError>;

    /// The pictures that are ready, in display order, each with the PTS of its packet where that is known.
    fn take(&mut self) -> Vec<(Option<i64>, Self::Picture)>;
}

/// Decodes a stream by one decoder up to where it refuses, and from there on the host.
pub struct FallbackPackets<D> {
    /// Gone when it has refused.
    first: Option<D>,
    backlog: Backlog,
    /// PTS of the last picture that `first` gave.
    last_pts: Option<i64>,
    fallback: HostFallback,
    host: Option<(Decoder, usize)>,
}

impl<D: PacketDecoder> FallbackPackets<D> {
    /// A stream from its first packet on, or from a random access point.
    pub fn new(first: D, fallback: &HostFallback) -> Self {
        Self { first: Some(first), backlog: Backlog::default(), last_pts: None, fallback: fallback.clone(), host: None }
    }

    /// Sends the next packet; gives the pictures that are ready, in display order.
    ///
    /// # Errors
    /// As the decoders. `NotOnDevice` where the first one refuses and cannot be followed: it gave nothing yet, packets state no PTS, or
    /// there was no random access point for very long.
    pub fn send(&mut self, packet: VideoPacket) -> Result<Vec<CardOrHost<D::Picture>>, ReaderError> {
        if self.first.is_none() {
            return self.on_host(Some(&packet.packet));
        }
        self.backlog.push(&packet)?;
        self.on_first(Some(packet.packet))
    }

    /// Sends the end; gives the pictures that are left.
    ///
    /// # Errors
    /// As [`FallbackPackets::send`].
    pub fn end(&mut self) -> Result<Vec<CardOrHost<D::Picture>>, ReaderError> {
        if self.first.is_none() { self.on_host(None) } else { self.on_first(None) }
    }

    fn on_first(&mut self, packet: Option<InputPacket>) -> Result<Vec<CardOrHost<D::Picture>>, ReaderError> {
        let Some(first) = &mut self.first else { return Ok(Vec::new()) };
        let is_end = packet.is_none();
        let sent = first.send(packet);
        let mut ready = Vec::new();
        for (pts, picture) in first.take() {
            self.last_pts = pts.max(self.last_pts);
            ready.push(CardOrHost::Card(picture));
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

    fn on_host(&mut self, packet: Option<&InputPacket>) -> Result<Vec<CardOrHost<D::Picture>>, ReaderError> {
        let Some((decoder, place)) = &mut self.host else { return Ok(Vec::new()) };
        decoder.send(packet)?;
        let mut ready = Vec::new();
        while let Decoded::Frame(frame) = decoder.receive()? {
            if self.last_pts.is_none_or(|last| frame.pts.0 > last) {
                ready.push(CardOrHost::Host(Box::new(HostFrame { frame, is_timed: true })));
            }
        }
        self.fallback.note(*place, decoder.damage(), decoder.conversions());
        Ok(ready)
    }
}

/// The latest packets, from a random access point on.
#[derive(Default)]
struct Backlog {
    packets: VecDeque<InputPacket>,
    bytes: usize,
    /// Places of the random access points among them, counted over all packets of the stream.
    starts: VecDeque<usize>,
    /// Packets of the stream so far.
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

    /// Lets packets go up to the second random access point, or all.
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

//! Frames of a video stream in the memory of a CUDA card, decoded there by as many engines as pay.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use framerail_core::{Frame, FrameStatus, PixelFamily, PixelFormat, Pts, Rational, Rotation, StreamInfo, Surface};
use framerail_cuda::{
    CudaDevice, CudaError, DevicePool, Traffic,
    nvdec::{self, Chroma, NvdecCodec},
};
use framerail_media::{
    CodedFormat, Conversion, Damage, Input, InputOptions, MediaError, MediaItem, ProbeEffort, RotationPolicy,
    clock::{Clock, Stamp},
};
use parking_lot::Mutex;

use crate::{
    ReaderError,
    device_packets::DevicePackets,
    device_pieces::{CopySurfaces, DevicePicture, DevicePieces, DeviceSetup, MakeSurface},
    fallback::{CardOrHost, FallbackPackets, FallbackPieces, HostFallback, HostFrame},
    packets::{PacketReader, StreamPacket, VideoPacket},
    parallel::{MakeDecoder, ParallelDecoder},
    piece::{Piece, PieceCutter, PiecePacket},
};

/// Packets that a piece has at least: shorter ones spend too long filling and draining an engine.
const MIN_PIECE_PACKETS: usize = 32;
/// Packets after which a stream without random access points is decoded as one.
const MAX_PIECE_PACKETS: usize = 1500;
/// Decoders beyond one for each engine: while one waits for its pictures to be taken, another decodes.
const SPARE_DECODERS: usize = 1;
/// Share of the free memory, and bytes, that frames decoded ahead may take by default.
const MEMORY_SHARE: u64 = 4;
const MAX_DEFAULT_BYTES: u64 = 3 << 30;
/// Frames below which one engine is as fast.
const MIN_FRAMES: u64 = 3 * MIN_PIECE_PACKETS as u64;
/// Bytes of turned pictures that are kept for the next ones.
const KEEP_TURNED_BYTES: usize = 64 << 20;

/// How to read on a card.
#[derive(Clone)]
pub struct DeviceOptions {
    /// The card.
    pub device: Arc<CudaDevice>,
    /// Decoders side by side; by default one more than the card has engines, one for live and short sources.
    pub decoders: Option<usize>,
    /// Device memory for frames decoded ahead of their turn; by default a quarter of what is free, 3 GiB at most.
    pub ahead_bytes: Option<u64>,
    /// Makes what is delivered of each picture; by default a copy of it, in its own format.
    pub make: Option<Arc<dyn MakeSurface>>,
}

impl DeviceOptions {
    /// Everything by default.
    pub fn new(device: &Arc<CudaDevice>) -> Self {
        Self { device: Arc::clone(device), decoders: None, ahead_bytes: None, make: None }
    }
}

/// What a reader has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceReaderStats {
    /// Decoders that ran side by side.
    pub decoders: usize,
    /// Pieces that the stream was cut into; 0 when it was decoded as one.
    pub pieces: u64,
    /// Pictures that the engines decoded, shown or not.
    pub pictures_decoded: u64,
    /// The most frames that waited for their turn.
    pub most_waiting: usize,
    /// Frames that the host decoded in place of the card, and gave as they are.
    pub frames_on_host: u64,
    /// What was moved, and who waited.
    pub traffic: Traffic,
}

enum Mode {
    /// Packets go to one engine as they are read.
    One(Box<FallbackPackets<DevicePackets>>),
    /// Pieces go to several.
    Pieces(ParallelDecoder<FallbackPieces<DevicePieces>>, PieceCutter),
    Ended,
}

/// Reads one video stream into device memory: frames in presentation order with strictly increasing PTS, and its side
/// packets between them. The twin of [`framerail_media::MediaReader`].
///
/// Where the stream changes in its middle to what the card does not decode, the host decodes it: such frames are given in host
/// memory, see [`DeviceReader::on_host`].
pub struct DeviceReader {
    packets: PacketReader,
    setup: Arc<DeviceSetup>,
    fallback: HostFallback,
    /// Where the host first decoded in place of the card, in seconds, and how many frames since.
    on_host: Option<(f64, u64)>,
    info: StreamInfo,
    mode: Mode,
    max_decoders: usize,
    clock: Clock,
    /// Decoding times of packets that state no PTS: the first picture shown gets the first.
    untimed: BTreeSet<i64>,
    ready: VecDeque<MediaItem>,
    next_index: u64,
    pieces: u64,
    is_read: bool,
    is_past_end: bool,
    damage: Damage,
    /// The format that the decoder gives out, once known.
    delivered: Option<PixelFormat>,
    /// Decoders and most frames waiting, of a mode that has ended.
    ended: (usize, usize),
}

impl DeviceReader {
    /// Opens a source and decodes up to its first frame.
    ///
    /// # Errors
    /// `NotOnDevice` when the card cannot decode it but a CPU may; else as [`Input::open`] and `Cuda`.
    pub fn open(input: &InputOptions, options: &DeviceOptions) -> Result<Self, ReaderError> {
        let policy = input.rotation;
        // The first frame tells what a full probe would, and costs less.
        let input = Input::open(&InputOptions { probe: ProbeEffort::Header, ..input.clone() })?;
        let (codec, coded) = check(&input, &options.device)?;
        let packets = PacketReader::new(input);
        let info = upright(packets.input(), policy);
        let failed = |error| ReaderError::Cuda { source_name: info.source.to_string(), error };
        let free = options.device.memory().map_err(failed)?.0;
        let ahead_bytes = options.ahead_bytes.unwrap_or((free / MEMORY_SHARE).min(MAX_DEFAULT_BYTES));
        let make = match &options.make {
            Some(make) => Arc::clone(make),
            None => {
                let pool = DevicePool::new(&options.device, usize::try_from(ahead_bytes).unwrap_or(usize::MAX)).map_err(failed)?;
                Arc::new(CopySurfaces::new(pool)) as Arc<dyn MakeSurface>
            }
        };
        let engines = engines(&options.device, codec, coded.bits());
        let pays = is_file(&info) && info.frames_estimate.is_none_or(|frames| frames >= MIN_FRAMES);
        let max_decoders = options.decoders.unwrap_or(if pays { engines + SPARE_DECODERS } else { 1 }).max(1);
        let setup = setup(&options.device, codec, packets.input(), policy, make)?;
        let clock = Clock::new(info.time_base, info.frame_rate);
        let fallback = HostFallback::new(&packets.input().decoder_setup());
        let mut reader = Self {
            packets,
            setup,
            fallback,
            on_host: None,
            info,
            mode: Mode::Ended,
            max_decoders,
            clock,
            untimed: BTreeSet::new(),
            ready: VecDeque::new(),
            next_index: 0,
            pieces: 0,
            is_read: false,
            is_past_end: false,
            damage: Damage::default(),
            delivered: None,
            ended: (0, 0),
        };
        reader.mode = if max_decoders > 1 { reader.in_pieces(ahead_bytes, coded.bits()) } else { reader.as_one()? };
        reader.read_first_frame()?;
        Ok(reader)
    }

    fn in_pieces(&self, ahead_bytes: u64, bits: u32) -> Mode {
        let frame_bytes = frame_bytes(&self.info, bits, self.setup.make.as_ref());
        let window = usize::try_from(ahead_bytes / frame_bytes.max(1)).unwrap_or(usize::MAX).max(self.max_decoders);
        let (setup, fallback) = (Arc::clone(&self.setup), self.fallback.clone().threads(1));
        let make: MakeDecoder<FallbackPieces<DevicePieces>> =
            Arc::new(move || Ok(FallbackPieces::new(DevicePieces::new(&setup)?, &fallback)));
        Mode::Pieces(ParallelDecoder::new(self.max_decoders, window, make), PieceCutter::new(MIN_PIECE_PACKETS))
    }

    fn as_one(&self) -> Result<Mode, ReaderError> {
        Ok(Mode::One(Box::new(FallbackPackets::new(DevicePackets::new(&self.setup)?, &self.fallback))))
    }

    fn read_first_frame(&mut self) -> Result<(), ReaderError> {
        let mut before = VecDeque::new();
        loop {
            match self.advance() {
                Ok(Some(MediaItem::Frame(frame))) => {
                    self.adopt(&frame);
                    before.push_back(MediaItem::Frame(frame));
                    before.append(&mut self.ready);
                    self.ready = before;
                    return Ok(());
                }
                Ok(Some(packet)) => before.push_back(packet),
                Ok(None) => return Err(self.no_frame()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The first frame knows better than the header.
    fn adopt(&mut self, frame: &Frame) {
        (self.info.width, self.info.height) = (frame.width, frame.height);
        self.info.pixel_format = self.delivered.unwrap_or(self.info.pixel_format);
        self.info.color = frame.color;
        self.info.rotation = frame.rotation;
        self.info.sample_aspect_ratio = frame.sample_aspect_ratio;
    }

    fn no_frame(&self) -> ReaderError {
        let source_name = self.info.source.to_string();
        let (start, end) = self.packets.input().selection();
        if start.is_some() || end.is_some() {
            let reason = format!("no frame of {source_name} lies within the selection");
            return MediaError::BadOption { name: "start".into(), reason, nearest: None }.into();
        }
        let reason = "its headers can be read, but the card decodes no frame of it".into();
        MediaError::Damaged { source_name, reason }.into()
    }

    /// The stream: size and colour as the first frame has them.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// The next frame or packet; `None` at the end.
    ///
    /// # Errors
    /// As [`DeviceReader::open`]. Damaged packets are no error but counted.
    pub fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError> {
        match self.ready.pop_front() {
            Some(item) => Ok(Some(item)),
            None => self.advance(),
        }
    }

    /// What was not as it should be, so far.
    pub fn damage(&self) -> Damage {
        self.packets.input().damage().merged(&self.damage).merged(&self.fallback.damage())
    }

    /// Conversions to pixel formats that are passed on, of frames that the host decoded.
    pub fn conversions(&self) -> Vec<Conversion> {
        self.fallback.conversions()
    }

    /// Where the host decoded in place of the card for the first time, in seconds, and why.
    pub fn on_host(&self) -> Option<(f64, String)> {
        let (secs, _) = self.on_host?;
        Some((secs, self.fallback.reason().unwrap_or_default()))
    }

    /// What was done, so far.
    pub fn stats(&self) -> DeviceReaderStats {
        let (decoders, most_waiting) = self.progress();
        let done = *self.setup.done.lock();
        let frames_on_host = self.on_host.map_or(0, |(_, frames)| frames);
        let (pieces, pictures_decoded) = (self.pieces, done.pictures);
        DeviceReaderStats { decoders, pieces, pictures_decoded, most_waiting, frames_on_host, traffic: done.traffic }
    }

    fn progress(&self) -> (usize, usize) {
        match &self.mode {
            Mode::Pieces(decoder, _) => (decoder.workers(), decoder.most_waiting()),
            Mode::One(..) => (self.ended.0.max(1), self.ended.1),
            Mode::Ended => self.ended,
        }
    }

    fn change(&mut self, mode: Mode) {
        self.ended = self.progress();
        self.mode = mode;
    }

    fn advance(&mut self) -> Result<Option<MediaItem>, ReaderError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            if self.is_past_end {
                self.change(Mode::Ended);
                return Ok(self.packets.next_side()?.map(MediaItem::Packet));
            }
            match &mut self.mode {
                Mode::Ended => return Ok(None),
                Mode::One(..) => {
                    if !self.step_one()? {
                        self.change(Mode::Ended);
                    }
                }
                Mode::Pieces(..) => {
                    if let Some(frame) = self.step_pieces()? {
                        return Ok(Some(MediaItem::Frame(frame)));
                    }
                }
            }
        }
    }

    /// Keeps the decoders busy; gives the next frame, or none when there is no piece left or the mode has changed.
    fn step_pieces(&mut self) -> Result<Option<Frame>, ReaderError> {
        self.submit_pieces()?;
        let Mode::Pieces(decoder, cutter) = &mut self.mode else { return Ok(None) };
        if let Some(tagged) = decoder.next_picture()? {
            return Ok(self.deliver(tagged.picture));
        }
        if self.is_read {
            self.change(Mode::Ended);
            return Ok(None);
        }
        // No random access point for very long: what follows is decoded as one.
        let rest = cutter.finish();
        let one = self.as_one()?;
        self.change(one);
        // Two pieces of an open GOP share packets; one decoder wants each once.
        let of = |packet: PiecePacket| (packet.tag, VideoPacket { packet: packet.packet, facts: packet.facts });
        let packets: BTreeMap<i64, VideoPacket> = rest.into_iter().flat_map(|piece| piece.packets).map(of).collect();
        packets.into_values().try_for_each(|packet| self.send_one(packet))?;
        Ok(None)
    }

    /// Reads packets until there is a piece for every decoder and one in reserve.
    fn submit_pieces(&mut self) -> Result<(), ReaderError> {
        let Mode::Pieces(decoder, cutter) = &mut self.mode else { return Ok(()) };
        while !self.is_read && decoder.pieces_under_way() <= self.max_decoders && cutter.held() < MAX_PIECE_PACKETS {
            let mut submit = |piece: Piece| {
                self.pieces += 1;
                decoder.submit(piece);
            };
            match self.packets.next_packet()? {
                Some(StreamPacket::Side(packet)) => self.ready.push_back(MediaItem::Packet(packet)),
                Some(StreamPacket::Video(packet)) if is_behind(&packet, &self.info, self.packets.input().selection().1) => {
                    cutter.finish().into_iter().for_each(&mut submit);
                    self.is_read = true;
                }
                Some(StreamPacket::Video(packet)) => {
                    self.untimed.extend(untimed(&packet));
                    cutter.push(packet)?.into_iter().for_each(&mut submit);
                }
                None => {
                    cutter.finish().into_iter().for_each(&mut submit);
                    self.is_read = true;
                }
            }
        }
        Ok(())
    }

    /// Reads a packet and sends it to the one engine; `false` at the end.
    fn step_one(&mut self) -> Result<bool, ReaderError> {
        if self.is_read {
            return Ok(false);
        }
        match self.packets.next_packet()? {
            Some(StreamPacket::Side(packet)) => self.ready.push_back(MediaItem::Packet(packet)),
            Some(StreamPacket::Video(packet)) => {
                self.untimed.extend(untimed(&packet));
                self.send_one(packet)?;
            }
            None => {
                self.is_read = true;
                if let Mode::One(decoder) = &mut self.mode {
                    let pictures = decoder.end()?;
                    self.collect(pictures);
                }
            }
        }
        Ok(true)
    }

    fn send_one(&mut self, packet: VideoPacket) -> Result<(), ReaderError> {
        if let Mode::One(decoder) = &mut self.mode {
            let pictures = decoder.send(packet)?;
            self.collect(pictures);
        }
        Ok(())
    }

    fn collect(&mut self, pictures: Vec<CardOrHost<DevicePicture>>) {
        for picture in pictures {
            if let Some(frame) = self.deliver(picture) {
                self.ready.push_back(MediaItem::Frame(frame));
            }
        }
    }

    /// What came out as a frame, if it lies within the selection.
    fn deliver(&mut self, picture: CardOrHost<DevicePicture>) -> Option<Frame> {
        match picture {
            CardOrHost::Card(picture) => self.deliver_picture(picture),
            CardOrHost::Host(frame) => self.deliver_frame(*frame),
        }
    }

    /// The next frame's time and number; `None` when it lies outside of the selection.
    fn place(&mut self, pts: Option<i64>, duration: Option<i64>) -> Option<(Stamp, u64)> {
        let stamp = self.clock.stamp(pts.or_else(|| self.untimed.pop_first()), duration);
        let secs = self.info.time_base.seconds(stamp.pts);
        let (start, end) = self.packets.input().selection();
        if end.is_some_and(|end| secs >= end) {
            self.is_past_end = true;
            return None;
        }
        if self.is_past_end || start.is_some_and(|start| secs < start) {
            return None;
        }
        self.damage.timestamps_repaired += u64::from(stamp.is_repaired);
        self.next_index += 1;
        Some((stamp, self.next_index - 1))
    }

    fn deliver_frame(&mut self, frame: HostFrame) -> Option<Frame> {
        let HostFrame { frame, is_timed } = frame;
        let (stamp, index) = self.place(is_timed.then_some(frame.pts.0), frame.duration)?;
        // Without a PTS the decoder's own time is what was repaired.
        let is_repaired = is_timed && frame.status == FrameStatus::Repaired;
        self.damage.frames_repaired += u64::from(is_repaired);
        self.on_host.get_or_insert((self.info.time_base.seconds(stamp.pts), 0)).1 += 1;
        let status = if is_repaired || stamp.is_repaired { FrameStatus::Repaired } else { FrameStatus::Ok };
        Some(Frame { index, pts: Pts(stamp.pts), status, ..frame })
    }

    fn deliver_picture(&mut self, picture: DevicePicture) -> Option<Frame> {
        let DevicePicture { surface, format, color, times, field_order, has_errors } = picture;
        self.delivered = Some(format.pixel_format);
        let duration = (times.duration > 0).then_some(times.duration);
        let (stamp, index) = self.place(times.pts, duration)?;
        self.damage.frames_repaired += u64::from(has_errors);
        Some(Frame {
            surface: Surface::Device(surface),
            width: format.size.0,
            height: format.size.1,
            stream: self.info.id,
            index,
            pts: Pts(stamp.pts),
            duration,
            time_base: self.info.time_base,
            color,
            sample_aspect_ratio: format.sample_aspect_ratio.or(self.info.sample_aspect_ratio),
            rotation: if self.setup.turn.is_some() { Rotation::None } else { self.packets.input().coded_rotation() },
            field_order,
            is_keyframe: times.is_keyframe,
            status: if has_errors || stamp.is_repaired { FrameStatus::Repaired } else { FrameStatus::Ok },
        })
    }
}

/// The decoding time of a packet that states no PTS.
fn untimed(packet: &VideoPacket) -> Option<i64> {
    if packet.packet.pts().is_none() { packet.packet.dts() } else { None }
}

/// Whether a packet starts anew behind the selection's end, so that nothing from it on is wanted.
fn is_behind(packet: &VideoPacket, info: &StreamInfo, end: Option<f64>) -> bool {
    let secs = packet.packet.pts().map(|pts| info.time_base.seconds(pts));
    packet.facts.random_access == framerail_media::facts::RandomAccess::Clean && secs.zip(end).is_some_and(|(secs, end)| secs >= end)
}

/// A regular file, as opposed to a pipe, a camera or the network.
fn is_file(info: &StreamInfo) -> bool {
    std::fs::metadata(info.source.reveal()).is_ok_and(|found| found.is_file())
}

pub(crate) fn may_work_on_cpu(error: &CudaError) -> bool {
    matches!(error, CudaError::Unsupported { .. } | CudaError::NoDecoder { .. } | CudaError::NoDriver { .. })
}

/// What all decoders of a stream share.
pub(crate) fn setup(
    device: &Arc<CudaDevice>,
    codec: NvdecCodec,
    input: &Input,
    policy: RotationPolicy,
    make: Arc<dyn MakeSurface>,
) -> Result<Arc<DeviceSetup>, ReaderError> {
    let info = input.info();
    let turn = match turn(input, policy) {
        Rotation::None => None,
        rotation => {
            let failed = |error| ReaderError::Cuda { source_name: info.source.to_string(), error };
            Some((rotation, DevicePool::new(device, KEEP_TURNED_BYTES).map_err(failed)?))
        }
    };
    Ok(Arc::new(DeviceSetup {
        device: Arc::clone(device),
        codec,
        parameters: input.parameters().clone(),
        color: info.color,
        sample_aspect_ratio: info.sample_aspect_ratio,
        make,
        turn,
        time_base: info.time_base,
        source_name: info.source.to_string(),
        done: Mutex::default(),
    }))
}

/// The turn that pictures get.
pub(crate) fn turn(input: &Input, policy: RotationPolicy) -> Rotation {
    if policy == RotationPolicy::Auto { input.coded_rotation() } else { Rotation::None }
}

/// The stream as it is once its pictures are turned.
pub(crate) fn upright(input: &Input, policy: RotationPolicy) -> StreamInfo {
    let mut info = input.info().clone();
    let rotation = turn(input, policy);
    if rotation.swaps_sides() {
        (info.width, info.height) = (info.height, info.width);
        info.sample_aspect_ratio = info.sample_aspect_ratio.and_then(|ratio| Rational::new(ratio.den, ratio.num));
    }
    if rotation != Rotation::None {
        info.rotation = Rotation::None;
    }
    info
}

/// Refuses what the card cannot decode, as far as the headers tell; else the codec and the format that it is coded in.
pub(crate) fn check(input: &Input, device: &Arc<CudaDevice>) -> Result<(NvdecCodec, PixelFormat), ReaderError> {
    let info = input.info();
    let refuse = |reason: String| ReaderError::NotOnDevice { source_name: info.source.to_string(), reason };
    let codec = NvdecCodec::from_ffmpeg_name(&info.codec).ok_or_else(|| refuse(format!("NVDEC does not decode {}", info.codec)))?;
    if info.container == "image2" {
        return Err(refuse("pictures are decoded on the CPU".into()));
    }
    if info.pixel_format.family() == PixelFamily::Rgb || info.pixel_format.has_alpha() {
        return Err(refuse(format!("NVDEC does not give out {}", info.pixel_format)));
    }
    let header = CodedFormat::of(input.parameters()).and_then(|coded| coded.pixel_format());
    let format = header.unwrap_or(info.pixel_format);
    let chroma = match (format.family(), format.chroma_shift()) {
        (PixelFamily::Gray, _) => Chroma::Monochrome,
        (_, (1, 1)) => Chroma::Yuv420,
        (_, (1, 0)) => Chroma::Yuv422,
        (_, (0, 0)) => Chroma::Yuv444,
        _ => return Err(refuse(format!("NVDEC does not give out {format}"))),
    };
    let capability = nvdec::capability(device, codec, chroma, format.bits());
    match capability.map_err(|error| refuse(error.to_string()))? {
        Some(_) => Ok((codec, format)),
        None => Err(refuse(format!("the card does not decode {codec} {chroma} {} bit", format.bits()))),
    }
}

/// Engines of the card for this kind of stream.
pub(crate) fn engines(device: &Arc<CudaDevice>, codec: NvdecCodec, bits: u32) -> usize {
    let found = nvdec::capability(device, codec, Chroma::Yuv420, bits);
    found.ok().flatten().map_or(1, |capability| capability.engines as usize)
}

fn frame_bytes(info: &StreamInfo, bits: u32, make: &dyn MakeSurface) -> u64 {
    let guess = nvdec::StreamFormat::guess(info.width, info.height, bits);
    make.bytes(&guess) as u64
}

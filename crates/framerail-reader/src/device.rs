//! Decodes a video stream into the memory of a CUDA GPU, on as many engines as are useful.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use framerail_core::{Frame, FrameStatus, PixelFamily, PixelFormat, Pts, Rational, Rotation, StreamInfo, Surface};
use framerail_cuda::{
    CudaDevice, CudaError, DevicePool,
    nvdec::{self, Chroma, NvdecCodec},
};
use framerail_media::{
    CodedFormat, Conversion, Damage, Input, InputOptions, LossMeter, MediaItem, ProbeEffort, RotationPolicy,
    clock::{Clock, Stamp},
    reader::{adopt, no_frame},
};
use parking_lot::Mutex;

use crate::{
    ReaderError,
    device_packets::DevicePackets,
    device_pieces::{CopySurfaces, DeviceFrame, DevicePieces, DeviceSetup, Done, MakeSurface},
    fallback::{FallbackPackets, FallbackPieces, GpuOrHost, HostFallback, HostFrame},
    frame_source::{FrameSource, Reading, SourceStats, until_first_frame},
    packets::{PacketReader, StreamPacket, VideoPacket},
    parallel::{Ahead, MakeDecoder, ParallelDecoder},
    piece_stream::{PieceStream, Step},
    plan::{MIN_PIECE_PACKETS, PiecePlan},
};

/// Decoders in addition to one per engine: while one waits for its frames to be taken, another decodes.
const SPARE_DECODERS: usize = 1;
/// Default limits for frames decoded ahead: this fraction of the free memory, and this number of bytes.
const MEMORY_SHARE: u64 = 4;
const MAX_DEFAULT_BYTES: u64 = 3 << 30;
/// Number of frames below which one engine is as fast as several.
const MIN_FRAMES: u64 = 3 * MIN_PIECE_PACKETS as u64;
/// Bytes of rotated frames kept for reuse.
const KEEP_TURNED_BYTES: usize = 64 << 20;

/// Options for reading on a GPU.
#[derive(Clone)]
pub struct DeviceOptions {
    /// The GPU.
    pub device: Arc<CudaDevice>,
    /// Number of parallel decoders; default: one more than the GPU has engines, or one for live and short sources.
    pub decoders: Option<usize>,
    /// Device memory for frames decoded ahead of their turn; default: a quarter of the free memory, at most 3 GiB.
    pub ahead_bytes: Option<u64>,
    /// Converts each decoded frame for delivery; default: a copy in its original format.
    pub make: Option<Arc<dyn MakeSurface>>,
    /// Additional GPUs that decode some of the pieces, or the whole source when it is decoded as one and they come first. Frames stay on
    /// the GPU that decoded them.
    pub others: Vec<DecodingCard>,
}

/// A GPU that decodes, with the conversion of its frames.
#[derive(Clone)]
pub struct DecodingCard {
    /// The GPU.
    pub device: Arc<CudaDevice>,
    /// Converts each decoded frame for delivery, on this GPU.
    pub make: Arc<dyn MakeSurface>,
}

impl DecodingCard {
    /// Engines for this kind of stream, plus one spare decoder: while one waits for its frames to be taken, another decodes.
    pub(crate) fn decoders(&self, codec: NvdecCodec, bits: u32) -> usize {
        engines(&self.device, codec, bits) + SPARE_DECODERS
    }
}

impl DeviceOptions {
    /// All options at their defaults.
    pub fn new(device: &Arc<CudaDevice>) -> Self {
        Self { device: Arc::clone(device), decoders: None, ahead_bytes: None, make: None, others: Vec::new() }
    }
}

enum Mode {
    /// Packets go to one engine as they are read.
    One(Box<PacketReader>, Box<FallbackPackets<DevicePackets>>),
    /// Pieces go to several engines.
    Pieces(Box<PieceStream<FallbackPieces<DevicePieces>>>),
    /// Placeholder while the mode changes.
    Changing,
}

/// Reads one video stream into device memory: frames in presentation order with strictly increasing PTS, and its side
/// packets between them. The GPU counterpart of [`crate::HostReader`].
///
/// If the stream changes midway to a format that the GPU does not decode, the host decodes it: such frames are returned in host memory, see
/// [`FrameSource::on_host`].
pub struct DeviceReader {
    /// One per GPU.
    setups: Vec<Arc<DeviceSetup>>,
    has_turn: bool,
    fallback: HostFallback,
    /// When the host first decoded instead of the GPU, in seconds, and the number of frames since.
    on_host: Option<(f64, u64)>,
    info: StreamInfo,
    mode: Mode,
    coded_rotation: Rotation,
    selection: (Option<f64>, Option<f64>),
    plan: PiecePlan,
    clock: Clock,
    /// Decode timestamps of packets without PTS, when one engine decodes.
    untimed: BTreeSet<i64>,
    ready: VecDeque<MediaItem>,
    next_index: u64,
    reached_secs: f64,
    is_read: bool,
    is_past_end: bool,
    damage: Damage,
    losses: LossMeter,
    /// All frames were returned.
    is_over: bool,
    /// The output format of the decoder, once known.
    delivered: Option<PixelFormat>,
    /// Statistics of the pieces, once they have ended.
    stats: SourceStats,
}

impl DeviceReader {
    /// Opens a source and decodes up to its first frame.
    ///
    /// # Errors
    /// `NotOnDevice` when the GPU cannot decode it but a CPU might; otherwise as [`Input::open`], and `Cuda`.
    pub fn open(input: &InputOptions, options: &DeviceOptions) -> Result<Self, ReaderError> {
        let policy = input.rotation;
        // The first frame provides what a full probe would, at a lower cost.
        let input = Input::open(&InputOptions { probe: ProbeEffort::Header, ..input.clone() })?;
        let (codec, coded) = check(&input, &options.device)?;
        let packets = PacketReader::new(input);
        let info = upright(packets.input(), policy);
        let failed = |error| ReaderError::Cuda { source_name: info.source.to_string(), error };
        let ahead_bytes = match options.ahead_bytes {
            Some(bytes) => bytes,
            None => (options.device.free_memory_lately().map_err(failed)? / MEMORY_SHARE).min(MAX_DEFAULT_BYTES),
        };
        let make = match &options.make {
            Some(make) => Arc::clone(make),
            None => {
                let pool = DevicePool::new(&options.device, usize::try_from(ahead_bytes).unwrap_or(usize::MAX)).map_err(failed)?;
                Arc::new(CopySurfaces::new(pool)) as Arc<dyn MakeSurface>
            }
        };
        let mut gpus = vec![DecodingCard { device: Arc::clone(&options.device), make }];
        gpus.extend(options.others.iter().cloned());
        let of_all: usize = gpus.iter().map(|gpu| gpu.decoders(codec, coded.bits())).sum();
        let pays = is_file(&info) && info.frames_estimate.is_none_or(|frames| frames >= MIN_FRAMES);
        let decoders = options.decoders.unwrap_or(if pays { of_all } else { 1 }).max(1);
        let setups = setups(&gpus, codec, packets.input(), policy)?;
        let frame_bytes = gpus.first().map_or(0, |gpu| frame_bytes(&info, coded.bits(), gpu.make.as_ref()));
        let ahead_bytes = ahead_bytes.saturating_mul(gpus.len() as u64);
        let frames = usize::try_from(ahead_bytes / frame_bytes.max(1)).unwrap_or(usize::MAX).max(decoders);
        let mut reader = Self {
            fallback: HostFallback::new(&packets.input().decoder_setup()),
            on_host: None,
            coded_rotation: packets.input().coded_rotation(),
            selection: packets.input().selection(),
            plan: PiecePlan { decoders, threads: 1, frames },
            clock: Clock::new(info.time_base, info.frame_rate),
            losses: LossMeter::of(&info),
            has_turn: turn(packets.input(), policy) != Rotation::None,
            setups,
            info,
            mode: Mode::Changing,
            untimed: BTreeSet::new(),
            ready: VecDeque::new(),
            next_index: 0,
            reached_secs: f64::NEG_INFINITY,
            is_read: false,
            is_past_end: false,
            damage: Damage::default(),
            is_over: false,
            delivered: None,
            stats: SourceStats { decoders: 1, ..SourceStats::default() },
        };
        reader.mode = if decoders > 1 { reader.in_pieces(packets) } else { reader.as_one(packets)? };
        reader.read_first_frame()?;
        Ok(reader)
    }

    fn in_pieces(&self, packets: PacketReader) -> Mode {
        let (next, fallback) = (in_turn(&self.setups), self.fallback.clone().threads(1));
        let make: MakeDecoder<FallbackPieces<DevicePieces>> =
            Arc::new(move || Ok(FallbackPieces::new(DevicePieces::new(&next())?, &fallback)));
        let ahead = Ahead { workers: self.plan.decoders, frames: self.plan.frames, adapts: false };
        Mode::Pieces(Box::new(PieceStream::new(packets, ParallelDecoder::new(ahead, make), MIN_PIECE_PACKETS)))
    }

    fn as_one(&self, packets: PacketReader) -> Result<Mode, ReaderError> {
        let setup = self.setups.first().ok_or(ReaderError::Closed)?;
        Ok(Mode::One(Box::new(packets), Box::new(FallbackPackets::new(DevicePackets::new(setup)?, &self.fallback))))
    }

    fn read_first_frame(&mut self) -> Result<(), ReaderError> {
        let (mut items, first) = until_first_frame(self)?;
        let Some(frame) = first else {
            return Err(match self.input() {
                Some(input) => no_frame(input, &self.info, &self.damage()).into(),
                None => ReaderError::Closed,
            });
        };
        adopt(&mut self.info, &frame);
        self.info.pixel_format = self.delivered.unwrap_or(self.info.pixel_format);
        items.append(&mut self.ready);
        self.ready = items;
        Ok(())
    }

    fn input(&self) -> Option<&Input> {
        match &self.mode {
            Mode::One(packets, _) => Some(packets.input()),
            Mode::Pieces(stream) => Some(stream.packets().input()),
            Mode::Changing => None,
        }
    }

    /// Switches to a single decoder when no random access point was found for a long time.
    fn go_on_as_one(&mut self) -> Result<(), ReaderError> {
        self.stats = self.stats();
        let Mode::Pieces(mut stream) = std::mem::replace(&mut self.mode, Mode::Changing) else { return Ok(()) };
        self.untimed = std::mem::take(stream.untimed());
        let (packets, undecoded, sides) = stream.into_packets()?;
        self.ready.extend(sides.into_iter().map(MediaItem::Packet));
        self.mode = self.as_one(packets)?;
        undecoded.into_iter().try_for_each(|packet| self.send_one(Some(packet)))
    }

    /// Reads a packet and sends it to the one engine.
    fn step_one(&mut self) -> Result<(), ReaderError> {
        let Mode::One(packets, _) = &mut self.mode else { return Ok(()) };
        match packets.next_packet()? {
            Some(StreamPacket::Side(packet)) => {
                self.ready.push_back(MediaItem::Packet(packet));
                Ok(())
            }
            Some(StreamPacket::Video(packet)) => {
                self.untimed.extend(packet.packet.dts().filter(|_| packet.packet.pts().is_none()));
                self.send_one(Some(packet))
            }
            None => {
                self.is_read = true;
                self.send_one(None)
            }
        }
    }

    /// Sends a packet, or the end, to the one engine.
    fn send_one(&mut self, packet: Option<VideoPacket>) -> Result<(), ReaderError> {
        let Mode::One(_, decoder) = &mut self.mode else { return Ok(()) };
        let images = match packet {
            Some(packet) => decoder.send(packet)?,
            None => decoder.end()?,
        };
        for image in images {
            let frame = self.deliver(image);
            self.ready.extend(frame.map(MediaItem::Frame));
        }
        Ok(())
    }

    /// Converts decoder output to a frame, if it lies within the selection.
    fn deliver(&mut self, image: GpuOrHost<DeviceFrame>) -> Option<Frame> {
        match image {
            GpuOrHost::Gpu(image) => self.deliver_image(image),
            GpuOrHost::Host(frame) => self.deliver_frame(*frame),
        }
    }

    /// Time and number of the next frame; `None` when it lies outside of the selection.
    fn place(&mut self, pts: Option<i64>, duration: Option<i64>) -> Option<(Stamp, u64)> {
        let untimed = match &mut self.mode {
            Mode::Pieces(stream) => stream.untimed(),
            _ => &mut self.untimed,
        };
        let stamp = self.clock.stamp(pts.or_else(|| untimed.pop_first()), duration);
        let secs = self.info.time_base.seconds(stamp.pts);
        self.reached_secs = secs;
        let (start, end) = self.selection;
        if end.is_some_and(|end| secs >= end) {
            self.is_past_end = true;
            return None;
        }
        if self.is_past_end || start.is_some_and(|start| secs < start) {
            self.losses.pass(stamp.pts, duration);
            return None;
        }
        self.damage.timestamps_repaired += u64::from(stamp.is_repaired);
        let breaks = match &mut self.mode {
            Mode::Pieces(stream) => stream.take_breaks(),
            Mode::One(packets, _) => packets.take_breaks(),
            _ => Vec::new(),
        };
        breaks.into_iter().for_each(|found| self.losses.note(found));
        self.losses.frame(stamp.pts, duration);
        self.next_index += 1;
        Some((stamp, self.next_index - 1))
    }

    fn deliver_frame(&mut self, frame: HostFrame) -> Option<Frame> {
        let HostFrame { frame, is_timed } = frame;
        let (stamp, index) = self.place(is_timed.then_some(frame.pts.0), frame.duration)?;
        // Without a PTS, the decoder's status only reports the made-up time.
        let is_repaired = is_timed && frame.status == FrameStatus::Repaired;
        self.damage.frames_repaired += u64::from(is_repaired);
        self.on_host.get_or_insert((self.info.time_base.seconds(stamp.pts), 0)).1 += 1;
        let status = if is_repaired || stamp.is_repaired { FrameStatus::Repaired } else { FrameStatus::Ok };
        Some(Frame { index, pts: Pts(stamp.pts), status, ..frame })
    }

    fn deliver_image(&mut self, image: DeviceFrame) -> Option<Frame> {
        let DeviceFrame { surface, format, color, times, field_order, has_errors } = image;
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
            rotation: if self.has_turn { Rotation::None } else { self.coded_rotation },
            field_order,
            hdr: None,
            still: None,
            is_keyframe: times.is_keyframe,
            status: if has_errors || stamp.is_repaired { FrameStatus::Repaired } else { FrameStatus::Ok },
        })
    }
}

impl FrameSource for DeviceReader {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(Some(item));
            }
            match &mut self.mode {
                Mode::Changing => return Ok(None),
                Mode::One(packets, _) if self.is_past_end || self.is_read => {
                    let is_open = self.is_past_end && !self.is_read;
                    self.is_over = !self.is_past_end;
                    return Ok(if is_open { packets.next_side()?.map(MediaItem::Packet) } else { None });
                }
                Mode::One(..) => self.step_one()?,
                Mode::Pieces(stream) => {
                    if let Some(packet) = stream.side_due(self.reached_secs) {
                        return Ok(Some(MediaItem::Packet(packet)));
                    }
                    let step = if self.is_past_end { Step::End } else { stream.next()? };
                    match step {
                        Step::End => {
                            self.is_over = !self.is_past_end;
                            return Ok(stream.next_side()?.map(MediaItem::Packet));
                        }
                        Step::AsOne => self.go_on_as_one()?,
                        Step::Decoded(tagged) => {
                            if let Some(frame) = self.deliver(tagged.image) {
                                return Ok(Some(MediaItem::Frame(frame)));
                            }
                        }
                    }
                }
            }
        }
    }

    fn damage(&self) -> Damage {
        let Some(input) = self.input() else { return self.damage.clone() };
        let damage = input.damage().merged(&self.damage).merged(&self.fallback.damage());
        let stated = input.stated_frames().filter(|_| self.is_over);
        damage.with_frames_lost(stated, self.next_index, self.losses.lost())
    }

    fn conversions(&self) -> Vec<Conversion> {
        self.fallback.conversions()
    }

    fn on_host(&self) -> Option<(f64, String)> {
        let (secs, _) = self.on_host?;
        Some((secs, self.fallback.reason().unwrap_or_default()))
    }

    fn stats(&self) -> SourceStats {
        let of_pieces = match &self.mode {
            Mode::Pieces(stream) => {
                let (decoders, most_waiting) = stream.progress();
                SourceStats { decoders, most_waiting, pieces: stream.pieces(), ..SourceStats::default() }
            }
            _ => self.stats,
        };
        let done = self.setups.iter().fold(Done::default(), |sum, setup| sum.plus(*setup.done.lock()));
        let frames_on_host = self.on_host.map_or(0, |(_, frames)| frames);
        SourceStats { pictures_decoded: done.images, frames_on_host, traffic: done.traffic, ..of_pieces }
    }

    fn reading(&self) -> Reading {
        match self.mode {
            Mode::Pieces(_) => Reading::Pieces(self.plan),
            _ => Reading::Sequential("one engine decodes it".into()),
        }
    }
}

/// Whether the source is a regular file, as opposed to a pipe, a camera or the network.
fn is_file(info: &StreamInfo) -> bool {
    std::fs::metadata(info.source.reveal()).is_ok_and(|found| found.is_file())
}

pub(crate) fn may_work_on_cpu(error: &CudaError) -> bool {
    matches!(error, CudaError::Unsupported { .. } | CudaError::NoDecoder { .. } | CudaError::NoDriver { .. })
}

/// The setups that all decoders of a stream share, one per GPU.
pub(crate) fn setups(
    gpus: &[DecodingCard],
    codec: NvdecCodec,
    input: &Input,
    policy: RotationPolicy,
) -> Result<Vec<Arc<DeviceSetup>>, ReaderError> {
    gpus.iter().map(|gpu| setup(gpu, codec, input, policy)).collect()
}

/// Returns the GPUs in rotation, so that decoders are spread evenly over them.
pub(crate) fn in_turn(setups: &[Arc<DeviceSetup>]) -> impl Fn() -> Arc<DeviceSetup> + Send + Sync + 'static {
    let (setups, next) = (setups.to_vec(), AtomicUsize::new(0));
    move || Arc::clone(&setups[next.fetch_add(1, Ordering::Relaxed) % setups.len()])
}

/// The setup that all decoders of a stream share on one GPU.
pub(crate) fn setup(gpu: &DecodingCard, codec: NvdecCodec, input: &Input, policy: RotationPolicy) -> Result<Arc<DeviceSetup>, ReaderError> {
    let device = &gpu.device;
    let info = input.info();
    let turn = match turn(input, policy) {
        Rotation::None => None,
        rotation if rotation.is_mirrored() => {
            let reason = "mirrored video is decoded on the CPU; rotate=keep leaves it as it is".into();
            return Err(ReaderError::NotOnDevice { source_name: info.source.to_string(), reason });
        }
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
        make: Arc::clone(&gpu.make),
        turn,
        time_base: info.time_base,
        source_name: info.source.to_string(),
        done: Mutex::default(),
    }))
}

/// The rotation to apply to frames.
pub(crate) fn turn(input: &Input, policy: RotationPolicy) -> Rotation {
    if policy == RotationPolicy::Auto { input.coded_rotation() } else { Rotation::None }
}

/// The stream info after rotation.
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

/// Rejects streams that the GPU cannot decode, judging by the headers; otherwise returns the codec and the coded format.
pub(crate) fn check(input: &Input, device: &Arc<CudaDevice>) -> Result<(NvdecCodec, PixelFormat), ReaderError> {
    let info = input.info();
    let refuse = |reason: String| ReaderError::NotOnDevice { source_name: info.source.to_string(), reason };
    let codec = NvdecCodec::from_ffmpeg_name(&info.codec).ok_or_else(|| refuse(format!("NVDEC does not decode {}", info.codec)))?;
    if info.container == "image2" {
        return Err(refuse("images are decoded on the CPU".into()));
    }
    if info.pixel_format.family() == PixelFamily::Rgb || info.pixel_format.has_alpha() {
        return Err(refuse(format!("NVDEC does not output {}", info.pixel_format)));
    }
    let header = CodedFormat::of(input.parameters()).and_then(|coded| coded.pixel_format());
    let format = header.unwrap_or(info.pixel_format);
    let chroma = match (format.family(), format.chroma_shift()) {
        (PixelFamily::Gray, _) => Chroma::Monochrome,
        (_, (1, 1)) => Chroma::Yuv420,
        (_, (1, 0)) => Chroma::Yuv422,
        (_, (0, 0)) => Chroma::Yuv444,
        _ => return Err(refuse(format!("NVDEC does not output {format}"))),
    };
    let capability = nvdec::capability(device, codec, chroma, format.bits());
    match capability.map_err(|error| refuse(error.to_string()))? {
        Some(_) => Ok((codec, format)),
        None => Err(refuse(format!("the GPU does not decode {codec} {chroma} {} bit", format.bits()))),
    }
}

/// Engines of the GPU for this kind of stream.
pub(crate) fn engines(device: &Arc<CudaDevice>, codec: NvdecCodec, bits: u32) -> usize {
    let found = nvdec::capability(device, codec, Chroma::Yuv420, bits);
    found.ok().flatten().map_or(1, |capability| capability.engines as usize)
}

fn frame_bytes(info: &StreamInfo, bits: u32, make: &dyn MakeSurface) -> u64 {
    let guess = nvdec::StreamFormat::guess(info.width, info.height, bits);
    make.bytes(&guess) as u64
}

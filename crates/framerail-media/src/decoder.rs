//! Decodes packets on the CPU to core frames, which use FFmpeg's own planes without a copy wherever possible.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use ffmpeg_the_third::ffi;
use framerail_core::{
    ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, FieldOrder, Frame, FramePool, FrameStatus, HostSurface, Pts,
    Rational, Rotation, StillMetadata, StreamId, Surface, TimeBase, surface::MAX_SIDE,
};

use crate::{
    Converter, Damage, FactsReader, Input, MediaError, PacketFacts, Parameters, RandomAccess, RotationPolicy, ScaleOptions,
    av::{self, AvFrame, CodecContext},
    clock::Clock,
    color,
    decode_buffers::{DecodeBufferPool, PoolUse},
    describe,
    format::{self, Delivery},
    hdr,
    log::{Attachment, DecoderLog},
    packet::InputPacket,
    rotate, surface,
};

/// Consecutive errors without a frame after which the decoder is not polled again for this packet.
const MAX_FAILURES: u32 = 256;

/// Assumed bytes per pixel while the format is unknown: RGBA.
const UNKNOWN_PIXEL_BYTES: u64 = 4;
/// Maximum number of threads that FFmpeg starts automatically.
const MAX_AUTO_THREADS: u64 = 17;
/// Maximum delay in packets, from threads and reordering: an older packet without a frame will not produce one.
const MAX_DELAY_PACKETS: i64 = 96;

/// Result of polling a decoder for a frame.
// A frame is moved once from here to its queue; boxing it would cost an allocation per frame.
#[allow(clippy::large_enum_variant)]
pub enum Decoded {
    /// The next frame in presentation order.
    Frame(Frame),
    /// Send another packet first.
    NeedsPacket,
    /// All frames sent before the end have been received.
    End,
}

/// A conversion that was needed because core does not list the decoder's pixel format.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Conversion {
    /// FFmpeg's name of the decoder's format.
    pub from: String,
    /// The delivered format.
    pub to: String,
    /// Number of frames.
    pub frames: u64,
}

/// Opens decoders for one video stream, on any thread and as often as needed. See [`Input::decoder_setup`].
#[derive(Clone)]
pub struct DecoderSetup {
    /// Threads per decoder; 0 lets FFmpeg choose. With several decoders in parallel, 1 has the highest throughput.
    pub threads: usize,
    /// Pool from which single-threaded decoders take frame memory; each decoder allocates its own when `None`.
    pub images: Option<DecodeBufferPool>,
    parameters: Parameters,
    stream: StreamSetup,
}

impl DecoderSetup {
    pub(crate) fn of(input: &Input) -> Self {
        let (info, options) = (input.info(), input.options());
        let aspect_ratio = match (input.coded_rotation().swaps_sides(), options.rotation) {
            (true, RotationPolicy::Auto) => info.sample_aspect_ratio.map(describe::turned),
            _ => info.sample_aspect_ratio,
        };
        Self {
            threads: options.threads,
            images: None,
            parameters: input.parameters().clone(),
            stream: StreamSetup {
                id: info.id,
                time_base: info.time_base,
                frame_rate: info.frame_rate,
                color: info.color,
                aspect_ratio,
                rotation: input.coded_rotation(),
                policy: options.rotation,
                is_single_image: info.container == "image2" || info.container.ends_with("_pipe") || input.is_still(),
                is_reorder_unknown: input.is_reorder_unknown(),
                image_bytes: options.image_bytes,
            },
        }
    }
}

/// The container's metadata of the stream's frames.
#[derive(Clone)]
struct StreamSetup {
    id: StreamId,
    time_base: TimeBase,
    frame_rate: Option<Rational>,
    color: ColorDescription,
    aspect_ratio: Option<Rational>,
    /// The container's rotation for display.
    rotation: Rotation,
    policy: RotationPolicy,
    is_single_image: bool,
    is_reorder_unknown: bool,
    /// Memory limit for decoded frames.
    image_bytes: u64,
}

/// Approximate memory use of decoding a stream.
#[derive(Clone, Copy)]
pub(crate) struct FrameLoad {
    pub(crate) pixel_bytes: u64,
    /// Frames that exist at once with one thread: reference frames and the one being delivered.
    pub(crate) at_once: u64,
}

impl FrameLoad {
    pub(crate) fn of(parameters: &Parameters, is_single_image: bool) -> Self {
        let own = parameters.get();
        // SAFETY: descriptions of codecs and pixel formats are static, or null for what is unknown.
        let (properties, bits) = unsafe {
            let properties = ffi::avcodec_descriptor_get(own.codec_id).as_ref().map_or(0, |descriptor| descriptor.props);
            let described = ffi::av_pix_fmt_desc_get(ffi::AVPixelFormat(own.format)).as_ref();
            (properties, described.map_or(0, |described| ffi::av_get_padded_bits_per_pixel(described)))
        };
        let at_once = match properties & ffi::AV_CODEC_PROP_INTRA_ONLY != 0 {
            _ if is_single_image => 1,
            true => 2,
            false => 3,
        };
        let pixel_bytes = u64::try_from(bits).ok().filter(|bits| *bits > 0).map_or(UNKNOWN_PIXEL_BYTES, |bits| bits.div_ceil(8));
        Self { pixel_bytes, at_once }
    }

    /// Maximum number of pixels of a frame within the budget.
    fn max_pixels(self, budget_bytes: u64) -> i64 {
        i64::try_from(budget_bytes / (self.pixel_bytes * self.at_once)).unwrap_or(i64::MAX)
    }
}

/// The position where decoding can start.
#[derive(Clone, Copy)]
enum StartsAt {
    /// No keyframe has been sent yet.
    Unknown,
    /// The first keyframe's PTS. Earlier frames may refer to missing ones.
    Pts(Option<i64>),
}

/// A video decoder.
pub struct Decoder {
    context: CodecContext,
    /// Messages of the current context.
    log: Attachment,
    /// Number of the last packet that was sent, from 1.
    sent: i64,
    /// Number and PTS of packets that may still produce frames.
    under_way: VecDeque<(i64, Option<i64>)>,
    /// Where the stream can be decoded from: errors of earlier packets are not counted as damage.
    starts_at: StartsAt,
    breaks: Vec<Option<i64>>,
    threads: usize,
    images: Option<DecodeBufferPool>,
    /// Of the current context; dropped after it.
    pool_use: Option<PoolUse>,
    frame: AvFrame,
    pool: FramePool,
    converter: Converter,
    clock: Clock,
    stream: StreamSetup,
    next_index: u64,
    damage: Damage,
    conversions: BTreeMap<(i32, &'static str), u64>,
    is_draining: bool,
    /// No packet was sent yet.
    is_at_start: bool,
    /// PTS of the first packet if frames before it cannot be decoded.
    open_start: Option<i64>,
    /// The last packet's image has EXIF data.
    has_exif: bool,
    /// Parameters of the next codec, which takes over when the current decoder is drained.
    successor: Option<(Parameters, av::AvPacket)>,
    facts: Option<FactsReader>,
}

impl Decoder {
    /// Opens a decoder for an input's video stream. `pool` provides frames that must be copied: rotated or converted ones.
    ///
    /// # Errors
    /// `Unsupported` if this FFmpeg has no decoder for the codec.
    pub fn open(input: &Input, pool: &FramePool) -> Result<Self, MediaError> {
        Self::open_with(&input.decoder_setup(), pool)
    }

    /// Opens a further decoder for the stream of an input, independent of that input's position. Each one starts at a keyframe's packet.
    ///
    /// # Errors
    /// As [`Decoder::open`].
    pub fn open_with(setup: &DecoderSetup, pool: &FramePool) -> Result<Self, MediaError> {
        let stream = &setup.stream;
        let (context, log, pool_use) = open_context(&setup.parameters, stream, setup.threads, setup.images.as_ref())?;
        Ok(Self {
            context,
            log,
            sent: 0,
            under_way: VecDeque::new(),
            starts_at: StartsAt::Unknown,
            breaks: Vec::new(),
            threads: setup.threads,
            images: setup.images.clone(),
            pool_use,
            frame: AvFrame::new(),
            pool: pool.clone(),
            converter: Converter::new(ScaleOptions { accurate: true, ..ScaleOptions::default() }),
            clock: Clock::new(stream.time_base, stream.frame_rate),
            stream: stream.clone(),
            next_index: 0,
            damage: Damage::default(),
            conversions: BTreeMap::new(),
            is_draining: false,
            is_at_start: true,
            open_start: None,
            has_exif: false,
            successor: None,
            facts: FactsReader::new(&setup.parameters),
        })
    }

    /// Discards everything that was sent. The next packet must be a keyframe's, anywhere in the stream; this also works after the
    /// end was sent. Costs far less than opening a decoder. Frame numbers restart at 0 and timestamp repair starts over; counts of
    /// damage and conversions continue.
    pub fn flush(&mut self) {
        // SAFETY: an open decoder.
        unsafe { ffi::avcodec_flush_buffers(self.context.as_mut_ptr()) };
        self.frame.clear();
        self.clock = Clock::new(self.stream.time_base, self.stream.frame_rate);
        self.next_index = 0;
        self.is_draining = false;
        self.is_at_start = true;
        self.open_start = None;
        self.successor = None;
        // Packets in the decoder are discarded deliberately and do not count as lost.
        self.under_way.clear();
        self.log.take_up_to(self.sent);
        self.starts_at = StartsAt::Unknown;
    }

    /// Sends a packet, or the end (`None`), after which [`Decoder::receive`] drains the remaining frames.
    /// Packets that the decoder rejects are counted in [`Decoder::damage`].
    ///
    /// # Errors
    /// `Unsupported` if the codec changes to one without a decoder.
    pub fn send(&mut self, packet: Option<&InputPacket>) -> Result<(), MediaError> {
        let Some(packet) = packet else {
            self.is_draining = true;
            self.send_raw(None);
            return Ok(());
        };
        if let Some(parameters) = &packet.new_parameters {
            self.successor = Some((parameters.clone(), packet.packet.share()?));
            self.facts = FactsReader::new(parameters);
            self.send_raw(None);
            return Ok(());
        }
        // Read every packet: headers change how later packets are interpreted.
        let facts = self.facts.as_mut().map(|facts| facts.read(packet));
        if std::mem::take(&mut self.is_at_start) {
            self.begin_at(packet, facts);
        }
        self.send_raw(Some(&packet.packet));
        Ok(())
    }

    /// After a start in mid-stream, FFmpeg's H.264 decoder holds back frames that it cannot prove intact, even at the end. At an exact
    /// recovery point, the PTS shows which frames lack their references: those before it.
    fn begin_at(&mut self, packet: &InputPacket, facts: Option<PacketFacts>) {
        let is_open = facts.is_some_and(|facts| facts.random_access == RandomAccess::OpenGop);
        self.open_start = packet.pts().filter(|_| is_open && self.context.codec_id == ffi::AVCodecID::H264);
        let flag = ffi::AV_CODEC_FLAG_OUTPUT_CORRUPT as i32;
        self.context.flags = if self.open_start.is_some() { self.context.flags | flag } else { self.context.flags & !flag };
    }

    fn send_raw(&mut self, packet: Option<&av::AvPacket>) {
        if let Some(packet) = packet {
            self.sent += 1;
            self.has_exif = packet.has_exif();
            self.context.reordered_opaque = self.sent;
            let pts = av::timestamp(packet.pts);
            if matches!(self.starts_at, StartsAt::Unknown) && packet.flags & ffi::AV_PKT_FLAG_KEY != 0 {
                self.starts_at = StartsAt::Pts(pts);
            }
            self.under_way.push_back((self.sent, pts));
            while self.under_way.front().is_some_and(|(number, _)| *number < self.sent - MAX_DELAY_PACKETS) {
                self.under_way.pop_front();
            }
            self.note_frameless(self.sent - MAX_DELAY_PACKETS);
        }
        // SAFETY: an open context, and a valid packet or null for the end.
        let code = unsafe { ffi::avcodec_send_packet(self.context.as_mut_ptr(), packet.map_or(std::ptr::null(), av::AvPacket::as_ptr)) };
        if code < 0 && code != ffi::AVERROR_EOF && packet.is_some() {
            self.damage.decode_errors += 1;
            self.damage.packets_dropped += 1;
            self.note_refused();
        }
    }

    /// Whether errors around this time are caused by the position where decoding started.
    fn is_before_start(&self, pts: Option<i64>) -> bool {
        match self.starts_at {
            StartsAt::Unknown => true,
            StartsAt::Pts(start) => pts.zip(start).is_some_and(|(pts, start)| pts < start),
        }
    }

    /// Records a rejected packet: the one sent last, or an earlier one that a thread was still working on.
    fn note_refused(&mut self) {
        self.breaks.push(self.under_way.back().and_then(|(_, pts)| *pts));
        // Counted by the caller.
        self.log.take(self.sent);
    }

    /// Counts packets up to this one that had errors and produced no frame.
    fn note_frameless(&mut self, packet: i64) {
        for number in self.log.take_up_to(packet) {
            let pts = self.under_way.iter().find(|(known, _)| *known == number).and_then(|(_, pts)| *pts);
            if !self.is_before_start(pts) {
                self.breaks.push(pts);
            }
        }
    }

    /// Takes the presentation times around which frames may be missing, since the last call; `None` for an unknown time. For a
    /// [`crate::LossMeter`].
    pub fn take_breaks(&mut self) -> Vec<Option<i64>> {
        std::mem::take(&mut self.breaks)
    }

    /// Returns the next frame, if enough packets were sent.
    ///
    /// # Errors
    /// `Unsupported` for pixel formats that cannot be delivered; `Core` never for sizes that a header may state.
    pub fn receive(&mut self) -> Result<Decoded, MediaError> {
        let mut failed = 0;
        loop {
            self.frame.clear();
            // SAFETY: an open context and an owned frame.
            let code = unsafe { ffi::avcodec_receive_frame(self.context.as_mut_ptr(), self.frame.as_mut_ptr()) };
            if code == ffi::AVERROR(libc::EAGAIN) {
                return Ok(Decoded::NeedsPacket);
            }
            if code == ffi::AVERROR_EOF {
                self.note_frameless(self.sent);
                match self.successor.take() {
                    Some((parameters, packet)) => {
                        (self.context, self.log, self.pool_use) =
                            open_context(&parameters, &self.stream, self.threads, self.images.as_ref())?;
                        self.send_raw(Some(&packet));
                        continue;
                    }
                    None => return Ok(Decoded::End),
                }
            }
            if code < 0 {
                self.damage.decode_errors += 1;
                self.note_refused();
                failed += 1;
                if failed > MAX_FAILURES {
                    return Ok(if self.is_draining { Decoded::End } else { Decoded::NeedsPacket });
                }
                continue;
            }
            if let Some(frame) = self.deliver()? {
                return Ok(Decoded::Frame(frame));
            }
        }
    }

    /// Damage found so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Conversions to supported pixel formats so far.
    pub fn conversions(&self) -> Vec<Conversion> {
        self.conversions
            .iter()
            .map(|((from, to), frames)| Conversion { from: format::name(*from), to: (*to).to_owned(), frames: *frames })
            .collect()
    }

    /// Converts the received frame to a core frame; `None` if it is unusable.
    fn deliver(&mut self) -> Result<Option<Frame>, MediaError> {
        let frame = std::mem::replace(&mut self.frame, AvFrame::new());
        let in_range = |side: i32| (1..=MAX_SIDE as i32).contains(&side);
        if !in_range(frame.width) || !in_range(frame.height) {
            self.damage.frames_dropped += 1;
            return Ok(None);
        }
        let Some(delivery) = format::delivery(frame.format) else {
            return Err(MediaError::Unsupported {
                what: format!("pixel format {}", format::name(frame.format)),
                reason: "the decoder returned a frame outside host memory".into(),
            });
        };
        let color = self.frame_color(&frame, delivery);
        let aspect = av::positive(frame.sample_aspect_ratio).or(self.stream.aspect_ratio);
        let rotation = frame_rotation(&frame).unwrap_or(self.stream.rotation);
        let duration = (frame.pkt_duration > 0).then_some(frame.pkt_duration);
        let pts = av::timestamp(frame.best_effort_timestamp);
        if self.open_start.zip(pts).is_some_and(|(start, pts)| pts < start) {
            // Refers to frames before the first packet; other decoders drop it too.
            return Ok(None);
        }
        let hdr = Some(hdr::of_frame(&frame)).filter(|hdr| !hdr.is_empty()).map(Arc::new);
        let still = if self.stream.is_single_image { self.still_metadata(&frame) } else { None };
        let (field_order, is_keyframe) = (field_order(&frame), frame.key_frame != 0);
        let has_errors = self.log.take(frame.reordered_opaque);
        // H.261 has no keyframes, which FFmpeg reports as an error of the first.
        let may_have_errors = self.is_before_start(pts) || (self.context.codec_id == ffi::AVCodecID::H261 && self.next_index == 0);
        let is_concealed =
            frame.decode_error_flags != 0 || frame.flags & ffi::AV_FRAME_FLAG_CORRUPT != 0 || (has_errors && !may_have_errors);
        let Some(surface) = self.host_surface(frame, delivery, &color)? else {
            self.damage.frames_dropped += 1;
            return Ok(None);
        };
        let turn = if self.stream.policy == RotationPolicy::Auto { rotation } else { Rotation::None };
        let surface = self.turned(surface, turn, &color)?;
        let stamp = self.clock.stamp(pts, duration);
        self.damage.frames_repaired += u64::from(is_concealed);
        if is_concealed && pts.is_some() {
            // Frames between it and the one before it may be missing: a demuxer that searched for the next packet does not always report it.
            self.breaks.push(pts);
        }
        let count = if pts.is_none() { &mut self.damage.timestamps_absent } else { &mut self.damage.timestamps_repaired };
        *count += u64::from(stamp.is_repaired);
        self.next_index += 1;
        Ok(Some(Frame {
            width: surface.width(),
            height: surface.height(),
            surface: Surface::Host(surface),
            stream: self.stream.id,
            index: self.next_index - 1,
            pts: Pts(stamp.pts),
            duration,
            time_base: self.stream.time_base,
            color,
            sample_aspect_ratio: if turn.swaps_sides() { aspect.map(describe::turned) } else { aspect },
            rotation: if turn == Rotation::None { rotation } else { Rotation::None },
            field_order,
            hdr,
            still,
            is_keyframe,
            status: if is_concealed || stamp.is_repaired { FrameStatus::Repaired } else { FrameStatus::Ok },
        }))
    }

    /// Metadata of a still image, as reported by its decoder.
    fn still_metadata(&self, frame: &AvFrame) -> Option<Arc<StillMetadata>> {
        // Decoders of other formats set metadata that is not EXIF.
        let is_by_decoder = matches!(self.context.codec_id, ffi::AVCodecID::MJPEG | ffi::AVCodecID::WEBP) && !frame.metadata.is_null();
        let has_exif = is_by_decoder || self.has_exif;
        // SAFETY: a valid frame; its side data live as long, and are copied.
        let icc_profile = unsafe {
            let data = ffi::av_frame_get_side_data(frame.as_ptr(), ffi::AVFrameSideDataType::ICC_PROFILE).as_ref();
            data.filter(|data| !data.data.is_null()).map(|data| std::slice::from_raw_parts(data.data, data.size).to_vec())
        };
        (has_exif || icc_profile.is_some()).then(|| Arc::new(StillMetadata { icc_profile, has_exif }))
    }

    /// The frame's planes unchanged, or converted.
    fn host_surface(&mut self, frame: AvFrame, delivery: Delivery, color: &ColorDescription) -> Result<Option<HostSurface>, MediaError> {
        match delivery {
            Delivery::Direct(format) | Delivery::DirectFullRange(format) => {
                let is_flipped = (0..format.planes()).any(|plane| frame.linesize[plane] < 0);
                if !is_flipped {
                    return Ok(surface::wrap(frame, format));
                }
                self.converter.convert_av(&frame, color, format, &self.pool).map(Some)
            }
            Delivery::Converted(format) => {
                let surface = self.converter.convert_av(&frame, color, format, &self.pool)?;
                *self.conversions.entry((frame.format, format.name())).or_default() += 1;
                Ok(Some(surface))
            }
        }
    }

    /// Rotates the surface clockwise, in a format that supports rotation.
    fn turned(&mut self, surface: HostSurface, rotation: Rotation, color: &ColorDescription) -> Result<HostSurface, MediaError> {
        if rotation == Rotation::None {
            return Ok(surface);
        }
        let turnable = rotate::turnable_format(surface.format(), rotation);
        if turnable == surface.format() {
            return rotate::rotated(&surface, rotation, &self.pool);
        }
        let from = format::av_format(surface.format()).0;
        *self.conversions.entry((from, turnable.name())).or_default() += 1;
        let surface = self.converter.convert(&surface, color, turnable, surface.width(), surface.height(), &self.pool)?;
        rotate::rotated(&surface, rotation, &self.pool)
    }

    /// The frame's colour tags, completed by the stream's.
    fn frame_color(&self, frame: &AvFrame, delivery: Delivery) -> ColorDescription {
        let mut own = color::describe(frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc, frame.chroma_location);
        if own.matrix == ColorMatrix::Unspecified {
            own.matrix = self.stream.color.matrix;
        }
        if matches!(delivery, Delivery::DirectFullRange(_)) {
            own.range = ColorRange::Full;
        } else if own.range == ColorRange::Unspecified {
            own.range = self.stream.color.range;
        }
        if own.primaries == ColorPrimaries::default() {
            own.primaries = self.stream.color.primaries;
        }
        if own.transfer == ColorTransfer::default() {
            own.transfer = self.stream.color.transfer;
        }
        if own.chroma_location == 0 {
            own.chroma_location = self.stream.color.chroma_location;
        }
        own
    }
}

fn open_context(
    parameters: &Parameters,
    stream: &StreamSetup,
    threads: usize,
    images: Option<&DecodeBufferPool>,
) -> Result<(CodecContext, Attachment, Option<PoolUse>), MediaError> {
    // SAFETY: any id is allowed.
    let codec = unsafe { ffi::avcodec_find_decoder(parameters.get().codec_id) };
    if codec.is_null() {
        return Err(MediaError::Unsupported {
            what: format!("decoding {}", parameters.codec_name()),
            reason: "this FFmpeg has no decoder for it; `framerail doctor` lists the available ones".into(),
        });
    }
    let mut context = CodecContext::new(codec);
    // SAFETY: a context of this codec and valid parameters.
    let code = unsafe { ffi::avcodec_parameters_to_context(context.as_mut_ptr(), parameters.get()) };
    if code < 0 {
        return Err(av::error(format!("preparing the {} decoder", parameters.codec_name()), code));
    }
    // Verify checksums, and decode frames that fail as far as possible.
    context.err_recognition = ffi::AV_EF_CRCCHECK | ffi::AV_EF_IGNORE_ERR;
    context.pkt_timebase = av::rational(stream.time_base.ratio());
    let load = FrameLoad::of(parameters, stream.is_single_image);
    context.max_pixels = load.max_pixels(stream.image_bytes);
    let (width, height) = (u64::try_from(context.width).unwrap_or(0), u64::try_from(context.height).unwrap_or(0));
    context.thread_count = thread_count(threads, width * height * load.pixel_bytes, load.at_once, stream.image_bytes);
    // Each image of a list may change size and format; frame threads would hold several of them back.
    context.thread_type = if stream.is_single_image { ffi::FF_THREAD_SLICE } else { ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE };
    if stream.is_reorder_unknown && parameters.get().codec_id == ffi::AVCodecID::H264 {
        // H.264 streams that do not state it either are delayed as long as the standard allows, so that frames stay in order.
        context.strict_std_compliance = ffi::FF_COMPLIANCE_STRICT;
    }
    let log = DecoderLog::attach(&mut context);
    // With several threads FFmpeg would call the pool from its own threads.
    let pool_use = images.filter(|_| context.thread_count == 1).map(|pool| PoolUse::begin(&mut context, pool));
    // SAFETY: a prepared context; no options.
    let code = unsafe { ffi::avcodec_open2(context.as_mut_ptr(), codec, std::ptr::null_mut()) };
    if code < 0 {
        return Err(av::error(format!("opening the {} decoder", parameters.codec_name()), code));
    }
    Ok((context, log, pool_use))
}

/// Whether FFmpeg's decoder of a codec can decode several frames at once, each on a thread.
pub(crate) fn has_frame_threads(codec: ffi::AVCodecID) -> bool {
    // SAFETY: any id is allowed; decoders are static or null.
    let decoder = unsafe { ffi::avcodec_find_decoder(codec).as_ref() };
    decoder.is_some_and(|decoder| decoder.capabilities & ffi::AV_CODEC_CAP_FRAME_THREADS as i32 != 0)
}

/// Number of decoding threads, each with a frame of this size, within a memory budget; 0 leaves it to FFmpeg.
fn thread_count(wanted: usize, image_bytes: u64, at_once: u64, budget_bytes: u64) -> i32 {
    let most = if wanted == 0 { MAX_AUTO_THREADS } else { wanted as u64 };
    let room = budget_bytes.checked_div(image_bytes).map_or(u64::MAX, |images| images.saturating_sub(at_once).max(1));
    let count = if most <= room { wanted as u64 } else { room };
    i32::try_from(count).unwrap_or(0)
}

/// The rotation that the frame itself states (EXIF, H.264 display orientation).
fn frame_rotation(frame: &AvFrame) -> Option<Rotation> {
    // SAFETY: a valid frame; its side data live as long.
    unsafe {
        let side_data = ffi::av_frame_get_side_data(frame.as_ptr(), ffi::AVFrameSideDataType::DISPLAYMATRIX).as_ref()?;
        describe::matrix_rotation(side_data.data, side_data.size)
    }
}

fn field_order(frame: &AvFrame) -> FieldOrder {
    match (frame.interlaced_frame != 0, frame.top_field_first != 0) {
        (false, _) => FieldOrder::Progressive,
        (true, true) => FieldOrder::TopFirst,
        (true, false) => FieldOrder::BottomFirst,
    }
}

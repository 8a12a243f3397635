//! Encodes frames with any of FFmpeg's video encoders.

use std::{
    collections::{BTreeMap, BTreeSet},
    ptr,
};

use ffmpeg_the_third::ffi;
use framerail_core::{
    ColorDescription, ColorMatrix, ColorRange, FieldOrder, Frame, PixelAspect, PixelFamily, PixelFormat, StreamInfo, TimeBase,
};

use crate::{
    Converter, MediaError, Parameters, Quality, ScaleOptions, WriterOptions,
    av::{self, AvFrame, AvPacket, CodecContext, Dictionary},
    color::AvColor,
    encoder_clock::{EncoderClock, FrameTimes},
    encoder_name::find_video_encoder,
    error::nearest,
    format, hdr,
    keyframe_clock::KeyframeClock,
    scale::{Area, EncoderFrame},
    surface,
};

/// Display aspect ratios that differ by less than this are equal: sizes are integers.
const SHAPE_TOLERANCE: f64 = 0.02;
/// Maximum number of pixels along a side that share a chroma sample.
const CHROMA_STEP: u32 = 4;

/// Quantiser for encoders that default to a low fixed bit rate (1 best, 31 worst).
const DEFAULT_QUANTISER: i32 = 3;
/// Cisco's encoder of H.264, in an FFmpeg without GPL parts.
const OPENH264: &str = "libopenh264";
/// Its default quantiser (1 best, 51 worst).
const OPENH264_QUANTISER: f64 = 24.0;
/// Encoders that do not accept odd sizes with subsampled chroma.
const EVEN_SIZE_ENCODERS: &[&str] = &["libx264", "libx265", "libsvtav1", "libopenh264"];

/// The container's requirements for an encoder.
pub(crate) struct Demands {
    /// The container stores codec headers.
    pub(crate) global_header: bool,
    /// How the container stores frame times.
    pub(crate) times: FrameTimes,
}

/// The encoder's output as a container needs to know it.
#[derive(Clone)]
pub(crate) struct VideoTrack {
    pub(crate) parameters: Parameters,
    pub(crate) time_base: TimeBase,
}

/// An open encoder.
pub(crate) struct Encoder {
    context: CodecContext,
    name: String,
    /// Pixel format of the encoder.
    format: ffi::AVPixelFormat,
    width: u32,
    height: u32,
    /// Colour tags of the input at its start.
    input_color: ColorDescription,
    /// Colour tags of the encoded video.
    color: ColorDescription,
    pixel_aspect: PixelAspect,
    clock: EncoderClock,
    converter: Converter,
    /// Durations by PTS of the frames inside the encoder.
    durations: BTreeMap<i64, i64>,
    /// Whether frames are encoded as two fields.
    is_interlaced: bool,
    /// The last frame, if the container may need a repeat of it.
    last_frame: Option<AvFrame>,
    keyframes: KeyframeClock,
    pub(crate) counts: EncodeCounts,
    /// Properties that changed during encoding, with the time of the first changed frame in seconds.
    changes: Vec<(&'static str, f64)>,
    /// Differences from the input.
    pub(crate) warnings: Vec<String>,
}

/// Counts of an encoder.
#[derive(Default)]
pub(crate) struct EncodeCounts {
    pub(crate) frames: u64,
    pub(crate) converted: u64,
    pub(crate) rescaled: u64,
    pub(crate) rounded: u64,
    /// Repeated frames that fill gaps in a container that only counts frames.
    pub(crate) repeated: u64,
    /// Timestamps that repeated or went back.
    pub(crate) repaired: u64,
}

impl Encoder {
    /// Checks that a video encoder of this name exists.
    pub(crate) fn check(name: &str) -> Result<(), MediaError> {
        find_video_encoder(name).map(|_| ())
    }

    /// Whether an encoder accepts a pixel format without conversion.
    pub(crate) fn takes(name: &str, format: PixelFormat) -> Result<bool, MediaError> {
        let supported = supported_formats(find_video_encoder(name)?);
        Ok(supported.is_empty() || supported.contains(&format::av_format(format)))
    }

    pub(crate) fn open(name: &str, options: &WriterOptions, info: &StreamInfo, demands: &Demands) -> Result<Self, MediaError> {
        let codec: *const ffi::AVCodec = find_video_encoder(name)?;
        let mut warnings = Vec::new();
        let format = choose_format(codec, name, options, info, &mut warnings)?;
        let clock = EncoderClock::new(codec, info, demands.times);
        let time_base = clock.time_base();
        let mut context = CodecContext::new(codec);
        let color = output_color(info, format);
        let is_interlaced = set_fields(&mut context, codec, name, info, &mut warnings);
        configure(&mut context, options, info, format, &color, time_base);
        if demands.global_header {
            context.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as i32;
        }
        let mut dictionary = encoder_options(codec, name, options, info, &mut context, &mut warnings)?;
        // SAFETY: a configured context; unknown entries stay in the dictionary.
        let code = unsafe { ffi::avcodec_open2(context.as_mut_ptr(), codec, dictionary.as_mut_ptr()) };
        if let Some((key, _)) = dictionary.entries().into_iter().next() {
            let names = option_names(codec);
            let nearest = nearest(&key, names.iter().map(String::as_str));
            return Err(MediaError::BadOption { name: key, reason: format!("the encoder {name} does not know it"), nearest });
        }
        if code < 0 {
            let words = crate::log::take_last_error().unwrap_or_else(|| av::error_text(code));
            return Err(MediaError::Unsupported {
                what: format!("{} {}x{} with {name}", format::name(format.0), info.width, info.height),
                reason: format!("the encoder reports '{words}'; check its options"),
            });
        }
        Ok(Self {
            context,
            name: name.to_owned(),
            format,
            width: info.width,
            height: info.height,
            input_color: info.color,
            color,
            pixel_aspect: PixelAspect::of(info.sample_aspect_ratio),
            clock,
            converter: Converter::new(ScaleOptions::default()),
            durations: BTreeMap::new(),
            is_interlaced,
            last_frame: None,
            keyframes: KeyframeClock::new(options.keyframe_every.map(|every| time_base.ticks(every.as_secs_f64()))),
            counts: EncodeCounts::default(),
            changes: Vec::new(),
            warnings,
        })
    }

    /// Stream parameters for the container.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub(crate) fn track(&self) -> Result<VideoTrack, MediaError> {
        // SAFETY: an open encoder.
        let parameters = unsafe { Parameters::of_encoder(self.context.as_ptr())? };
        Ok(VideoTrack { parameters, time_base: self.clock.time_base() })
    }

    /// Makes the next frame a keyframe, so that decoding can start there.
    pub(crate) fn request_keyframe(&mut self) {
        self.keyframes.is_requested = true;
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn format_name(&self) -> String {
        format::name(self.format.0)
    }

    /// Encodes the previous frame again if a container that only counts frames needs a repeat before this one; returns whether it did.
    /// Call it, and receive the packets, until it returns `false`.
    pub(crate) fn repeat_before(&mut self, frame: &Frame) -> Result<bool, MediaError> {
        if self.last_frame.is_none() || self.clock.missing_before(frame) == 0 {
            return Ok(false);
        }
        let Some(last) = &self.last_frame else { return Ok(false) };
        let mut image = last.share()?;
        image.pts = self.clock.repeat();
        image.pict_type = ffi::AVPictureType::NONE;
        self.counts.repeated += 1;
        self.encode(&image, frame.index)?;
        Ok(true)
    }

    /// Encodes a frame.
    pub(crate) fn send(&mut self, frame: &Frame) -> Result<(), MediaError> {
        let mut image = self.image(frame)?;
        let placed = self.clock.place(frame);
        self.counts.repaired += u64::from(placed.is_repaired);
        self.counts.rounded += u64::from(placed.is_rounded);
        let pts = placed.pts;
        if let Some(duration) = self.clock.duration(frame) {
            self.durations.insert(pts, duration);
        }
        image.pts = pts;
        image.pict_type = if self.keyframes.is_due(pts) { ffi::AVPictureType::I } else { ffi::AVPictureType::NONE };
        image.key_frame = 0;
        image.interlaced_frame = (self.is_interlaced && frame.field_order != FieldOrder::Progressive).into();
        image.top_field_first = (self.is_interlaced && frame.field_order == FieldOrder::TopFirst).into();
        image.sample_aspect_ratio = self.context.sample_aspect_ratio;
        self.encode(&image, frame.index)?;
        self.counts.frames += 1;
        self.last_frame = if self.clock.may_repeat() { Some(image) } else { None };
        Ok(())
    }

    fn encode(&mut self, image: &AvFrame, index: u64) -> Result<(), MediaError> {
        // SAFETY: an open encoder and a valid frame, which it references or copies.
        let code = unsafe { ffi::avcodec_send_frame(self.context.as_mut_ptr(), image.as_ptr()) };
        if code < 0 { Err(av::error(format!("encoding frame {index} with {}", self.name), code)) } else { Ok(()) }
    }

    /// Signals the end of the stream to the encoder.
    pub(crate) fn send_end(&mut self) -> Result<(), MediaError> {
        // SAFETY: an open encoder; null is the end.
        let code = unsafe { ffi::avcodec_send_frame(self.context.as_mut_ptr(), ptr::null()) };
        if code < 0 && code != ffi::AVERROR_EOF {
            return Err(av::error(format!("draining {}", self.name), code));
        }
        Ok(())
    }

    /// Returns the next packet, if one is ready.
    pub(crate) fn receive(&mut self) -> Result<Option<AvPacket>, MediaError> {
        let received = self.context.receive_packet().map_err(|code| av::error(format!("encoding with {}", self.name), code))?;
        let Some(mut packet) = received else { return Ok(None) };
        if let Some(duration) = self.durations.remove(&packet.pts) {
            packet.duration = duration;
        }
        self.clock.put_on_source_clock(&mut packet);
        Ok(Some(packet))
    }

    /// The frame's planes unchanged, or converted and scaled to the encoder's format and size.
    fn image(&mut self, frame: &Frame) -> Result<AvFrame, MediaError> {
        let host = frame.surface.host()?;
        let is_sized = (host.width(), host.height()) == (self.width, self.height);
        let own_format = format::av_format(host.format());
        // Tags that the frame does not state are unchanged.
        let color = frame.color.completed_by(&self.input_color);
        let has_color = !is_sampled(host.format()) || same_samples(&color, &self.color);
        let is_twin = color.range == ColorRange::Full && full_range_twin(&self.format_name()) == Some(host.format().name());
        let fits = (own_format == self.format || is_twin) && has_color;
        let area = self.area(frame);
        let fills = (area.width, area.height) == (self.width, self.height);
        self.counts.rescaled += u64::from(!is_sized || !fills);
        self.counts.converted += u64::from(!fits);
        if !same_samples(&color, &self.input_color) {
            self.note_change("the colour matrix or range", frame);
        }
        if !fills {
            self.note_change("the shape of the frame", frame);
        }
        if is_sized && fits && fills {
            let mut image = surface::lend(host)?;
            image.format = self.format.0;
            return Ok(image);
        }
        let wanted = EncoderFrame { format: self.format, width: self.width, height: self.height, color: &self.color, area };
        self.converter.convert_to_av(host, &color, &wanted)
    }

    /// The area that a frame is scaled to: it keeps its display aspect ratio, with black bars if the stream began with another one.
    fn area(&self, frame: &Frame) -> Area {
        let whole = Area { left: 0, top: 0, width: self.width, height: self.height };
        let shape = |width: u32, height: u32, pixels: PixelAspect| f64::from(width) * f64::from(pixels.ratio()) / f64::from(height.max(1));
        // A frame without a pixel aspect ratio has the stream's.
        let pixels = if frame.sample_aspect_ratio.is_some() { frame.pixel_aspect() } else { self.unstated_aspect(frame) };
        let narrower = shape(frame.width, frame.height, pixels) / shape(self.width, self.height, self.pixel_aspect);
        if (1.0 - SHAPE_TOLERANCE..=1.0 + SHAPE_TOLERANCE).contains(&narrower) {
            return whole;
        }
        let part = |side: u32, share: f64| {
            let length = ((f64::from(side) * share).round() as u32).clamp(1, side);
            ((side - length) / 2 / CHROMA_STEP * CHROMA_STEP, length)
        };
        if narrower < 1.0 {
            let (left, width) = part(self.width, narrower);
            Area { left, width, ..whole }
        } else {
            let (top, height) = part(self.height, 1.0 / narrower);
            Area { top, height, ..whole }
        }
    }

    /// The pixel aspect ratio of a frame that states none: the stream's if the size is the same, else square.
    fn unstated_aspect(&self, frame: &Frame) -> PixelAspect {
        if (frame.width, frame.height) == (self.width, self.height) { self.pixel_aspect } else { PixelAspect::SQUARE }
    }

    /// Records the first change of a property that had to be converted.
    fn note_change(&mut self, what: &'static str, frame: &Frame) {
        if self.changes.iter().all(|(known, _)| *known != what) {
            self.changes.push((what, frame.seconds()));
        }
    }

    /// Warnings that are only known after encoding.
    pub(crate) fn late_warnings(&self) -> impl Iterator<Item = String> + '_ {
        let changes = self
            .changes
            .iter()
            .map(|(what, secs)| format!("{what} changes at {secs:.3} s; frames are converted to the file's initial format"));
        let step = self.clock.time_base();
        let rounded = (self.counts.rounded > 0)
            .then(|| format!("timestamps rounded to steps of {step} s, the file's finest: {}", self.counts.rounded));
        let repeated = (self.counts.repeated > 0)
            .then(|| format!("frames repeated because the container has a fixed frame rate: {}", self.counts.repeated));
        let jumps = (self.clock.jumps > 0)
            .then(|| format!("gaps of more than 10 s that the container cannot hold were closed: {}", self.clock.jumps));
        changes.chain(rounded).chain(repeated).chain(jumps)
    }
}

/// Whether a format's samples depend on a matrix and a range (YUV).
fn is_sampled(format: PixelFormat) -> bool {
    !matches!(format.family(), PixelFamily::Rgb | PixelFamily::Gray)
}

/// Whether samples have the same meaning, as far as both state it.
fn same_samples(one: &ColorDescription, other: &ColorDescription) -> bool {
    let is_open = |matrix: ColorMatrix| matches!(matrix, ColorMatrix::Unspecified | ColorMatrix::Rgb);
    let same_matrix = one.matrix == other.matrix || is_open(one.matrix) || is_open(other.matrix);
    same_matrix && one.is_full_range(false) == other.is_full_range(false)
}

/// The regular format that has the same layout as a full-range (`yuvj`) format.
fn full_range_twin(name: &str) -> Option<&'static str> {
    match name {
        "yuvj420p" => Some("yuv420p"),
        "yuvj422p" => Some("yuv422p"),
        "yuvj444p" => Some("yuv444p"),
        "yuvj440p" => Some("yuv440p"),
        _ => None,
    }
}

/// Pixel formats that an encoder supports; empty if it does not list them.
fn supported_formats(codec: *const ffi::AVCodec) -> Vec<ffi::AVPixelFormat> {
    let mut formats = Vec::new();
    // SAFETY: null, or a static list that ends with NONE.
    unsafe {
        let mut entry = (*codec).pix_fmts;
        while !entry.is_null() && *entry != ffi::AVPixelFormat::NONE {
            formats.push(*entry);
            entry = entry.add(1);
        }
    }
    formats
}

fn choose_format(
    codec: *const ffi::AVCodec,
    name: &str,
    options: &WriterOptions,
    info: &StreamInfo,
    warnings: &mut Vec<String>,
) -> Result<ffi::AVPixelFormat, MediaError> {
    let mut supported = supported_formats(codec);
    if name == "mjpeg" {
        // It lists limited range too, but accepts it only with a non-standard flag that few players support.
        supported.retain(|format| full_range_twin(&format::name(format.0)).is_some());
    }
    let wanted = format::av_format(options.pixel_format.unwrap_or(info.pixel_format));
    let takes = |format: &ffi::AVPixelFormat| supported.is_empty() || supported.contains(format);
    if let Some(asked) = options.pixel_format.filter(|_| !takes(&wanted)) {
        let names: Vec<String> = supported.iter().map(|format| format::name(format.0)).collect();
        let reason = format!("{name} does not support it; it supports {}", names.join(", "));
        return Err(MediaError::BadOption {
            name: asked.to_string(),
            reason,
            nearest: nearest(asked.name(), names.iter().map(String::as_str)),
        });
    }
    let is_full = info.color.range == ColorRange::Full;
    let twin =
        || supported.iter().copied().find(|format| is_full && full_range_twin(&format::name(format.0)) == Some(info.pixel_format.name()));
    let format = if takes(&wanted) { wanted } else { twin().unwrap_or_else(|| best_of(&supported, wanted, info)) };
    let format = even_chroma(format, name, &supported, info)?;
    let is_same = format == wanted || twin() == Some(format);
    if !is_same && options.pixel_format.is_none() {
        let alpha = if info.pixel_format.has_alpha() && !has_alpha(format) { "; transparency is lost" } else { "" };
        let odd = if takes(&wanted) { " at odd sizes" } else { "" };
        warnings.push(format!("{name} does not support {}{odd}: converted to {}{alpha}", info.pixel_format, format::name(format.0)));
    }
    Ok(format)
}

fn best_of(supported: &[ffi::AVPixelFormat], wanted: ffi::AVPixelFormat, info: &StreamInfo) -> ffi::AVPixelFormat {
    let mut list = supported.to_vec();
    list.push(ffi::AVPixelFormat::NONE);
    // SAFETY: the list ends with NONE; the loss is not requested.
    let best =
        unsafe { ffi::avcodec_find_best_pix_fmt_of_list(list.as_ptr(), wanted, info.pixel_format.has_alpha().into(), ptr::null_mut()) };
    if best == ffi::AVPixelFormat::NONE { wanted } else { best }
}

fn has_alpha(format: ffi::AVPixelFormat) -> bool {
    // SAFETY: any number is allowed; descriptors are static.
    unsafe { ffi::av_pix_fmt_desc_get(format).as_ref() }.is_some_and(|descriptor| descriptor.flags & ffi::AV_PIX_FMT_FLAG_ALPHA as u64 != 0)
}

/// For odd sizes, the format with full chroma if the encoder rejects subsampled chroma, so that the size is kept.
fn even_chroma(
    format: ffi::AVPixelFormat,
    name: &str,
    supported: &[ffi::AVPixelFormat],
    info: &StreamInfo,
) -> Result<ffi::AVPixelFormat, MediaError> {
    // SAFETY: any number is allowed; descriptors are static.
    let Some(descriptor) = (unsafe { ffi::av_pix_fmt_desc_get(format).as_ref() }) else { return Ok(format) };
    let divides = |side: u32, shift: u8| side.is_multiple_of(1 << shift.min(4));
    let fits = divides(info.width, descriptor.log2_chroma_w) && divides(info.height, descriptor.log2_chroma_h);
    if fits || !EVEN_SIZE_ENCODERS.contains(&name) {
        return Ok(format);
    }
    let full = match descriptor.comp[0].depth {
        ..=8 => "yuv444p",
        9..=10 => "yuv444p10le",
        _ => "yuv444p12le",
    };
    supported.iter().copied().find(|format| format::name(format.0) == full).ok_or_else(|| MediaError::Unsupported {
        what: format!("{}x{} with {name}", info.width, info.height),
        reason: "it supports only even sizes; choose another codec or resize before writing".into(),
    })
}

/// Colour tags of the encoded video.
fn output_color(info: &StreamInfo, format: ffi::AVPixelFormat) -> ColorDescription {
    let mut color = info.color;
    // SAFETY: any number is allowed; descriptors are static.
    let is_rgb = unsafe { ffi::av_pix_fmt_desc_get(format).as_ref() }
        .is_some_and(|descriptor| descriptor.flags & (ffi::AV_PIX_FMT_FLAG_RGB | ffi::AV_PIX_FMT_FLAG_PAL) as u64 != 0);
    let from_rgb = info.pixel_format.family() == PixelFamily::Rgb;
    if from_rgb && !is_rgb {
        // The conversion uses this matrix, so tag it.
        if matches!(color.matrix, ColorMatrix::Rgb | ColorMatrix::Unspecified) {
            color.matrix = ColorMatrix::Bt601;
        }
        if color.range == ColorRange::Unspecified {
            color.range = ColorRange::Limited;
        }
    } else if is_rgb {
        color.matrix = ColorMatrix::Rgb;
    }
    if full_range_twin(&format::name(format.0)).is_some() {
        color.range = ColorRange::Full;
    }
    color
}

/// Marks interlaced video as such in the encoder; returns whether the encoder supports it. Without the mark, players would show
/// the lines of both fields as one frame.
fn set_fields(context: &mut CodecContext, codec: *const ffi::AVCodec, name: &str, info: &StreamInfo, warnings: &mut Vec<String>) -> bool {
    use ffi::AVCodecID as Id;
    if info.field_order == FieldOrder::Progressive {
        return false;
    }
    // SAFETY: a static description.
    let id = unsafe { (*codec).id };
    let knows = name == "libx264" || name == "prores_ks" || matches!(id, Id::MPEG2VIDEO | Id::MPEG4);
    // Each field has half of the lines, and its chroma half of those.
    if !knows || !info.height.is_multiple_of(4) {
        warnings.push(format!(
            "{name} encodes interlaced frames of this size as progressive ones, and players do not deinterlace them; deinterlace=bwdif in \
             `read` does"
        ));
        return false;
    }
    context.flags |= (ffi::AV_CODEC_FLAG_INTERLACED_DCT | ffi::AV_CODEC_FLAG_INTERLACED_ME) as i32;
    context.field_order = if info.field_order == FieldOrder::BottomFirst { ffi::AVFieldOrder::BB } else { ffi::AVFieldOrder::TT };
    true
}

fn configure(
    context: &mut CodecContext,
    options: &WriterOptions,
    info: &StreamInfo,
    format: ffi::AVPixelFormat,
    color: &ColorDescription,
    time_base: TimeBase,
) {
    context.width = info.width as i32;
    context.height = info.height as i32;
    context.pix_fmt = format;
    context.time_base = av::rational(time_base.ratio());
    if let Some(rate) = info.frame_rate {
        context.framerate = av::rational(rate);
    }
    if let Some(ratio) = info.sample_aspect_ratio {
        context.sample_aspect_ratio = av::rational(ratio);
    }
    let color = AvColor::from(color);
    context.colorspace = color.space;
    context.color_range = color.range;
    context.color_primaries = color.primaries;
    context.color_trc = color.transfer;
    context.chroma_sample_location = color.location;
    context.thread_count = i32::try_from(options.threads).unwrap_or(0);
    if let Some(gop) = options.gop {
        context.gop_size = i32::try_from(gop).unwrap_or(i32::MAX);
    }
    if let Quality::BitRate(rate) = options.quality {
        context.bit_rate = i64::try_from(rate).unwrap_or(i64::MAX);
    }
}

/// Encoder options: quality, preset, then the user's own.
fn encoder_options(
    codec: *const ffi::AVCodec,
    name: &str,
    options: &WriterOptions,
    info: &StreamInfo,
    context: &mut CodecContext,
    warnings: &mut Vec<String>,
) -> Result<Dictionary, MediaError> {
    let names = option_names(codec);
    let is_own = |key: &str| options.encoder_options.iter().any(|(own, _)| own == key);
    let mut dictionary = Dictionary::new();
    let mut set = |key: &str, value: &str| {
        if !names.contains(key) {
            let reason = format!("the encoder {name} has no such setting; use its own options");
            return Err(MediaError::BadOption { name: key.to_owned(), reason, nearest: None });
        }
        dictionary.set(key, value);
        Ok(())
    };
    match options.quality {
        Quality::Crf(crf) if name == OPENH264 => {
            if crf < 1.0 {
                warnings.push(format!("{name} has no lossless mode: its best quantiser, 1, is used"));
            }
            hold_quantiser(context, crf);
        }
        Quality::EncoderDefault if name == OPENH264 && !["b", "qmin", "qmax", "rc_mode"].into_iter().any(is_own) => {
            hold_quantiser(context, OPENH264_QUANTISER);
        }
        Quality::Crf(crf) => {
            set("crf", &crf.to_string())?;
            if name.starts_with("libvpx") {
                // With a nonzero bit rate, libvpx treats the CRF only as an upper limit of quality.
                context.bit_rate = 0;
            }
        }
        Quality::EncoderDefault if name.starts_with("libvpx") => {
            set("crf", "31")?;
            context.bit_rate = 0;
        }
        Quality::EncoderDefault if takes_quantiser(codec) && !is_own("b") && !is_own("q") => {
            context.flags |= ffi::AV_CODEC_FLAG_QSCALE as i32;
            context.global_quality = ffi::FF_QP2LAMBDA * DEFAULT_QUANTISER;
        }
        _ => {}
    }
    match &options.preset {
        Some(_) if name == OPENH264 => warnings.push(format!("{name} has no presets: preset= has no effect")),
        Some(preset) => set("preset", preset)?,
        None => {}
    }
    for (key, value) in live_settings(name, options) {
        if names.contains(key) && !is_own(key) {
            dictionary.set(key, value);
        }
    }
    if name == "libx265" {
        let own = options.encoder_options.iter().find(|(key, _)| key == "x265-params").map_or("", |(_, value)| value);
        dictionary.set("x265-params", &x265_params(info, own));
    }
    for (key, value) in options.encoder_options.iter().filter(|(key, _)| !(name == "libx265" && key == "x265-params")) {
        dictionary.set(key, value);
    }
    Ok(dictionary)
}

/// Has OpenH264, which has no constant rate factor, encode all frames with one quantiser. By default it aims at 2 Mbit/s, whatever the
/// size of frames.
fn hold_quantiser(context: &mut CodecContext, quantiser: f64) {
    let quantiser = quantiser.round().clamp(1.0, 51.0) as i32;
    (context.qmin, context.qmax) = (quantiser, quantiser);
}

/// Settings for live outputs, which are watched while they are encoded.
fn live_settings(name: &str, options: &WriterOptions) -> Vec<(&'static str, &'static str)> {
    let mut settings = Vec::new();
    if options.keyframe_every.is_some() {
        // Decoding must be able to start at forced keyframes.
        settings.push(("forced-idr", "1"));
    }
    if options.low_latency {
        match name {
            "libx264" | "libx265" => {
                settings.push(("tune", "zerolatency"));
                settings.extend(options.preset.is_none().then_some(("preset", "veryfast")));
            }
            "libvpx" | "libvpx-vp9" => settings.extend([("deadline", "realtime"), ("lag-in-frames", "0"), ("cpu-used", "6")]),
            _ => {}
        }
    }
    settings
}

/// x265 derives its frame rate from the time base and logs to standard error; these parameters correct both.
fn x265_params(info: &StreamInfo, own: &str) -> String {
    let rate = info.frame_rate.map(|rate| format!(":fps={}/{}", rate.num, rate.den)).unwrap_or_default();
    let hdr = hdr::x265_params(&info.hdr);
    let own = if own.is_empty() { String::new() } else { format!(":{own}") };
    format!("log-level=error{rate}{hdr}{own}")
}

/// Whether it is an MPEG-family encoder, whose default is 200 kbit/s.
fn takes_quantiser(codec: *const ffi::AVCodec) -> bool {
    use ffi::AVCodecID as Id;
    // SAFETY: a static description.
    let id = unsafe { (*codec).id };
    matches!(
        id,
        Id::MPEG1VIDEO | Id::MPEG2VIDEO | Id::MPEG4 | Id::MSMPEG4V2 | Id::MSMPEG4V3 | Id::MJPEG | Id::H263 | Id::FLV1 | Id::WMV1 | Id::WMV2
    )
}

/// All options of an encoder: private and common ones.
fn option_names(codec: *const ffi::AVCodec) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // SAFETY: classes are static; av_opt_next takes the address of a class pointer as an object.
    unsafe {
        for class in [(*codec).priv_class, ffi::avcodec_get_class()] {
            if class.is_null() {
                continue;
            }
            let mut option = ptr::null();
            loop {
                option = ffi::av_opt_next(ptr::addr_of!(class).cast(), option);
                let Some(entry) = option.as_ref() else { break };
                if entry.type_ != ffi::AVOptionType::CONST {
                    names.insert(av::string(entry.name));
                }
            }
        }
    }
    names
}

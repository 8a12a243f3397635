//! Converts a container's stream metadata to core's types.

use std::sync::Arc;

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, ColorRange, FieldOrder, MediaKind, Rational, Rotation, SideStream, StreamInfo};

use crate::{
    CodedFormat, InputOptions, MediaError, Parameters, RotationPolicy, av, color,
    container::Container,
    format::{self, Delivery},
    hdr,
    parameters::{Chapter, SideParameters},
};

/// The rotation of a stream's display matrix.
pub(crate) fn rotation(stream: &ffi::AVStream) -> Rotation {
    let mut size = 0;
    // SAFETY: a valid stream; the answer is null or `size` bytes that live as long as the stream.
    let matrix = unsafe {
        let matrix = ffi::av_stream_get_side_data(stream, ffi::AVPacketSideDataType::DISPLAYMATRIX, &mut size);
        matrix_rotation(matrix, size)
    };
    matrix.unwrap_or_default()
}

/// The rotation of a display matrix; `None` without one.
///
/// # Safety
/// `matrix` is null or has `size` bytes, aligned for 32-bit numbers as FFmpeg's side data are.
pub(crate) unsafe fn matrix_rotation(matrix: *const u8, size: usize) -> Option<Rotation> {
    if matrix.is_null() || size < 36 {
        return None;
    }
    // SAFETY: not null, and long enough for nine 32-bit numbers.
    let matrix = unsafe { std::slice::from_raw_parts(matrix.cast::<i32>(), 9) };
    Some(Rotation::from_matrix(matrix[0], matrix[1], matrix[3], matrix[4]))
}

/// Pixel aspect ratio, if known: the container's takes precedence over the codec's.
pub(crate) fn aspect_ratio(stream: &ffi::AVStream) -> Option<Rational> {
    // SAFETY: every stream has parameters.
    let coded = unsafe { (*stream.codecpar).sample_aspect_ratio };
    av::positive(stream.sample_aspect_ratio).or_else(|| av::positive(coded))
}

/// Colour tags of a stream, including full range where the pixel format implies it.
pub(crate) fn stream_color(parameters: &ffi::AVCodecParameters) -> ColorDescription {
    let mut color = color::describe(
        parameters.color_space,
        parameters.color_range,
        parameters.color_primaries,
        parameters.color_trc,
        parameters.chroma_location,
    );
    if matches!(format::delivery(parameters.format), Some(Delivery::DirectFullRange(_))) {
        color.range = ColorRange::Full;
    }
    color
}

/// An aspect ratio after a quarter turn.
pub(crate) fn turned(ratio: Rational) -> Rational {
    Rational { num: ratio.den, den: ratio.num }
}

/// Collects everything known about a video stream before its first frame.
pub(crate) fn stream_info(
    container: &Container,
    stream: &ffi::AVStream,
    options: &InputOptions,
    side_streams: Vec<SideStream>,
) -> Result<StreamInfo, MediaError> {
    // SAFETY: every stream has parameters, and names are static.
    let (parameters, codec) = unsafe { (&*stream.codecpar, av::string(ffi::avcodec_get_name((*stream.codecpar).codec_id))) };
    let side = |side: i32| u32::try_from(side).unwrap_or(0);
    let (mut width, mut height) = (side(parameters.width), side(parameters.height));
    let mut aspect = aspect_ratio(stream);
    let mut turn = rotation(stream);
    if options.rotation == RotationPolicy::Auto {
        if turn.swaps_sides() {
            (width, height) = (height, width);
            aspect = aspect.map(turned);
        }
        turn = Rotation::None;
    }
    let stated_rate = av::positive(stream.avg_frame_rate).or_else(|| av::positive(stream.r_frame_rate));
    let frame_rate = stated_rate.or_else(|| counted_rate(stream));
    let duration_secs = duration_secs(container, stream);
    let selected = selected_secs(options, duration_secs);
    let by_rate = selected.zip(frame_rate).map(|(secs, rate)| (secs * rate.as_f64()).round() as u64);
    let whole = options.start_secs.is_none() && options.end_secs.is_none() && options.duration_secs.is_none();
    let counted = u64::try_from(stream.nb_frames).ok().filter(|count| *count > 0 && whole);
    // SAFETY: valid parameters.
    let by_header = || unsafe { Parameters::copy_of(parameters) }.ok().and_then(|own| CodedFormat::of(&own)?.pixel_format());
    let pixel_format = format::delivery(parameters.format).map(Delivery::format).or_else(by_header);
    Ok(StreamInfo {
        start_offset_micros: 0,
        id: options.stream,
        source: options.source.clone(),
        name: options.name.clone().unwrap_or_else(|| options.source.stem()),
        codec: codec.clone(),
        container: container.format_name(),
        width,
        height,
        pixel_format: pixel_format.unwrap_or(framerail_core::PixelFormat::Yuv420p),
        sample_aspect_ratio: aspect,
        color: stream_color(parameters),
        hdr: hdr::of_stream(stream),
        field_order: field_order(parameters.field_order),
        rotation: turn,
        time_base: av::time_base(stream.time_base),
        frame_rate,
        duration_secs,
        frames_estimate: counted.or(by_rate),
        bit_rate: u64::try_from(parameters.bit_rate).ok().filter(|rate| *rate > 0).or(container_bit_rate(container)),
        not_delivered: not_delivered(container, stream, &codec),
        metadata: metadata(container, stream),
        side_streams,
    })
}

fn field_order(order: ffi::AVFieldOrder) -> FieldOrder {
    match order {
        ffi::AVFieldOrder::TT | ffi::AVFieldOrder::TB => FieldOrder::TopFirst,
        ffi::AVFieldOrder::BB | ffi::AVFieldOrder::BT => FieldOrder::BottomFirst,
        _ => FieldOrder::Progressive,
    }
}

/// Notices about what is not delivered: further video tracks, and transparency that FFmpeg's own decoders drop.
fn not_delivered(container: &Container, stream: &ffi::AVStream, codec: &str) -> Vec<String> {
    let is_video = |other: &&ffi::AVStream| {
        // SAFETY: every stream has parameters.
        let kind = unsafe { (*other.codecpar).codec_type };
        kind == ffi::AVMediaType::VIDEO && other.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC == 0
    };
    let videos: Vec<&ffi::AVStream> = container.streams().filter(is_video).collect();
    let own = videos.iter().position(|other| other.index == stream.index).unwrap_or(0);
    let mut lines = Vec::new();
    if videos.len() > 1 {
        let other = if own == 0 { 1 } else { 0 };
        let count = videos.len();
        lines.push(format!("{count} video tracks: track {own} is read; track={other} reads another (tracks are numbered from 0)"));
    }
    // SAFETY: the stream's tags are a dictionary or null.
    let tags = unsafe { av::entries(stream.metadata) };
    let has_alpha = tags.iter().any(|(key, value)| key.eq_ignore_ascii_case("alpha_mode") && value.trim() == "1");
    if has_alpha && matches!(codec, "vp8" | "vp9") {
        lines.push(format!("the transparency of {codec} is not decoded: frames are opaque"));
    }
    lines
}

/// Frame rate from the header's frame count and duration.
fn counted_rate(stream: &ffi::AVStream) -> Option<Rational> {
    let ticks = av::timestamp(stream.duration).filter(|ticks| *ticks > 0)?;
    let base = av::positive(stream.time_base)?;
    let (num, den) = (stream.nb_frames.checked_mul(base.den)?, ticks.checked_mul(base.num)?);
    av::positive(av::rational(Rational::new(num, den)?))
}

fn container_bit_rate(container: &Container) -> Option<u64> {
    u64::try_from(container.get().bit_rate).ok().filter(|rate| *rate > 0)
}

/// Duration of a stream, or of its container.
pub(crate) fn duration_secs(container: &Container, stream: &ffi::AVStream) -> Option<f64> {
    let own = av::timestamp(stream.duration).filter(|ticks| *ticks > 0).map(|ticks| av::time_base(stream.time_base).seconds(ticks));
    own.or_else(|| av::timestamp(container.get().duration).filter(|micros| *micros > 0).map(|micros| micros as f64 / 1e6))
}

/// Duration of the selected part in seconds.
fn selected_secs(options: &InputOptions, duration: Option<f64>) -> Option<f64> {
    let start = options.start_secs.unwrap_or(0.0);
    let ends = [duration, options.end_secs, options.duration_secs.map(|secs| start + secs)];
    let end = ends.into_iter().flatten().reduce(f64::min)?;
    Some((end - start).max(0.0))
}

/// The container's tags, then those of the stream's tags that the container does not have.
fn metadata(container: &Container, stream: &ffi::AVStream) -> Vec<(String, String)> {
    // SAFETY: dictionaries of live objects, or null.
    let (mut tags, own) = unsafe { (av::entries(container.get().metadata), av::entries(stream.metadata)) };
    for (key, value) in own {
        if !tags.iter().any(|(known, _)| *known == key) {
            tags.push((key, value));
        }
    }
    tags
}

/// The kind of a stream that can be copied beside a video; `None` for others.
pub(crate) fn side_kind(stream: &ffi::AVStream) -> Option<MediaKind> {
    if stream.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0 {
        return Some(MediaKind::Attachment);
    }
    // SAFETY: every stream has parameters.
    match unsafe { (*stream.codecpar).codec_type } {
        ffi::AVMediaType::AUDIO => Some(MediaKind::Audio),
        ffi::AVMediaType::SUBTITLE => Some(MediaKind::Subtitle),
        ffi::AVMediaType::DATA => Some(MediaKind::Data),
        ffi::AVMediaType::ATTACHMENT => Some(MediaKind::Attachment),
        _ => None,
    }
}

/// A side stream with everything that a muxer needs.
pub(crate) fn side_stream(stream: &ffi::AVStream, kind: MediaKind) -> Result<SideStream, MediaError> {
    // SAFETY: every stream has parameters, and its tags are a dictionary or null.
    let (parameters, metadata) = unsafe { (Parameters::copy_of(stream.codecpar)?, av::entries(stream.metadata)) };
    Ok(SideStream {
        kind,
        codec: parameters.codec_name(),
        time_base: av::time_base(stream.time_base),
        parameters: Arc::new(SideParameters::Stream { parameters, metadata, disposition: stream.disposition }),
    })
}

/// The container's chapters.
pub(crate) fn chapters(container: &Container) -> Vec<Chapter> {
    let context = container.get();
    (0..context.nb_chapters as usize)
        .map(|index| {
            // SAFETY: the context holds nb_chapters valid pointers with tags or null.
            let (chapter, metadata) = unsafe {
                let chapter = &**context.chapters.add(index);
                (chapter, av::entries(chapter.metadata))
            };
            let base = av::time_base(chapter.time_base);
            let micros = |ticks| base.rescale(ticks, framerail_core::TimeBase::MICROS);
            Chapter { start_micros: micros(chapter.start), end_micros: micros(chapter.end), metadata }
        })
        .collect()
}

/// A listing such as "1 audio stream (aac), 2 subtitle streams (subrip, subrip)".
pub(crate) fn listing(container: &Container) -> String {
    let mut kinds: Vec<(&str, Vec<String>)> = Vec::new();
    for stream in container.streams() {
        let kind = match side_kind(stream) {
            Some(MediaKind::Audio) => "audio",
            Some(MediaKind::Video) => "video",
            Some(MediaKind::Subtitle) => "subtitle",
            Some(MediaKind::Attachment) => "attached",
            Some(MediaKind::Data) => "data",
            // SAFETY: every stream has parameters.
            None if unsafe { (*stream.codecpar).codec_type } == ffi::AVMediaType::VIDEO => "video",
            None => "unknown",
        };
        // SAFETY: every stream has parameters; names are static.
        let codec = unsafe { av::string(ffi::avcodec_get_name((*stream.codecpar).codec_id)) };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, codecs)) => codecs.push(codec),
            None => kinds.push((kind, vec![codec])),
        }
    }
    if kinds.is_empty() {
        return "no streams at all".into();
    }
    let text = |(kind, codecs): &(&str, Vec<String>)| {
        let plural = if codecs.len() == 1 { "" } else { "s" };
        format!("{} {kind} stream{plural} ({})", codecs.len(), codecs.join(", "))
    };
    kinds.iter().map(text).collect::<Vec<_>>().join(", ")
}

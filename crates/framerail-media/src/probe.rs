//! Reports the properties of a media file.

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, Rational, SourceUrl};
use serde::Serialize;

use crate::{
    Chapter, Damage, InputOptions, KeyframeIndex, MediaError, av, container::Container, describe, format, images::ImageList,
    interrupt::Interrupt,
};

/// A container and its streams.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProbeReport {
    /// The source as given.
    pub source: SourceUrl,
    /// FFmpeg's container name.
    pub container: String,
    /// Duration in seconds.
    pub duration_secs: Option<f64>,
    /// First timestamp of any stream in seconds.
    pub start_secs: Option<f64>,
    /// Total bits per second.
    pub bit_rate: Option<u64>,
    /// File size in bytes.
    pub size_bytes: Option<u64>,
    /// Tags of the container.
    pub metadata: Vec<(String, String)>,
    /// Its streams in order.
    pub streams: Vec<StreamReport>,
    /// Its chapters.
    pub chapters: Vec<Chapter>,
    /// Exact counts for the selected video stream, if requested.
    pub scan: Option<ScanReport>,
}

/// A stream.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StreamReport {
    /// Index in the container.
    pub index: usize,
    /// `video`, `audio`, `subtitle`, `data` or `attachment`.
    pub kind: String,
    /// FFmpeg's codec name.
    pub codec: String,
    /// Profile, such as `High`.
    pub profile: Option<String>,
    /// Whether this FFmpeg can decode it.
    pub is_decodable: bool,
    /// Seconds per tick.
    pub time_base: Rational,
    /// Duration in seconds.
    pub duration_secs: Option<f64>,
    /// Bits per second.
    pub bit_rate: Option<u64>,
    /// Number of frames or packets according to the header.
    pub frames_by_header: Option<u64>,
    /// Tags.
    pub metadata: Vec<(String, String)>,
    /// Properties of video streams.
    pub video: Option<VideoReport>,
    /// Properties of audio streams.
    pub audio: Option<AudioReport>,
}

/// Properties of a video stream.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct VideoReport {
    /// Width as coded, in pixels.
    pub width: u32,
    /// Height as coded, in pixels.
    pub height: u32,
    /// FFmpeg's pixel format name.
    pub pixel_format: String,
    /// Average frames per second.
    pub average_frame_rate: Option<Rational>,
    /// The lowest frame rate that represents all timestamps exactly (FFmpeg's estimate).
    pub real_frame_rate: Option<Rational>,
    /// Colour tags.
    pub color: ColorDescription,
    /// Clockwise rotation for display, in degrees; applied after mirroring.
    pub rotation_degrees: u32,
    /// Whether the video is mirrored horizontally for display.
    pub is_mirrored: bool,
    /// Pixel aspect ratio; `None` when square or unknown.
    pub sample_aspect_ratio: Option<Rational>,
    /// `progressive`, `tt`, `bb`, `tb`, `bt` or `unknown`.
    pub field_order: String,
    /// Whether it is a cover image rather than a video.
    pub is_attached_picture: bool,
}

/// Properties of an audio stream.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AudioReport {
    /// Samples per second.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u32,
}

/// Results of a scan over all packets of the video stream.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ScanReport {
    /// Number of packets.
    pub packets: u64,
    /// Number of packets at which decoding can start.
    pub keyframes: u64,
    /// Shortest distance between keyframes, in packets.
    pub gop_shortest: u64,
    /// Longest distance between keyframes, in packets.
    pub gop_longest: u64,
    /// First PTS in ticks.
    pub first_pts: Option<i64>,
    /// Last PTS in ticks.
    pub last_pts: Option<i64>,
    /// Whether the steps between PTS vary by more than rounding to ticks explains.
    pub is_variable_rate: bool,
    /// Damage found by the scan.
    pub damage: Damage,
}

/// Reads a source's headers; with `count`, also all packets of the selected video stream. The source may have no video.
///
/// # Errors
/// `NotFound`, `NotMedia`, `Damaged`, `Unsupported`, `BadOption`, `Cancelled`, `Timeout`, `Io`.
pub fn probe(options: &InputOptions, count: bool) -> Result<ProbeReport, MediaError> {
    let options = &options.resolved()?;
    let interrupt = Interrupt::new(options.cancel.clone(), options.read_timeout);
    let images = ImageList::of_options(options)?;
    // For a list of images, the first one is reported.
    let first = images.as_ref().and_then(|list| list.paths.first()).map(|path| path.to_string_lossy().into_owned());
    let mut container = Container::open(first.as_deref().unwrap_or(options.source.reveal()), options, &interrupt)?;
    container.find_stream_info()?;
    let context = container.get();
    let has_video = container.streams().any(|stream| kind(stream) == ffi::AVMediaType::VIDEO && !is_image(stream));
    // SAFETY: the container's tags or null.
    let metadata = unsafe { av::entries(context.metadata) };
    Ok(ProbeReport {
        source: options.source.clone(),
        container: container.format_name(),
        duration_secs: positive_micros(context.duration),
        start_secs: av::timestamp(context.start_time).map(|micros| micros as f64 / 1e6),
        bit_rate: positive(context.bit_rate),
        size_bytes: size_bytes(options),
        metadata,
        streams: container.streams().map(stream_report).collect(),
        chapters: describe::chapters(&container),
        scan: if count && has_video { Some(scan(options)?) } else { None },
    })
}

fn size_bytes(options: &InputOptions) -> Option<u64> {
    match &options.custom {
        Some(custom) => custom.size_bytes(),
        None if options.source.is_url() => None,
        None => std::fs::metadata(options.source.reveal()).ok().map(|file| file.len()),
    }
}

fn kind(stream: &ffi::AVStream) -> ffi::AVMediaType {
    // SAFETY: every stream has parameters.
    unsafe { (*stream.codecpar).codec_type }
}

fn is_image(stream: &ffi::AVStream) -> bool {
    stream.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0
}

fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

fn positive_micros(micros: i64) -> Option<f64> {
    av::timestamp(micros).filter(|micros| *micros > 0).map(|micros| micros as f64 / 1e6)
}

fn stream_report(stream: &ffi::AVStream) -> StreamReport {
    // SAFETY: every stream has parameters; names are static and tags a dictionary or null.
    let (parameters, kind_name, codec, profile, is_decodable, metadata) = unsafe {
        let parameters = &*stream.codecpar;
        (
            parameters,
            av::string(ffi::av_get_media_type_string(parameters.codec_type)),
            av::string(ffi::avcodec_get_name(parameters.codec_id)),
            av::string(ffi::avcodec_profile_name(parameters.codec_id, parameters.profile)),
            !ffi::avcodec_find_decoder(parameters.codec_id).is_null(),
            av::entries(stream.metadata),
        )
    };
    let base = av::time_base(stream.time_base);
    let audio = || AudioReport {
        sample_rate: u32::try_from(parameters.sample_rate).unwrap_or(0),
        channels: u32::try_from(parameters.ch_layout.nb_channels).unwrap_or(0),
    };
    StreamReport {
        index: stream.index as usize,
        kind: if kind_name.is_empty() { "unknown".into() } else { kind_name },
        codec,
        profile: (!profile.is_empty()).then_some(profile),
        is_decodable,
        time_base: base.ratio(),
        duration_secs: av::timestamp(stream.duration).filter(|ticks| *ticks > 0).map(|ticks| base.seconds(ticks)),
        bit_rate: positive(parameters.bit_rate),
        frames_by_header: positive(stream.nb_frames),
        metadata,
        video: (kind(stream) == ffi::AVMediaType::VIDEO).then(|| video_report(stream, parameters)),
        audio: (kind(stream) == ffi::AVMediaType::AUDIO).then(audio),
    }
}

fn video_report(stream: &ffi::AVStream, parameters: &ffi::AVCodecParameters) -> VideoReport {
    VideoReport {
        width: u32::try_from(parameters.width).unwrap_or(0),
        height: u32::try_from(parameters.height).unwrap_or(0),
        pixel_format: format::name(parameters.format),
        average_frame_rate: av::positive(stream.avg_frame_rate),
        real_frame_rate: av::positive(stream.r_frame_rate),
        color: describe::stream_color(parameters),
        rotation_degrees: describe::rotation(stream).degrees(),
        is_mirrored: describe::rotation(stream).is_mirrored(),
        sample_aspect_ratio: describe::aspect_ratio(stream),
        field_order: match parameters.field_order {
            ffi::AVFieldOrder::PROGRESSIVE => "progressive",
            ffi::AVFieldOrder::TT => "tt",
            ffi::AVFieldOrder::BB => "bb",
            ffi::AVFieldOrder::TB => "tb",
            ffi::AVFieldOrder::BT => "bt",
            _ => "unknown",
        }
        .into(),
        is_attached_picture: is_image(stream),
    }
}

fn scan(options: &InputOptions) -> Result<ScanReport, MediaError> {
    let index = KeyframeIndex::scan(options)?;
    let gops = index.gop_lengths();
    let pts = index.sorted_pts();
    let steps = || pts.windows(2).map(|pair| pair[1] - pair[0]);
    let spread = steps().max().unwrap_or(0) - steps().min().unwrap_or(0);
    Ok(ScanReport {
        packets: index.packets.len() as u64,
        keyframes: gops.len() as u64,
        gop_shortest: gops.iter().min().map_or(0, |length| *length as u64),
        gop_longest: gops.iter().max().map_or(0, |length| *length as u64),
        first_pts: pts.first().copied(),
        last_pts: pts.last().copied(),
        // A constant rate rounded to ticks steps by n and n + 1.
        is_variable_rate: spread > 1,
        damage: index.damage,
    })
}

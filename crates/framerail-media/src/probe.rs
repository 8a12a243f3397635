//! What a file says of itself.

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
    /// Length in seconds.
    pub duration_secs: Option<f64>,
    /// First timestamp of any stream in seconds.
    pub start_secs: Option<f64>,
    /// Bits per second of everything together.
    pub bit_rate: Option<u64>,
    /// Bytes of the file.
    pub size_bytes: Option<u64>,
    /// Tags of the container.
    pub metadata: Vec<(String, String)>,
    /// Its streams in their order.
    pub streams: Vec<StreamReport>,
    /// Its chapters.
    pub chapters: Vec<Chapter>,
    /// Exact counts of the selected video stream, when asked for.
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
    /// Length in seconds.
    pub duration_secs: Option<f64>,
    /// Bits per second.
    pub bit_rate: Option<u64>,
    /// Frames or packets as the header counts them.
    pub frames_by_header: Option<u64>,
    /// Tags.
    pub metadata: Vec<(String, String)>,
    /// What only pictures have.
    pub video: Option<VideoReport>,
    /// What only sound has.
    pub audio: Option<AudioReport>,
}

/// A video stream's own properties.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct VideoReport {
    /// Width as coded, in pixels.
    pub width: u32,
    /// Height as coded, in pixels.
    pub height: u32,
    /// FFmpeg's pixel format name.
    pub pixel_format: String,
    /// Frames per second on average.
    pub average_frame_rate: Option<Rational>,
    /// The lowest rate at which every timestamp fits (FFmpeg's guess).
    pub real_frame_rate: Option<Rational>,
    /// Colour tags.
    pub color: ColorDescription,
    /// Clockwise turn for display, in degrees; after mirroring, where that is asked for.
    pub rotation_degrees: u32,
    /// Whether left and right change places for display.
    pub is_mirrored: bool,
    /// Shape of a pixel; `None` when square or unknown.
    pub sample_aspect_ratio: Option<Rational>,
    /// `progressive`, `tt`, `bb`, `tb`, `bt` or `unknown`.
    pub field_order: String,
    /// A cover picture rather than a video.
    pub is_attached_picture: bool,
}

/// A sound stream's own properties.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AudioReport {
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
}

/// What a scan over all packets of the video stream found.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ScanReport {
    /// Packets.
    pub packets: u64,
    /// Packets at which decoding can start.
    pub keyframes: u64,
    /// Shortest distance between keyframes, in packets.
    pub gop_shortest: u64,
    /// Longest distance between keyframes, in packets.
    pub gop_longest: u64,
    /// First presentation time in ticks.
    pub first_pts: Option<i64>,
    /// Last presentation time in ticks.
    pub last_pts: Option<i64>,
    /// Whether the steps between presentation times differ by more than rounding to ticks explains.
    pub is_variable_rate: bool,
    /// What was not as it should be.
    pub damage: Damage,
}

/// Reads a source's headers; with `count`, all packets of the selected video stream too. A source without video is fine.
///
/// # Errors
/// `NotFound`, `NotMedia`, `Damaged`, `Unsupported`, `BadOption`, `Cancelled`, `Timeout`, `Io`.
pub fn probe(options: &InputOptions, count: bool) -> Result<ProbeReport, MediaError> {
    let options = &options.resolved()?;
    let interrupt = Interrupt::new(options.cancel.clone(), options.read_timeout);
    let images = ImageList::of_options(options)?;
    // Of several pictures, the first speaks for all.
    let first = images.as_ref().and_then(|list| list.paths.first()).map(|path| path.to_string_lossy().into_owned());
    let mut container = Container::open(first.as_deref().unwrap_or(options.source.reveal()), options, &interrupt)?;
    container.find_stream_info()?;
    let context = container.get();
    let has_video = container.streams().any(|stream| kind(stream) == ffi::AVMediaType::VIDEO && !is_picture(stream));
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

fn is_picture(stream: &ffi::AVStream) -> bool {
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
        is_attached_picture: is_picture(stream),
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

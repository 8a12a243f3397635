//! Options of reading and writing.

use std::time::Duration;

use framerail_core::{CancelToken, PixelFormat, Rational, RunFiles, SourceUrl, StreamId, surface::MAX_SIDE};

use crate::{Allowance, CustomSource, FetchCounts, MediaError, still::Moving};

/// What to do with a stream's rotation tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RotationPolicy {
    /// Rotate frames upright (one copy per frame, only if the stream is rotated).
    #[default]
    Auto,
    /// Leave frames as coded and report the rotation in `Frame::rotation`.
    Keep,
}

/// Which side streams are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SideStreams {
    /// None.
    None,
    /// Audio, subtitles, attachments and chapters.
    #[default]
    AudioAndSubtitles,
}

/// How much of a source is read to probe it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeEffort {
    /// Packets until everything is known, decoding some of them: 10 to 40 ms for HD video.
    #[default]
    Full,
    /// The container's header, if it states codec, size and global headers (MP4, MOV, Matroska, WebM); else as `Full`.
    /// Colour tags, pixel format and rate may then be unspecified in `StreamInfo`; the first frame has them.
    /// With a selection in seconds, probing is always full, since the selection counts from the first timestamp.
    Header,
}

/// Maximum number of pixels that FFmpeg decodes.
const MAX_PIXELS: u64 = i32::MAX as u64 / 8;
/// See [`InputOptions::picture_bytes`].
const DEFAULT_PICTURE_BYTES: u64 = 2 << 30;

/// Options of reading.
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// A path, a URL, `-` for standard input, a folder of images, `img%04d.png`, or a glob pattern of images.
    pub source: SourceUrl,
    /// Source to read instead of `source`, which is then only used in messages.
    pub custom: Option<CustomSource>,
    /// Number of the stream in frames and packets.
    pub stream: StreamId,
    /// Short name for files and records; the source's file stem when `None`.
    pub name: Option<String>,
    /// Number of the video stream among the file's video streams, from 0; FFmpeg's default when `None`.
    pub video_stream: Option<usize>,
    /// Start of the selection, in seconds from the container's start; exact.
    pub start_secs: Option<f64>,
    /// End of the selection (exclusive), in seconds from the container's start.
    pub end_secs: Option<f64>,
    /// Length of the selection in seconds from `start_secs`; ends at the earlier of this and `end_secs`.
    pub duration_secs: Option<f64>,
    /// Decoder threads; 0 lets FFmpeg choose.
    pub threads: usize,
    /// What to do with a rotation tag.
    pub rotation: RotationPolicy,
    /// Side streams to deliver.
    pub side_streams: SideStreams,
    /// Whether the video's own packets are also delivered, as an additional side stream.
    pub video_packets: bool,
    /// FFmpeg's container name, for sources that cannot be detected, such as `rawvideo` or `mpegts`.
    pub format: Option<String>,
    /// Frames per second of an image sequence (25 when `None`) or of a raw stream.
    pub frame_rate: Option<Rational>,
    /// What a playlist may open outside its folder or server.
    pub allow: Allowance,
    /// Whether to accept servers' certificates without verification.
    pub insecure: bool,
    /// Further options for FFmpeg's demuxer and protocol, such as `("rtsp_transport", "tcp")`.
    pub format_options: Vec<(String, String)>,
    /// How much is read to probe the source.
    pub probe: ProbeEffort,
    /// Whether to drop (and count) video before the first keyframe, instead of decoding it to nothing or garbage: for live
    /// sources, where reading starts in the middle of a GOP.
    pub waits_for_keyframe: bool,
    /// Memory limit in bytes for decoded frames within a reader: reference frames, and frames being decoded by threads. The
    /// number of threads is reduced to fit; frames that still do not fit are refused with `TooLarge`. Default: 2 GiB.
    pub image_bytes: u64,
    /// Maximum time without data from the source; no limit when `None`.
    pub read_timeout: Option<Duration>,
    /// Ends blocking reads.
    pub cancel: CancelToken,
    /// Counts what is requested from web servers and object storage.
    pub fetched: FetchCounts,
}

impl InputOptions {
    /// Default options for a source.
    pub fn new(source: impl Into<SourceUrl>) -> Self {
        Self {
            source: source.into(),
            custom: None,
            stream: StreamId(0),
            name: None,
            video_stream: None,
            start_secs: None,
            end_secs: None,
            duration_secs: None,
            threads: 0,
            rotation: RotationPolicy::Auto,
            side_streams: SideStreams::AudioAndSubtitles,
            video_packets: false,
            format: None,
            frame_rate: None,
            allow: Allowance::default(),
            insecure: false,
            format_options: Vec::new(),
            probe: ProbeEffort::Full,
            waits_for_keyframe: false,
            image_bytes: DEFAULT_PICTURE_BYTES,
            read_timeout: None,
            cancel: CancelToken::default(),
            fetched: FetchCounts::default(),
        }
    }

    /// The kind of moving image, if the source's first bytes show one that FFmpeg would not detect as such.
    pub(crate) fn moving(&self, interrupt: &std::sync::Arc<crate::interrupt::Interrupt>) -> Option<Moving> {
        if self.format.is_some() {
            return None;
        }
        let Some(custom) = &self.custom else {
            let path = std::path::Path::new(self.source.reveal());
            return if path.is_file() { Moving::of_file(path) } else { None };
        };
        // It is not worth waiting for the first bytes, or reading ahead of a pipe.
        if custom.factory().may_wait() {
            return None;
        }
        let mut reader = crate::guarded_reader::GuardedReader::open(custom, std::sync::Arc::clone(interrupt))
            .ok()
            .filter(|reader| reader.is_seekable())?;
        let mut bytes = [0; 4096];
        let count = std::io::Read::read(&mut reader, &mut bytes).ok()?;
        Moving::of(bytes.get(..count)?)
    }

    /// Refuses frames if `at_once` of them, with `pixel_bytes` per pixel, exceed `image_bytes`, or if FFmpeg does not decode
    /// their size.
    ///
    /// # Errors
    /// `TooLarge` with the limit.
    pub(crate) fn check_image(&self, width: u32, height: u32, pixel_bytes: u64, at_once: u64) -> Result<(), MediaError> {
        let refuse = |limit: String| Err(MediaError::TooLarge { source_name: self.source.to_string(), width, height, limit });
        if width > MAX_SIDE || height > MAX_SIDE {
            return refuse(format!("the limit is {MAX_SIDE} pixels per side"));
        }
        // FFmpeg counts pixels including a border.
        if (u64::from(width) + 128) * (u64::from(height) + 128) >= MAX_PIXELS {
            return refuse(format!("FFmpeg decodes up to {} million pixels", MAX_PIXELS / 1_000_000));
        }
        let needed = u64::from(width) * u64::from(height) * pixel_bytes * at_once;
        if needed > self.image_bytes {
            let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
            let (needed, allowed) = (megabytes(needed), megabytes(self.image_bytes));
            return refuse(format!("decoding takes {needed} MB, and the limit is {allowed} MB (`memory` of `read` raises it)"));
        }
        Ok(())
    }

    /// Options for a custom source, with defaults for everything else.
    pub fn of_custom(source: CustomSource) -> Self {
        Self { custom: Some(source.clone()), ..Self::new(source.name()) }
    }

    /// Decides how the source is read: an http or https URL becomes a [`CustomSource`], which takes FFmpeg's options
    /// `headers`, `user_agent` and `ca_file`, and so does an address in object storage. Opening an input does this too; calling it
    /// first lets several inputs share the downloaded data.
    ///
    /// # Errors
    /// `BadOption` for invalid values of these options; `Unsupported` or `Io` for object storage that cannot be used.
    pub fn resolved(&self) -> Result<Self, MediaError> {
        let mut options = self.clone();
        if options.custom.is_none() && options.source.is_web() {
            let source = crate::HttpSource::from_options(&mut options)?;
            options.custom = Some(CustomSource::new(source));
        } else if options.custom.is_none() && options.source.is_object() {
            options.custom = Some(crate::object::source(&options)?);
        }
        Ok(options)
    }
}

/// Quality or size of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Quality {
    /// The encoder's default; for encoders that default to a bit rate, a fixed quantiser of good quality.
    #[default]
    EncoderDefault,
    /// Constant rate factor; its range is the encoder's (libx264: 0 to 51, lower is better).
    Crf(f64),
    /// Average bits per second.
    BitRate(u64),
}

/// Which segments an HLS playlist lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistKind {
    /// All segments so far; the playlist grows until the end.
    Event,
    /// All segments; the playlist appears when all of them are complete.
    Vod,
    /// The latest segments. Older ones are deleted one playlist length later, so that players with the previous playlist can still
    /// fetch its segments.
    Live {
        /// Number of segments in the playlist.
        segments: u32,
    },
}

/// The container of HLS segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentFormat {
    /// MPEG-TS, `.ts`: supported by every player.
    #[default]
    MpegTs,
    /// Fragmented MP4, `.m4s` with one separate header: less overhead, and codecs that MPEG-TS does not support.
    FragmentedMp4,
}

/// How an HLS playlist is written. Segments are stored beside it: `NAME-00000.ts`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsOptions {
    /// Segment duration; each segment begins with the first keyframe after it.
    pub segment: Duration,
    /// Which segments the playlist lists.
    pub playlist: PlaylistKind,
    /// Container of the segments.
    pub format: SegmentFormat,
    /// Whether the playlist states the time of day of its segments: for live video.
    pub has_wall_clock: bool,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self { segment: Duration::from_secs(2), playlist: PlaylistKind::Event, format: SegmentFormat::MpegTs, has_wall_clock: false }
    }
}

/// How the audio is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudioMode {
    /// Copy if the container supports the codec, else encode with the container's default codec.
    #[default]
    Auto,
    /// Copy if the container supports the codec, else drop the audio.
    Copy,
    /// Encode with the container's default codec.
    Encode,
}

/// What replaces covered audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoiceCover {
    /// Silence.
    Mute,
    /// A tone of 1 kHz.
    Beep,
}

/// Spans in which audio is covered. The audio is re-encoded for this.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// What replaces the audio.
    pub cover: VoiceCover,
    /// Start and end in seconds from the start of what is read; everything when empty.
    pub spans_secs: Vec<(f64, f64)>,
}

/// Options of writing.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// FFmpeg's container name; chosen by the file name when `None`.
    pub format: Option<String>,
    /// FFmpeg's encoder name, such as `libx264`, or a codec's, such as `h264`; the container's default when `None`.
    pub codec: Option<String>,
    /// Quality or size.
    pub quality: Quality,
    /// The encoder's preset, such as `veryfast`.
    pub preset: Option<String>,
    /// Maximum number of frames between keyframes; the encoder's default when `None`.
    pub gop: Option<u32>,
    /// Interval of forced keyframes, from the first frame on; the encoder decides when `None`.
    pub keyframe_every: Option<Duration>,
    /// Whether encoders return each frame immediately, with a fast preset: for live outputs.
    pub low_latency: bool,
    /// How to write a playlist, if the file name is one (`.m3u8`).
    pub hls: HlsOptions,
    /// Encoder threads; 0 lets the encoder choose.
    pub threads: usize,
    /// Pixel format to encode; the input's, or the nearest that the encoder supports, when `None`.
    pub pixel_format: Option<PixelFormat>,
    /// How the audio is written.
    pub audio: AudioMode,
    /// Spans in which audio is covered.
    pub voice: Option<Voice>,
    /// Additional encoder options by FFmpeg's names, such as `("tune", "film")`.
    pub encoder_options: Vec<(String, String)>,
    /// Additional container options by FFmpeg's names.
    pub format_options: Vec<(String, String)>,
    /// Tags that override the input's; an empty value removes a tag.
    pub metadata: Vec<(String, String)>,
    /// Whether tags and chapters of the input are kept.
    pub keep_metadata: bool,
    /// Whether to remove location tags even if other tags are kept.
    pub strip_location: bool,
    /// Whether timestamps stay on the source's clock. By default video and side streams are shifted by the same amount, so that the
    /// first of them starts at zero.
    pub keep_start: bool,
    /// Whether to write a regular file so that the data on the disk is playable at any moment, even if the program is
    /// killed: MP4 and MOV are written in fragments of a second, and converted to a regular file at the end.
    pub crash_safe: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// The files of the run. Its inputs are never overwritten, even with `overwrite`.
    pub files: RunFiles,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            format: None,
            codec: None,
            quality: Quality::EncoderDefault,
            preset: None,
            gop: None,
            keyframe_every: None,
            low_latency: false,
            hls: HlsOptions::default(),
            threads: 0,
            pixel_format: None,
            audio: AudioMode::default(),
            voice: None,
            encoder_options: Vec::new(),
            format_options: Vec::new(),
            metadata: Vec::new(),
            keep_metadata: true,
            strip_location: false,
            keep_start: false,
            crash_safe: false,
            overwrite: false,
            files: RunFiles::default(),
        }
    }
}

//! What can be asked of reading and writing.

use std::time::Duration;

use framerail_core::{CancelToken, PixelFormat, Rational, RunFiles, SourceUrl, StreamId, surface::MAX_SIDE};

use crate::{Allowance, CustomSource, MediaError, still::Moving};

/// What to do with a stream's rotation tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RotationPolicy {
    /// Turn frames upright (a copy per frame, and only when the stream is rotated).
    #[default]
    Auto,
    /// Leave frames as coded and say so in `Frame::rotation`.
    Keep,
}

/// Which streams are delivered beside the video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SideStreams {
    /// None.
    None,
    /// Sound, subtitles, attachments and chapters.
    #[default]
    AudioAndSubtitles,
}

/// How much of a source is read to learn what is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProbeEffort {
    /// Packets until everything is known, some of them decoded: 10 to 40 ms for video in HD.
    #[default]
    Full,
    /// The container's header, where that states codec, size and global headers (MP4, MOV, Matroska, WebM); everything
    /// otherwise. Colour tags, pixel format and rate may then be unspecified in `StreamInfo`: the first frame knows them.
    /// With a selection in seconds everything is read too, since it counts from the first timestamp.
    Header,
}

/// Pixels that FFmpeg decodes at most.
const MAX_PIXELS: u64 = i32::MAX as u64 / 8;
/// See [`InputOptions::picture_bytes`].
const DEFAULT_PICTURE_BYTES: u64 = 2 << 30;

/// What to read and how.
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// A path, a URL, `-` for standard input, a folder of images, `img%04d.png`, or a glob pattern of images.
    pub source: SourceUrl,
    /// Read instead of what `source` names, which then only stands in messages.
    pub custom: Option<CustomSource>,
    /// Number given to the stream in frames and packets.
    pub stream: StreamId,
    /// Short name for files and records; the source's file stem when `None`.
    pub name: Option<String>,
    /// Which of the file's video streams, from 0; FFmpeg's choice when `None`.
    pub video_stream: Option<usize>,
    /// First instant to deliver, in seconds from the container's start; exact.
    pub start_secs: Option<f64>,
    /// First instant not to deliver, in seconds from the container's start.
    pub end_secs: Option<f64>,
    /// Seconds to deliver from `start_secs`; the earlier of this and `end_secs` counts.
    pub duration_secs: Option<f64>,
    /// Decoder threads; 0 lets FFmpeg choose.
    pub threads: usize,
    /// What to do with a rotation tag.
    pub rotation: RotationPolicy,
    /// Streams delivered beside the video.
    pub side_streams: SideStreams,
    /// Whether the video's own packets are delivered too, as one more side stream.
    pub video_packets: bool,
    /// FFmpeg's container name, for sources that do not tell by themselves, such as `rawvideo` or `mpegts`.
    pub format: Option<String>,
    /// Frames per second of an image sequence (25 when `None`) or of a raw stream.
    pub frame_rate: Option<Rational>,
    /// What a playlist may open beyond its folder or server.
    pub allow: Allowance,
    /// Whether servers' certificates are taken unchecked.
    pub insecure: bool,
    /// Further options for FFmpeg's demuxer and protocol, such as `("rtsp_transport", "tcp")`.
    pub format_options: Vec<(String, String)>,
    /// How much is read to learn what is in the source.
    pub probe: ProbeEffort,
    /// Whether video before the first keyframe is left out, counted, instead of being decoded into nothing or garbage: for
    /// live sources, which one joins in the middle of a GOP.
    pub waits_for_keyframe: bool,
    /// Memory in bytes that decoded pictures may take within a reader: what its decoder refers to, and what its threads work
    /// on. Threads are reduced to fit; pictures that do not fit even so are refused with `TooLarge`. 2 GiB by default.
    pub picture_bytes: u64,
    /// Longest wait for the source to give something; no limit when `None`.
    pub read_timeout: Option<Duration>,
    /// Ends blocking reads.
    pub cancel: CancelToken,
}

impl InputOptions {
    /// Everything by default.
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
            picture_bytes: DEFAULT_PICTURE_BYTES,
            read_timeout: None,
            cancel: CancelToken::default(),
        }
    }

    /// What the source is where its first bytes tell that it moves and FFmpeg would not see it.
    pub(crate) fn moving(&self, interrupt: &std::sync::Arc<crate::interrupt::Interrupt>) -> Option<Moving> {
        if self.format.is_some() {
            return None;
        }
        let Some(custom) = &self.custom else {
            let path = std::path::Path::new(self.source.reveal());
            return if path.is_file() { Moving::of_file(path) } else { None };
        };
        // Waiting for the first bytes, or reading ahead of a pipe, is not worth it.
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

    /// Refuses pictures of which so many, with so many bytes a pixel, do not fit into `picture_bytes`, or that are beyond
    /// what FFmpeg decodes.
    ///
    /// # Errors
    /// `TooLarge` with the limit.
    pub(crate) fn check_picture(&self, width: u32, height: u32, pixel_bytes: u64, at_once: u64) -> Result<(), MediaError> {
        let refuse = |limit: String| Err(MediaError::TooLarge { source_name: self.source.to_string(), width, height, limit });
        if width > MAX_SIDE || height > MAX_SIDE {
            return refuse(format!("the limit is {MAX_SIDE} pixels per side"));
        }
        // As FFmpeg counts: with a border, and in bits.
        if (u64::from(width) + 128) * (u64::from(height) + 128) >= MAX_PIXELS {
            return refuse(format!("FFmpeg decodes up to {} million pixels", MAX_PIXELS / 1_000_000));
        }
        let needed = u64::from(width) * u64::from(height) * pixel_bytes * at_once;
        if needed > self.picture_bytes {
            let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
            let (needed, allowed) = (megabytes(needed), megabytes(self.picture_bytes));
            return refuse(format!("decoding takes {needed} MB, and the limit is {allowed} MB (`memory` of `read` raises it)"));
        }
        Ok(())
    }

    /// A source of the program's own, everything else by default.
    pub fn of_custom(source: CustomSource) -> Self {
        Self { custom: Some(source.clone()), ..Self::new(source.name()) }
    }

    /// Settles by what means the source is read: a URL of http or https becomes a [`CustomSource`], and FFmpeg's options
    /// `headers`, `user_agent` and `ca_file` go with it. Opening does so too; done before, several inputs of these options share
    /// what is fetched.
    ///
    /// # Errors
    /// `BadOption` for bad values of these options.
    pub fn resolved(&self) -> Result<Self, MediaError> {
        let mut options = self.clone();
        if options.custom.is_none() && options.source.is_web() {
            let source = crate::HttpSource::from_options(&mut options)?;
            options.custom = Some(CustomSource::new(source));
        }
        Ok(options)
    }
}

/// How good or how large the output is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Quality {
    /// The encoder's own default; for encoders that only know bit rates, a fixed quantiser of good quality.
    #[default]
    EncoderDefault,
    /// Constant rate factor; its range is the encoder's (libx264: 0 to 51, lower is better).
    Crf(f64),
    /// Bits per second on average.
    BitRate(u64),
}

/// Which segments an HLS playlist names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaylistKind {
    /// Every segment so far; it grows until its end.
    Event,
    /// Every segment; it appears when all are there.
    Vod,
    /// The latest so many. Older ones are deleted after the playlist has gone round once more, so that players that hold the last
    /// playlist still find what it names.
    Live {
        /// Segments in the playlist.
        segments: u32,
    },
}

/// The container of HLS segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SegmentFormat {
    /// MPEG-TS, `.ts`: every player takes it.
    #[default]
    MpegTs,
    /// Fragmented MP4, `.m4s` beside one header: less overhead, and codecs that MPEG-TS has no place for.
    FragmentedMp4,
}

/// How an HLS playlist is written. Segments lie beside it: `NAME-00000.ts`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HlsOptions {
    /// Length of a segment; each begins with the first keyframe after it.
    pub segment: Duration,
    /// Which segments the playlist names.
    pub playlist: PlaylistKind,
    /// What segments are.
    pub format: SegmentFormat,
    /// Whether the playlist says the time of day of its segments: for live video.
    pub has_wall_clock: bool,
}

impl Default for HlsOptions {
    fn default() -> Self {
        Self { segment: Duration::from_secs(2), playlist: PlaylistKind::Event, format: SegmentFormat::MpegTs, has_wall_clock: false }
    }
}

/// What becomes of audio beside the video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudioMode {
    /// Copied where the container takes the codec, else encoded as the container's usual codec.
    #[default]
    Auto,
    /// Copied where the container takes the codec, else left out.
    Copy,
    /// Encoded as the container's usual codec.
    Encode,
}

/// What is heard in place of the source's audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoiceCover {
    /// Silence.
    Mute,
    /// A tone of 1 kHz.
    Beep,
}

/// Times in which audio is not to be heard. It is encoded again then.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// What is heard instead.
    pub cover: VoiceCover,
    /// From and to, in seconds from the start of what is read; all of it when empty.
    pub spans_secs: Vec<(f64, f64)>,
}

/// What to write and how.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// FFmpeg's container name; by the file name when `None`.
    pub format: Option<String>,
    /// FFmpeg's encoder name, such as `libx264`; the usual one for the container when `None`.
    pub codec: Option<String>,
    /// Quality or size.
    pub quality: Quality,
    /// The encoder's preset, such as `veryfast`.
    pub preset: Option<String>,
    /// Most frames between keyframes; the encoder's default when `None`.
    pub gop: Option<u32>,
    /// Time from one forced keyframe to the next, from the first frame on; the encoder's own choice when `None`.
    pub keyframe_every: Option<Duration>,
    /// Whether encoders give each frame as soon as it is there, with a fast preset: for what is watched while it is made.
    pub low_latency: bool,
    /// How a playlist is written, where the name is that of one (`.m3u8`).
    pub hls: HlsOptions,
    /// Encoder threads; 0 lets the encoder choose.
    pub threads: usize,
    /// Pixel format to encode; the input's, or the nearest that the encoder takes, when `None`.
    pub pixel_format: Option<PixelFormat>,
    /// What becomes of audio beside the video.
    pub audio: AudioMode,
    /// Where audio is covered.
    pub voice: Option<Voice>,
    /// Further options for the encoder by FFmpeg's names, such as `("tune", "film")`.
    pub encoder_options: Vec<(String, String)>,
    /// Further options for the container by FFmpeg's names.
    pub format_options: Vec<(String, String)>,
    /// Tags set on top of the input's; an empty value removes a tag.
    pub metadata: Vec<(String, String)>,
    /// Whether tags and chapters of the input are kept.
    pub keep_metadata: bool,
    /// Whether tags that say where the video was recorded are left out all the same.
    pub strip_location: bool,
    /// Whether timestamps stay on the source's clock. By default video and side streams are moved by the same time, so that the
    /// first of them starts at zero.
    pub keep_start: bool,
    /// Whether a regular file is written so that what is on the disk can be played at any moment, also when the program is
    /// killed: MP4 and MOV in fragments of a second, which become an ordinary file at the end.
    pub crash_safe: bool,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// The files of the run. Those that it reads are not overwritten, whatever `overwrite` says.
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

//! The specification of `write`, and its parsed options.

use std::{path::Path, time::Duration};

use framerail_core::{PixelFormat, SourceUrl, StreamInfo};
use framerail_media::{
    AudioMode, HlsOptions, LONGEST_LINGER, PlaylistKind, PushOptions, Quality, SegmentFormat, Voice, VoiceCover, WriterOptions,
};
use framerail_pipeline::{ArgumentSpec, ConfigError, OptionKind, OptionSpec, Options, StageSpec, parse_time};

use super::push::{OnLoss, PushSettings};
use crate::stages::transform::Resize;

/// Options for playlists only.
const PLAYLIST_OPTIONS: [&str; 4] = ["segment", "playlist", "segments", "segment_format"];
/// Options for servers only.
const SERVER_OPTIONS: [&str; 8] = ["transport", "on_loss", "retries", "retry_wait", "timeout", "buffer", "when_full", "linger"];

/// Inputs longer than this are written so that a killed run leaves a playable file, in seconds.
const LONG_SECS: f64 = 60.0;

/// Default keyframe interval for servers, since new viewers wait for the next one.
const KEYFRAMES_FOR_VIEWERS: Duration = Duration::from_secs(2);

/// Kind of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file, which appears when it is complete.
    File,
    /// An HLS playlist, which exists while it is written.
    Playlist,
    /// A server.
    Server,
}

impl Kind {
    pub(super) fn of(name: &Path) -> Self {
        match name.to_str() {
            Some(url) if url.contains("://") && !url.starts_with("file://") && !SourceUrl::new(url).is_object() => Kind::Server,
            _ if Self::is_playlist(name) => Kind::Playlist,
            _ => Kind::File,
        }
    }

    /// Whether a name is that of an HLS playlist.
    pub(super) fn is_playlist(name: &Path) -> bool {
        name.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("m3u8"))
    }
}

pub(super) fn spec() -> StageSpec {
    live_options().into_iter().fold(Resize::options(own_spec()), StageSpec::option)
}

fn own_spec() -> StageSpec {
    StageSpec::sink("write", "encodes frames to a video file, an HLS playlist or a server, with audio and subtitles").other_names(["encode", "output", "mux", "export", "filesink"])
        .details(
            "The container is given by the file name. Frame count, timestamps, size, colour tags, tags and chapters are those of the \
             input; audio and subtitle packets are copied if the container supports them. The file gets its name only when it is complete. \
             With several streams, put {name} or {stream} into the file name. An image name (out.png) writes a stream of one frame.\n\nA \
             name that ends in .m3u8 is an HLS playlist with its segments beside it, playable from the first segment on. To an address \
             (rtsp, rtmp, srt, udp) the stream is pushed; lost connections are reopened. A name in object storage (s3://bucket/x.mp4, gs://, \
             az://) is written to a temporary file and uploaded when it is complete.",
        )
        .argument(ArgumentSpec::required(
            "file",
            OptionKind::Path,
            "file or object (s3://bucket/x.mp4) to write, playlist (.m3u8), or address to push to; {name} and {stream} stand for the stream's \
             name and number",
        ))
        .option(OptionSpec::text("codec").help("FFmpeg's encoder name, such as libx264, or a codec, such as h264; default: the usual one of the container"))
        .option(OptionSpec::float("crf", 0.0..=63.0).help("constant rate factor, lower is better; default: the encoder's"))
        .option(OptionSpec::integer("bitrate", 1..=1_000_000_000).unit("bits/s").help("average bit rate instead of crf"))
        .option(OptionSpec::text("preset").help("the encoder's preset, such as veryfast"))
        .option(
            OptionSpec::integer("gop", 1..=10_000)
                .unit("frames")
                .help("maximum distance of keyframes; default: the encoder's, 2 s for servers"),
        )
        .option(OptionSpec::integer("threads", 0..=256).default(0).help("encoder threads; 0 = one per CPU, the encoder's choice beyond 8"))
        .option(
            OptionSpec::text("pixel_format")
                .help("pixel format to encode, such as yuv420p; default: the input's if the encoder supports it"),
        )
        .option(OptionSpec::text("format").help("FFmpeg's container name; default: by the file name"))
        .option(OptionSpec::key_values("options").help("further encoder options by their FFmpeg names"))
        .option(OptionSpec::key_values("format_options").help("further container options by their FFmpeg names"))
        .option(OptionSpec::key_values("tags").help("tags to add or replace; an empty value removes a tag"))
        .option(
            OptionSpec::switch("keep_tags")
                .or_word("no_location", "kept, except tags with the recording location")
                .default("yes")
                .help("whether the input's tags and chapters are kept"),
        )
        .option(
            OptionSpec::switch("audio")
                .alias("sound")
                .or_word("auto", "copied if the container supports the codec, else encoded as its usual codec; yes is the same")
                .or_word("copy", "copied if the container supports the codec, else dropped")
                .or_word("encode", "encoded as the container's usual codec")
                .default("auto")
                .help("handling of audio; every track that is not copied is reported"),
        )
        .option(OptionSpec::text("voice").help(
            "cover audio: mute or beep, all of it or in time ranges from the start of what is read, such as beep@10-20,1:30-1:40; audio is \
             encoded again",
        ))
        .option(
            OptionSpec::switch("subtitles")
                .or_word("auto", "kept if audio is kept")
                .default("auto")
                .help("whether subtitles are kept: copied, or converted between text formats"),
        )
        .option(OptionSpec::switch("pictures").default("no").help("whether cover images are copied; they would show what `blur` hides"))
        .option(
            OptionSpec::switch("keep_start")
                .default("no")
                .help("keep timestamps on the source's clock; default: the file starts at zero, video and audio shifted equally"),
        )
        .option(
            OptionSpec::choice(
                "crash_safe",
                &[
                    ("auto", "for live sources, and inputs longer than a minute or of unknown length"),
                    ("yes", "always playable so far"),
                    ("no", "fastest; not playable before the end"),
                ],
            )
            .default("auto")
            .help(
                "file: keep what is written so far playable if the program is killed; MP4 and MOV are then written in fragments of a \
                 second and rewritten as an ordinary file at the end, which needs disk space for both",
            ),
        )
        .option(OptionSpec::switch("overwrite").default("no").help("whether an existing file, or playlist with segments, may be replaced"))
        .example("read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4 crf=20 preset=fast", "a smaller, faster encode")
        .example("read clips/ ! write 'small/{name}.mkv' codec=libx265 size=1280x", "every file of a folder, 1280 pixels wide")
        .example("read rtsp://host/cam ! infer centerface ! blur ! write out/{stream}.m3u8 overwrite=yes", "live video for browsers")
        .example("read rtsp://host/cam ! infer centerface ! draw ! write rtsp://server/faces", "to a streaming server")
}

fn live_options() -> Vec<OptionSpec> {
    let playlists = [
        ("auto", "live for live and paced streams, event for files"),
        ("event", "all segments so far; grows until the end"),
        ("vod", "all segments; written at the end"),
        ("live", "the latest segments; older ones are deleted"),
    ];
    let when_full = [
        ("auto", "wait for files, drop for live and paced streams"),
        ("wait", "the pipeline waits"),
        ("drop", "the oldest frames are dropped, up to a keyframe; counted"),
    ];
    vec![
        OptionSpec::choice(
            "low_latency",
            &[("auto", "for playlists and servers, of live and paced streams"), ("yes", "on"), ("no", "off")],
        )
        .default("auto")
        .help("whether the encoder emits each frame immediately, with a fast preset"),
        OptionSpec::time("segment").default("2s").help("playlist: length of a segment; sets the keyframes too"),
        OptionSpec::choice("playlist", &playlists).default("auto").help("playlist: which segments it lists"),
        OptionSpec::integer("segments", 2..=10_000)
            .default(6)
            .help("playlist: number of segments in a live one; as many older ones are kept for players that lag"),
        OptionSpec::choice("segment_format", &[("ts", "MPEG-TS"), ("fmp4", "fragmented MP4")])
            .default("ts")
            .help("playlist: format of segments"),
        OptionSpec::choice("transport", &[("tcp", "loses nothing"), ("udp", "less delay")])
            .default("tcp")
            .help("server: how RTSP sends its packets"),
        OptionSpec::choice("on_loss", &[("retry", "reconnect after a wait; counted"), ("fail", "the run fails")])
            .default("retry")
            .help("server: what to do when it is unreachable or lost"),
        OptionSpec::integer("retries", 0..=1_000_000)
            .help("server: attempts in a row before the run fails; default: 6 while the pipeline waits, else no limit"),
        OptionSpec::time("retry_wait")
            .default("500ms")
            .help("server: wait before the first attempt; doubled for each further one, up to 30s"),
        OptionSpec::time("timeout").default("5s").help("server: maximum wait to accept data before it counts as lost"),
        OptionSpec::integer("buffer", 1..=100_000).default(250).unit("frames").help("server: maximum number of encoded frames that wait"),
        OptionSpec::choice("when_full", &when_full).default("auto").alias("full").help("server: behaviour when the buffer is full"),
        OptionSpec::time("linger").help(
            "server: how long the connection stays open after the last packet, for receivers that buffer frames; default: 1s for RTSP, 1s \
             more than the address's latency for SRT, 0s for others",
        ),
    ]
}

/// The parsed options.
pub(super) struct Settings {
    pub(super) writer: WriterOptions,
    pub(super) push: PushSettings,
    /// As requested; `None`: by the input.
    pub(super) low_latency: Option<bool>,
    /// As requested; `None`: by the input's length.
    pub(super) crash_safe: Option<bool>,
    /// `None`: by the input.
    pub(super) playlist: Option<PlaylistKind>,
    pub(super) segments: u32,
}

impl Settings {
    pub(super) fn new(kind: Kind, options: &Options) -> Result<Self, ConfigError> {
        if options.is_given("crf") && options.is_given("bitrate") {
            return Err(ConfigError::at("bitrate", "crf and bitrate are both given").help("leave one out"));
        }
        check_kind(kind, options)?;
        let quality = match (options.optional_float("crf"), options.optional_integer("bitrate")) {
            (Some(crf), _) => Quality::Crf(crf),
            (None, Some(rate)) => Quality::BitRate(u64::try_from(rate).unwrap_or(0)),
            (None, None) => Quality::EncoderDefault,
        };
        let text = |name| options.optional_text(name).map(str::to_owned);
        let pairs = |name| options.optional_key_values(name).unwrap_or_default().to_vec();
        let writer = WriterOptions {
            format: text("format"),
            codec: text("codec"),
            quality,
            preset: text("preset"),
            gop: options.optional_integer("gop").and_then(|gop| u32::try_from(gop).ok()),
            threads: encoder_threads(options.count("threads")),
            pixel_format: options.optional_text("pixel_format").map(pixel_format).transpose()?,
            encoder_options: pairs("options"),
            format_options: pairs("format_options"),
            metadata: pairs("tags"),
            audio: audio_mode(options),
            voice: options.optional_text("voice").map(|text| voice(text, options)).transpose()?,
            keep_metadata: options.optional_switch("keep_tags") != Some(false),
            strip_location: options.word("keep_tags").is_some(),
            keep_start: options.switch("keep_start"),
            overwrite: options.switch("overwrite"),
            hls: hls(options)?,
            ..WriterOptions::default()
        };
        let segments = u32::try_from(options.integer("segments")).unwrap_or(u32::MAX);
        let playlist = match options.choice("playlist") {
            "event" => Some(PlaylistKind::Event),
            "vod" => Some(PlaylistKind::Vod),
            "live" => Some(PlaylistKind::Live { segments }),
            _ => None,
        };
        let low_latency = match options.choice("low_latency") {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        };
        let crash_safe = match options.choice("crash_safe") {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        };
        Ok(Self { writer, push: push(options)?, low_latency, crash_safe, playlist, segments })
    }

    /// Resolves options that depend on the input.
    pub(super) fn settle(&mut self, kind: Kind, is_live: bool) {
        self.writer.low_latency = self.low_latency.unwrap_or(is_live && kind != Kind::File);
        self.writer.hls.playlist = self.playlist.unwrap_or(match is_live {
            true => PlaylistKind::Live { segments: self.segments },
            false => PlaylistKind::Event,
        });
        self.writer.hls.has_wall_clock = is_live;
        if kind == Kind::Server && self.writer.gop.is_none() {
            self.writer.keyframe_every = Some(KEYFRAMES_FOR_VIEWERS);
        }
        self.push.settle(is_live);
    }

    /// Whether a stream's file is playable at any moment while it is written.
    pub(super) fn is_crash_safe(&self, is_live: bool, info: &StreamInfo) -> bool {
        self.crash_safe.unwrap_or(is_live || info.duration_secs.is_none_or(|secs| secs > LONG_SECS))
    }
}

/// `mute`, `beep@10-20,1:30-1:40`.
fn voice(text: &str, options: &Options) -> Result<Voice, ConfigError> {
    let wrong = |why: String| ConfigError::at("voice", why).help("such as voice=mute or voice=beep@10-20,1:30-1:40");
    if options.optional_switch("audio") == Some(false) || options.word("audio") == Some("copy") {
        return Err(wrong("voice needs audio that is encoded; it cannot go with this audio=".into()));
    }
    let (kind, ranges) = text.split_once('@').map_or((text, None), |(kind, ranges)| (kind, Some(ranges)));
    let cover = match kind.trim() {
        "mute" => VoiceCover::Mute,
        "beep" => VoiceCover::Beep,
        other => return Err(wrong(format!("`{other}` is not a way to cover audio; use mute or beep"))),
    };
    let secs = |text: &str, missing: f64| match text.trim() {
        "" => Ok(missing),
        text => parse_time(text).map(|time| time.as_secs_f64()).map_err(|error| wrong(format!("a time range {error}"))),
    };
    let span = |range: &str| {
        let (from, to) = range.split_once('-').ok_or_else(|| wrong(format!("`{range}` is not a time range: it has no hyphen")))?;
        let (from, to) = (secs(from, 0.0)?, secs(to, 1e9)?);
        if from < to { Ok((from, to)) } else { Err(wrong(format!("`{range}` ends before it begins"))) }
    };
    let spans_secs = ranges.map_or(Ok(Vec::new()), |ranges| ranges.split(',').map(span).collect())?;
    Ok(Voice { cover, spans_secs })
}

fn audio_mode(options: &Options) -> AudioMode {
    match options.word("audio") {
        Some("copy") => AudioMode::Copy,
        Some("encode") => AudioMode::Encode,
        _ => AudioMode::Auto,
    }
}

/// Refuses options that would have no effect.
fn check_kind(kind: Kind, options: &Options) -> Result<(), ConfigError> {
    let stray = |names: &[&'static str]| names.iter().copied().find(|name| options.is_given(name));
    let refuse = |name: Option<&'static str>, what: &str, instead: &str| match name {
        Some(name) => Err(ConfigError::at(name, format_args!("`{name}` is for {what}")).help(format_args!("leave it out, or {instead}"))),
        None => Ok(()),
    };
    if kind != Kind::File {
        refuse(stray(&["crash_safe"]), "files", "write to a file")?;
    }
    if kind != Kind::Playlist {
        refuse(stray(&PLAYLIST_OPTIONS), "HLS playlists", "write to a name that ends in .m3u8")?;
    }
    if kind != Kind::Server {
        refuse(stray(&SERVER_OPTIONS), "servers", "write to an address such as rtsp://host/name")?;
    }
    Ok(())
}

fn hls(options: &Options) -> Result<HlsOptions, ConfigError> {
    let segment = options.time("segment");
    if segment < Duration::from_millis(100) || segment > Duration::from_secs(3600) {
        return Err(ConfigError::at("segment", "segments last from 100ms to an hour").help("2s to 6s are usual"));
    }
    let format = if options.choice("segment_format") == "fmp4" { SegmentFormat::FragmentedMp4 } else { SegmentFormat::MpegTs };
    Ok(HlsOptions { segment, format, ..HlsOptions::default() })
}

fn push(options: &Options) -> Result<PushSettings, ConfigError> {
    let on_loss = if options.choice("on_loss") == "fail" { OnLoss::Fail } else { OnLoss::Retry };
    let retries = options.optional_integer("retries").and_then(|count| u32::try_from(count).ok());
    if retries.is_some() && on_loss == OnLoss::Fail {
        return Err(ConfigError::at("retries", "is given, but on_loss does not retry").help("leave one out"));
    }
    let waits = match options.choice("when_full") {
        "wait" => Some(true),
        "drop" => Some(false),
        _ => None,
    };
    if options.optional_time("linger").is_some_and(|linger| linger > LONGEST_LINGER) {
        return Err(ConfigError::at("linger", "a connection can stay open for at most a minute").help("the receiver's latency is enough"));
    }
    let push = PushOptions {
        timeout: options.time("timeout"),
        rtsp_transport: options.choice("transport").to_owned(),
        linger: options.optional_time("linger"),
    };
    Ok(PushSettings { push, on_loss, retries, retry_wait: options.time("retry_wait"), buffer: options.count("buffer"), waits })
}

/// Encoders assume that they are alone and use many threads, each of which holds frames.
fn encoder_threads(given: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    if given == 0 && processors <= 8 { processors } else { given }
}

fn pixel_format(name: &str) -> Result<PixelFormat, ConfigError> {
    name.parse().map_err(|()| {
        let known: Vec<&str> = PixelFormat::ALL.iter().map(|format| format.name()).collect();
        ConfigError::at("pixel_format", format_args!("no pixel format is called `{name}`"))
            .help(format_args!("there are {}", known.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_what_is_written() {
        let kind = |name: &str| Kind::of(Path::new(name));
        assert_eq!([kind("out.mp4"), kind("-"), kind("a:b.mp4"), kind("file:///tmp/x.mp4")], [Kind::File; 4]);
        assert_eq!([kind("out/{stream}.m3u8"), kind("OUT.M3U8")], [Kind::Playlist; 2]);
        assert_eq!(kind("s3://bucket/{name}.mp4"), Kind::File);
        assert_eq!([kind("rtsp://host/{name}"), kind("srt://host:9000"), kind("http://host/x.m3u8")], [Kind::Server; 3]);
    }
}

//! How the sources of a `read` are read: concurrently or in turn, paced, dropped, reopened.

use std::{path::Path, sync::Arc, time::Duration};

use framerail_core::SourceUrl;
use framerail_pipeline::{ConfigError, DropPolicy, OnStreamError, OptionSpec, Options, RetryPolicy, StreamPolicy};

use crate::frame_input::GiveFrames;

/// URL schemes of live sources.
const LIVE_SCHEMES: &[&str] = &["rtsp", "rtsps", "rtp", "srtp", "udp", "srt", "rtmp", "rtmps", "rtmpt"];

/// FFmpeg's names of formats for cameras and screens.
const LIVE_FORMATS: &[&str] = &["v4l2", "video4linux2", "video4linux2,v4l2", "x11grab", "kmsgrab", "fbdev", "decklink", "alsa"];

/// Options of `read` for many or live sources.
pub(super) fn options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::integer("streams", 1..=1024)
            .default("auto")
            .or_word("auto", "one file after another, all live sources concurrently")
            .or_word("all", "all sources concurrently")
            .help("files that are read concurrently, each on its own thread"),
        OptionSpec::choice("live", &[("auto", "by the kind of URL"), ("yes", "all sources are live"), ("no", "none is live")])
            .default("auto")
            .help("whether sources are live; use yes for live HLS and HTTP"),
        OptionSpec::switch("realtime").default("no").help("deliver frames of files in real time, like a camera"),
        OptionSpec::time("latency").default("2s").or_word("none", "no budget").help(
            "live and realtime: latency budget from a frame's arrival to the end of the pipeline; late frames are dropped or counted",
        ),
        OptionSpec::choice(
            "drop",
            &[
                ("oldest", "the frame that has waited longest; lowest latency"),
                ("newest", "the arriving frame; waiting frames are kept"),
                ("none", "none; the source has to wait, and late frames are counted"),
            ],
        )
        .default("oldest")
        .help("live and realtime: which frames are dropped when the buffer is full; counted"),
        OptionSpec::integer("buffer", 1..=1000)
            .default("auto")
            .unit("frames")
            .or_word("auto", "8 for live and realtime, else 2")
            .help("frames of a stream that may wait"),
        OptionSpec::choice(
            "on_error",
            &[
                ("auto", "retry for live sources, fail for others"),
                ("fail", "the run fails"),
                ("end", "the stream ends, the others continue; counted"),
                ("retry", "it is reopened after a wait, the others continue; files only before their first frame"),
            ],
        )
        .default("auto")
        .help("what to do when a source cannot be read"),
        OptionSpec::integer("retries", 0..=1_000_000)
            .help("attempts in a row to reopen a source before its stream ends; default: no limit for live sources, 5 for others"),
        OptionSpec::time("retry_wait").default("500ms").help("wait before the first attempt; doubled for each further one, up to 30s"),
        OptionSpec::choice("transport", &[("tcp", "loses nothing"), ("udp", "less delay; losses are counted as damage")])
            .default("tcp")
            .help("how RTSP sends its packets"),
        OptionSpec::size("size").help("local cameras: width and height to request, such as 1280x720; default: the camera's choice"),
        OptionSpec::text("input_format")
            .help("local cameras: pixel format or codec to request, such as mjpeg or yuyv422; default: the camera's choice"),
        OptionSpec::switch("stay").default("no").help("keep running when no stream is left, for programs that add streams during the run"),
    ]
}

/// Default number of attempts for sources that are not live.
const FILE_RETRIES: u32 = 5;

/// Maximum wait between two attempts.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(30);

/// How the sources are read; their number at the start is given.
pub(super) fn policy(options: &Options, sources: usize) -> Result<StreamPolicy, ConfigError> {
    let at_once = match options.word("streams") {
        Some("all") => usize::MAX,
        Some(_) => 1,
        None => options.optional_integer("streams").and_then(|count| usize::try_from(count).ok()).unwrap_or(1),
    };
    let realtime = options.switch("realtime");
    let stays = options.switch("stay");
    let on_error = match options.choice("on_error") {
        "fail" => Some(OnStreamError::Fail),
        "end" => Some(OnStreamError::End),
        "retry" => Some(OnStreamError::Retry),
        _ => None,
    };
    let attempts = options.optional_integer("retries").and_then(|count| u32::try_from(count).ok());
    if attempts.is_some() && matches!(on_error, Some(OnStreamError::Fail | OnStreamError::End)) {
        return Err(ConfigError::at("retries", "has no effect: on_error does not retry").help("leave one out"));
    }
    let first_wait = options.time("retry_wait");
    Ok(StreamPolicy {
        // Paced files are concurrent unless a number is given: a camera does not wait for another.
        at_once: if (realtime || stays) && !options.is_given("streams") { sources.max(1024) } else { at_once },
        realtime,
        drop: Some(match options.choice("drop") {
            "newest" => DropPolicy::Newest,
            "none" => DropPolicy::None,
            _ => DropPolicy::Oldest,
        }),
        latency: options.optional_time("latency"),
        buffer: options.optional_integer("buffer").and_then(|count| usize::try_from(count).ok()),
        on_error,
        retry: RetryPolicy { first_wait, max_wait: MAX_RETRY_WAIT.max(first_wait), attempts, file_attempts: FILE_RETRIES },
        stays,
        in_step: false,
    })
}

/// Which sources are live.
#[derive(Clone, Debug)]
pub(super) enum Liveness {
    ByName,
    All,
    None,
}

impl Liveness {
    pub(super) fn of(options: &Options) -> Self {
        let is_live_format = options.optional_text("format").is_some_and(|format| LIVE_FORMATS.contains(&format));
        match options.choice("live") {
            "yes" => Liveness::All,
            "no" => Liveness::None,
            _ if is_live_format => Liveness::All,
            _ => Liveness::ByName,
        }
    }

    /// Whether a source is live; `frames` is the program's input, if it provides the frames.
    pub(super) fn is_live(&self, source: &str, frames: Option<&Arc<dyn GiveFrames>>) -> bool {
        match (self, frames) {
            (Liveness::All, _) => true,
            (Liveness::None, _) => false,
            (Liveness::ByName, Some(frames)) => frames.is_live(),
            (Liveness::ByName, None) => {
                is_camera(source) || SourceUrl::new(source).scheme().is_some_and(|scheme| LIVE_SCHEMES.contains(&scheme.as_str()))
            }
        }
    }
}

/// Whether a source is a local camera.
pub(super) fn is_camera(source: &str) -> bool {
    Path::new(source).file_name().is_some_and(|name| name.to_string_lossy().starts_with("video")) && source.starts_with("/dev/")
}

/// FFmpeg's format name for local cameras.
pub(super) const CAMERA_FORMAT: &str = "v4l2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_are_recognised_by_their_names() {
        let live = ["rtsp://host/cam", "RTSP://host/cam", "udp://239.0.0.1:5000", "srt://host:9000", "/dev/video0"];
        assert!(live.iter().all(|source| Liveness::ByName.is_live(source, None)));
        let files = ["in.mp4", "https://host/clip.mp4", "/dev/stdin", "-", "video0.mp4", "folder/video/x.mkv"];
        assert!(!files.iter().any(|source| Liveness::ByName.is_live(source, None)));
        assert!(is_camera("/dev/video0") && !is_camera("video0.mp4"));
        assert!(Liveness::All.is_live("in.mp4", None) && !Liveness::None.is_live("rtsp://host", None));
    }
}

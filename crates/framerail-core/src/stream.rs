//! What is known of a video stream before its frames arrive.

use std::{any::Any, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{ColorDescription, FieldOrder, HdrMetadata, PixelFormat, Rational, Rotation, SourceUrl, TimeBase};

/// Numbers a video stream within a run; the first is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a side stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// The packets of the video itself, for stages that copy them.
    Video,
    /// Sound.
    Audio,
    /// Subtitles.
    Subtitle,
    /// Timecode, telemetry and the like.
    Data,
    /// Fonts and cover pictures.
    Attachment,
}

/// A stream that travels beside the video, undecoded.
#[derive(Clone)]
pub struct SideStream {
    /// What it carries.
    pub kind: MediaKind,
    /// FFmpeg's codec name, such as `aac`.
    pub codec: String,
    /// Seconds per tick of its packets.
    pub time_base: TimeBase,
    /// Codec parameters and metadata, as the crate that reads and writes containers holds them.
    pub parameters: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for SideStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideStream")
            .field("kind", &self.kind)
            .field("codec", &self.codec)
            .field("time_base", &self.time_base)
            .finish_non_exhaustive()
    }
}

/// A video stream: what its container and codec say, before decoding.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Number within the run.
    pub id: StreamId,
    /// Where it comes from, as the user wrote it: a path, URL or `-`.
    pub source: SourceUrl,
    /// Short name for files and records: the source's file stem, made unique within the run.
    pub name: String,
    /// FFmpeg's codec name, such as `h264`.
    pub codec: String,
    /// FFmpeg's container name, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    pub container: String,
    /// Width of delivered frames in pixels (rotation applied).
    pub width: u32,
    /// Height of delivered frames in pixels (rotation applied).
    pub height: u32,
    /// Pixel format of delivered frames.
    pub pixel_format: PixelFormat,
    /// Shape of one pixel, width over height; `None` when unknown.
    pub sample_aspect_ratio: Option<Rational>,
    /// Colour tags.
    pub color: ColorDescription,
    /// What HDR10 says beside the colour tags.
    pub hdr: HdrMetadata,
    /// How the fields of the first frame lie.
    pub field_order: FieldOrder,
    /// Rotation that delivered frames still need for display.
    pub rotation: Rotation,
    /// Seconds per tick of the frames' PTS.
    pub time_base: TimeBase,
    /// Average rate, when known. Variable-frame-rate streams have one too: trust the PTS.
    pub frame_rate: Option<Rational>,
    /// What moves the start of the file, or of the part that is read, to zero, in microseconds: for what a writer needs to know before
    /// the first frame, such as the places of chapters.
    pub start_offset_micros: i64,
    /// Length in seconds, as the header says it.
    pub duration_secs: Option<f64>,
    /// Number of frames, as the header says it or as length times rate; for progress only.
    pub frames_estimate: Option<u64>,
    /// Bits per second, as the header says it.
    pub bit_rate: Option<u64>,
    /// Container and stream tags in their order, such as `("title", "…")`.
    pub metadata: Vec<(String, String)>,
    /// What of the source is not delivered, such as further video tracks; one line each.
    pub not_delivered: Vec<String>,
    /// Streams copied beside the video.
    pub side_streams: Vec<SideStream>,
}

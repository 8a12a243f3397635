//! Information about a video stream, available before its frames.

use std::{any::Any, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{ColorDescription, FieldOrder, HdrMetadata, PixelFormat, Rational, Rotation, SourceUrl, TimeBase};

/// Identifies a video stream within a run; the first is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The content of a side stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Packets of the video itself, for stages that copy them.
    Video,
    /// Audio.
    Audio,
    /// Subtitles.
    Subtitle,
    /// Timecode, telemetry and similar data.
    Data,
    /// Fonts and cover images.
    Attachment,
}

/// A stream that accompanies the video and is not decoded.
#[derive(Clone)]
pub struct SideStream {
    /// The content.
    pub kind: MediaKind,
    /// FFmpeg's codec name, such as `aac`.
    pub codec: String,
    /// Seconds per tick of its packets.
    pub time_base: TimeBase,
    /// Codec parameters and metadata, in the representation of the crate that reads and writes containers.
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

/// A video stream, as described by its container and codec before decoding.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Number within the run.
    pub id: StreamId,
    /// The source as the user wrote it: a path, URL or `-`.
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
    /// HDR10 metadata.
    pub hdr: HdrMetadata,
    /// Field order of the first frame.
    pub field_order: FieldOrder,
    /// Orientation still to be applied to delivered frames for display.
    pub rotation: Rotation,
    /// Seconds per tick of the frames' PTS.
    pub time_base: TimeBase,
    /// Average frame rate, if known. Variable-frame-rate streams have one too; use the PTS for timing.
    pub frame_rate: Option<Rational>,
    /// Microseconds added to move the start of the file, or of the part that is read, to zero. Writers need it before
    /// the first frame, for example for the times of chapters.
    pub start_offset_micros: i64,
    /// Duration in seconds, from the header.
    pub duration_secs: Option<f64>,
    /// Number of frames, from the header or as duration times rate; for progress only.
    pub frames_estimate: Option<u64>,
    /// Bits per second, from the header.
    pub bit_rate: Option<u64>,
    /// Container and stream tags in order, such as `("title", "…")`.
    pub metadata: Vec<(String, String)>,
    /// Parts of the source that are not delivered, such as further video tracks; one line each.
    pub not_delivered: Vec<String>,
    /// Streams copied beside the video.
    pub side_streams: Vec<SideStream>,
}

//! Metadata of a video, and statistics of a reader.

use framerail_core::{ColorDescription, Device, PixelFormat, Pts, Rational, Rotation};

/// How the frame index was obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexSource {
    /// Not read yet.
    #[default]
    Unread,
    /// The container's own tables.
    Container,
    /// A scan of all packets.
    Scan,
    /// A cached index; how it was built originally is not recorded.
    Cache,
    /// A full decode, because the packets do not identify their frames.
    Decoded,
    /// The header's frame rate; not exact.
    Approximate,
}

/// Properties of a video. Those that require decoding come from the header until the first frame was read.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoMetadata {
    /// The source as given.
    pub source: String,
    /// FFmpeg's name for the container.
    pub container: String,
    /// FFmpeg's name for the codec.
    pub codec: String,
    /// Index of the stream in the container, from 0.
    pub stream_index: usize,
    /// Width of frames in pixels, rotation applied.
    pub width: u32,
    /// Height of frames in pixels, rotation applied.
    pub height: u32,
    /// Pixel format of decoded frames.
    pub pixel_format: PixelFormat,
    /// Colour tags: those of the first frame if the stream has any, otherwise those of the container.
    pub color: ColorDescription,
    /// Average frames per second; from the index once read, before that from the header.
    pub frame_rate: Option<Rational>,
    /// Length in seconds; from the index once read, before that from the header.
    pub duration_secs: Option<f64>,
    /// Time of the first frame in seconds; from the index once read, before that from the header.
    pub start_secs: Option<f64>,
    /// End time of the last frame in seconds; from the index once read, before that from the header.
    pub end_secs: Option<f64>,
    /// Number of frames, once the index is read.
    pub num_frames: Option<usize>,
    /// Number of frames according to the header, which may be wrong.
    pub frames_estimate: Option<u64>,
    /// Bits per second according to the header.
    pub bit_rate: Option<u64>,
    /// The rotation stored in the file; applied unless the options disable it.
    pub rotation: Rotation,
    /// Pixel aspect ratio, width over height; `None` when neither container nor stream states it.
    pub sample_aspect_ratio: Option<Rational>,
    /// How the frame index was obtained.
    pub index_source: IndexSource,
    /// Device of the returned frames.
    pub device: Device,
    /// Why frames are decoded on the host although a GPU was requested.
    pub fallback: Option<String>,
    /// Tags of the container and the stream, in file order.
    pub tags: Vec<(String, String)>,
}

/// Presentation time of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameTime {
    /// Presentation time in ticks of the stream.
    pub pts: Pts,
    /// The same in seconds, on the file's clock.
    pub seconds: f64,
    /// Display duration in seconds.
    pub duration_secs: f64,
    /// Whether decoding can start here, according to the container.
    pub is_keyframe: bool,
}

/// Statistics of a reader, including its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderStats {
    /// Frames that decoders output, or dropped after decoding.
    pub pictures_decoded: u64,
    /// Packets skipped because no other frame refers to theirs.
    pub packets_skipped: u64,
    /// Frames converted.
    pub pictures_converted: u64,
    /// Frames returned.
    pub frames_delivered: u64,
    /// Of these, frames with concealed errors or a reconstructed timestamp.
    pub frames_repaired: u64,
    /// Of these, frames that the decoder did not output.
    pub frames_missing: u64,
    /// Of these, frames rescaled because the size of the stream changes.
    pub frames_rescaled: u64,
    /// Decoding starts in the middle of the stream.
    pub seeks: u64,
    /// Decoders opened.
    pub decoders_opened: u64,
    /// Bytes copied from host to device.
    pub upload_bytes: u64,
    /// Bytes copied from device to host.
    pub download_bytes: u64,
    /// Frames copied within GPU memory, or between GPUs, after conversion.
    pub device_copies: u64,
}

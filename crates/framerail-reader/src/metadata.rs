//! What is known of a video, and of what a reader did.

use framerail_core::{ColorDescription, Device, PixelFormat, Pts, Rational, Rotation};

/// Where the places of frames come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexSource {
    /// They were not needed yet.
    #[default]
    Unread,
    /// The container's own tables.
    Container,
    /// A read over all packets.
    Scan,
    /// An index kept from an earlier time; what it was made from is not told.
    Cache,
    /// Everything was decoded once, because packets do not tell.
    Decoded,
    /// The header's rate: not exact.
    Approximate,
}

/// A video's properties. What only decoding tells is as the header has it until the first frame was read.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoMetadata {
    /// The source as given.
    pub source: String,
    /// FFmpeg's name of the container.
    pub container: String,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// Number of the stream among all of the container, from 0.
    pub stream_index: usize,
    /// Width of frames in pixels, rotation applied.
    pub width: u32,
    /// Height of frames in pixels, rotation applied.
    pub height: u32,
    /// Pixel format of decoded frames.
    pub pixel_format: PixelFormat,
    /// Colour tags: the first frame's, where the stream states any, else the container's.
    pub color: ColorDescription,
    /// Average frames per second: from the index once it is read, else from the header.
    pub frame_rate: Option<Rational>,
    /// Length in seconds: from the index once it is read, else from the header.
    pub duration_secs: Option<f64>,
    /// Time of the first frame in seconds: from the index once it is read, else from the header.
    pub start_secs: Option<f64>,
    /// Time at which the last frame ends in seconds: from the index once it is read, else from the header.
    pub end_secs: Option<f64>,
    /// Frames, once the index is read.
    pub num_frames: Option<usize>,
    /// Frames by the header, which may lie.
    pub frames_estimate: Option<u64>,
    /// Bits per second, by the header.
    pub bit_rate: Option<u64>,
    /// The turn that the file asks for; applied unless the options say otherwise.
    pub rotation: Rotation,
    /// Shape of a pixel, width over height; `None` when neither container nor stream states it.
    pub sample_aspect_ratio: Option<Rational>,
    /// Where the places of frames come from.
    pub index_source: IndexSource,
    /// Where frames are handed out.
    pub device: Device,
    /// Why frames are decoded on the host although a card was asked for.
    pub fallback: Option<String>,
    /// Tags of the container and stream in their order.
    pub tags: Vec<(String, String)>,
}

/// A frame's place in time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameTime {
    /// Presentation time in ticks of the stream.
    pub pts: Pts,
    /// The same in seconds, on the file's clock.
    pub seconds: f64,
    /// How long it is on screen, in seconds.
    pub duration_secs: f64,
    /// Whether decoding can start here, as the container says it.
    pub is_keyframe: bool,
}

/// What a reader has done so far, its batches included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderStats {
    /// Pictures that decoders gave out or were told to drop after decoding.
    pub pictures_decoded: u64,
    /// Packets left out because nothing refers to their pictures.
    pub packets_skipped: u64,
    /// Pictures converted.
    pub pictures_converted: u64,
    /// Frames handed out.
    pub frames_delivered: u64,
    /// Of these, with concealed errors or a time that was worked out.
    pub frames_repaired: u64,
    /// Of these, that did not come out of the decoder.
    pub frames_missing: u64,
    /// Of these, scaled because the stream changes its size.
    pub frames_rescaled: u64,
    /// Starts of decoding in mid-stream.
    pub seeks: u64,
    /// Decoders opened.
    pub decoders_opened: u64,
    /// Bytes from host to device.
    pub upload_bytes: u64,
    /// Bytes from device to host.
    pub download_bytes: u64,
    /// Frames copied within the memory of GPUs, or from one to another, after they were converted.
    pub device_copies: u64,
}

//! Reads animated WebP, which FFmpeg 5.1 detects but does not decode: frames become packets of raw video.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, PixelFormat, Rational, StreamInfo, TimeBase};
use image_webp::{DecodingError, WebPDecoder};

use crate::{InputOptions, MediaError, Parameters, av::AvPacket, error::system_words};

/// Name of a frame's chunk.
const FRAME_CHUNK: &[u8] = b"ANMF";
/// Duration in milliseconds that browsers use for a frame without a stated one.
const DEFAULT_DELAY_MS: i64 = 100;
/// WebP states durations in milliseconds.
const TIME_BASE: TimeBase = TimeBase::MILLIS;

trait Bytes: Read + Seek + Send {}

impl<T: Read + Seek + Send> Bytes for T {}

/// An open animation.
pub(crate) struct WebpAnimation {
    decoder: WebPDecoder<BufReader<Box<dyn Bytes>>>,
    /// Number of frames returned.
    next: u64,
    /// PTS of the next frame, in milliseconds.
    next_ms: i64,
    is_broken: bool,
    chunks: Chunks,
}

/// State of a file's chain of chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Chunks {
    /// Number of frames, including those behind a break in the chain.
    frames: u64,
    /// The chain is broken, or the file is truncated.
    is_broken: bool,
}

impl Chunks {
    /// Follows the chain; searches for frames only where it breaks.
    fn of(source: &mut (impl Read + Seek)) -> io::Result<Self> {
        let mut head = [0; 12];
        source.seek(SeekFrom::Start(0))?;
        source.read_exact(&mut head)?;
        let end = u64::from(le32(&head[4..8])) + 8;
        let length = source.seek(SeekFrom::End(0))?;
        let (mut at, mut frames) = (12, 0);
        while at + 8 <= end.min(length) {
            source.seek(SeekFrom::Start(at))?;
            source.read_exact(&mut head[..8])?;
            if !head[..4].iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ') {
                break;
            }
            frames += u64::from(head.starts_with(FRAME_CHUNK));
            let size = u64::from(le32(&head[4..8]));
            at += 8 + size + (size & 1);
        }
        if at >= end && end <= length {
            return Ok(Self { frames, is_broken: false });
        }
        let mut bytes = Vec::new();
        source.seek(SeekFrom::Start(0))?;
        source.read_to_end(&mut bytes)?;
        let found = bytes.windows(FRAME_CHUNK.len()).filter(|name| *name == FRAME_CHUNK).count() as u64;
        Ok(Self { frames: found.max(frames), is_broken: true })
    }
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

impl WebpAnimation {
    /// Opens an animation.
    ///
    /// # Errors
    /// `Io`, `Damaged`; `TooLarge` if its frames need more memory than the options allow.
    pub(crate) fn open(source: impl Read + Seek + Send + 'static, options: &InputOptions) -> Result<Self, MediaError> {
        let mut source = source;
        let failed = |error: io::Error| MediaError::Io { path: options.source.to_string(), reason: system_words(&error) };
        let chunks = Chunks::of(&mut source).map_err(failed)?;
        source.seek(SeekFrom::Start(0)).map_err(failed)?;
        let bytes: Box<dyn Bytes> = Box::new(source);
        let mut decoder = WebPDecoder::new(BufReader::new(bytes)).map_err(|error| damaged(options, &error))?;
        let (width, height) = decoder.dimensions();
        // Memory for the canvas, the frame drawn onto it, and the packet.
        options.check_image(width, height, 4, 3)?;
        decoder.set_memory_limit(usize::try_from(options.image_bytes).unwrap_or(usize::MAX));
        Ok(Self { decoder, next: 0, next_ms: 0, is_broken: false, chunks })
    }

    /// Opens the file of the options' source.
    pub(crate) fn open_file(options: &InputOptions) -> Result<Self, MediaError> {
        let path = std::path::Path::new(options.source.reveal());
        Self::open(File::open(path).map_err(|error| MediaError::io(path, &error))?, options)
    }

    /// Number of frame chunks; some may be unreachable.
    pub(crate) fn frames(&self) -> u64 {
        self.chunks.frames
    }

    /// Whether its structure is damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.chunks.is_broken
    }

    fn pixel_format(&self) -> PixelFormat {
        if self.decoder.has_alpha() { PixelFormat::Rgba } else { PixelFormat::Rgb24 }
    }

    /// Codec parameters of the packets.
    pub(crate) fn parameters(&self) -> Parameters {
        let (width, height) = self.decoder.dimensions();
        Parameters::of_raw_video(crate::format::av_format(self.pixel_format()).0, width, height)
    }

    /// Stream information that is known before the first frame.
    pub(crate) fn info(&self, options: &InputOptions) -> StreamInfo {
        let (width, height) = self.decoder.dimensions();
        let frames = self.frames();
        let duration_ms = i64::try_from(self.decoder.loop_duration()).unwrap_or(0);
        let rate = Rational::new(i64::try_from(frames).unwrap_or(0) * 1000, duration_ms.max(1)).filter(|_| duration_ms > 0);
        StreamInfo {
            start_offset_micros: 0,
            id: options.stream,
            source: options.source.clone(),
            name: options.name.clone().unwrap_or_else(|| options.source.stem()),
            codec: "webp".into(),
            container: "webp".into(),
            width,
            height,
            pixel_format: self.pixel_format(),
            sample_aspect_ratio: None,
            color: ColorDescription::default(),
            rotation: framerail_core::Rotation::None,
            time_base: TIME_BASE,
            frame_rate: rate,
            duration_secs: (duration_ms > 0).then(|| duration_ms as f64 / 1000.0),
            frames_estimate: Some(frames),
            bit_rate: None,
            metadata: Vec::new(),
            side_streams: Vec::new(),
            field_order: Default::default(),
            hdr: Default::default(),
            not_delivered: Vec::new(),
        }
    }

    /// Goes back to the first frame.
    pub(crate) fn rewind(&mut self) {
        self.decoder.reset_animation();
        (self.next, self.next_ms, self.is_broken) = (0, 0, false);
    }

    /// Returns the next frame; `None` at the end.
    ///
    /// # Errors
    /// The decoder's message for a frame that cannot be decoded; no frame follows, since each frame builds on the previous ones.
    pub(crate) fn next(&mut self) -> Result<Option<AvPacket>, String> {
        if self.is_broken || self.next >= u64::from(self.decoder.num_frames()) {
            return Ok(None);
        }
        let failed = |error: &DecodingError| error.to_string().to_lowercase();
        let Some(size) = self.decoder.output_buffer_size() else { return Ok(None) };
        let mut packet = AvPacket::of_size(size).map_err(|error| error.to_string())?;
        let delay_ms = match self.decoder.read_frame(packet.data_mut()) {
            Ok(delay_ms) => i64::from(delay_ms),
            Err(error) => {
                self.is_broken = true;
                return Err(failed(&error));
            }
        };
        let duration = if delay_ms > 0 { delay_ms } else { DEFAULT_DELAY_MS };
        (packet.pts, packet.dts, packet.duration, packet.stream_index) = (self.next_ms, self.next_ms, duration, 0);
        packet.flags |= ffi::AV_PKT_FLAG_KEY;
        self.next += 1;
        self.next_ms += duration;
        Ok(Some(packet))
    }
}

fn damaged(options: &InputOptions, error: &DecodingError) -> MediaError {
    MediaError::Damaged {
        source_name: options.source.to_string(),
        reason: format!("an animated WebP: {}", error.to_string().to_lowercase()),
    }
}

//! Codecs of the GPU's decoder, and their capabilities.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use serde::Serialize;

use super::{ffi, library::library};
use crate::{CudaDevice, CudaError};

/// A codec that NVDEC supports on some GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NvdecCodec {
    /// MPEG-1 part 2.
    Mpeg1,
    /// MPEG-2 part 2.
    Mpeg2,
    /// MPEG-4 part 2.
    Mpeg4,
    /// VC-1.
    Vc1,
    /// H.264 (AVC).
    H264,
    /// Motion JPEG.
    Mjpeg,
    /// H.265 (HEVC).
    Hevc,
    /// VP8.
    Vp8,
    /// VP9.
    Vp9,
    /// AV1.
    Av1,
}

impl NvdecCodec {
    /// Every codec.
    pub const ALL: [NvdecCodec; 10] = [
        NvdecCodec::H264,
        NvdecCodec::Hevc,
        NvdecCodec::Av1,
        NvdecCodec::Vp9,
        NvdecCodec::Vp8,
        NvdecCodec::Mpeg4,
        NvdecCodec::Mpeg2,
        NvdecCodec::Mpeg1,
        NvdecCodec::Vc1,
        NvdecCodec::Mjpeg,
    ];

    /// The codec with this FFmpeg name, if NVDEC supports it on some GPU.
    pub fn from_ffmpeg_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.ffmpeg_name() == name)
    }

    /// FFmpeg's name.
    pub fn ffmpeg_name(self) -> &'static str {
        match self {
            NvdecCodec::Mpeg1 => "mpeg1video",
            NvdecCodec::Mpeg2 => "mpeg2video",
            NvdecCodec::Mpeg4 => "mpeg4",
            NvdecCodec::Vc1 => "vc1",
            NvdecCodec::H264 => "h264",
            NvdecCodec::Mjpeg => "mjpeg",
            NvdecCodec::Hevc => "hevc",
            NvdecCodec::Vp8 => "vp8",
            NvdecCodec::Vp9 => "vp9",
            NvdecCodec::Av1 => "av1",
        }
    }

    /// `cudaVideoCodec` in the public header.
    pub(super) fn id(self) -> i32 {
        match self {
            NvdecCodec::Mpeg1 => 0,
            NvdecCodec::Mpeg2 => 1,
            NvdecCodec::Mpeg4 => 2,
            NvdecCodec::Vc1 => 3,
            NvdecCodec::H264 => 4,
            NvdecCodec::Mjpeg => 5,
            NvdecCodec::Hevc => 8,
            NvdecCodec::Vp8 => 9,
            NvdecCodec::Vp9 => 10,
            NvdecCodec::Av1 => 11,
        }
    }
}

impl fmt::Display for NvdecCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.ffmpeg_name())
    }
}

/// Chroma subsampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Chroma {
    /// No chroma.
    #[serde(rename = "4:0:0")]
    Monochrome,
    /// Halved in both directions.
    #[serde(rename = "4:2:0")]
    Yuv420,
    /// Halved horizontally.
    #[serde(rename = "4:2:2")]
    Yuv422,
    /// Full resolution.
    #[serde(rename = "4:4:4")]
    Yuv444,
}

impl Chroma {
    /// Every chroma subsampling.
    pub const ALL: [Chroma; 4] = [Chroma::Monochrome, Chroma::Yuv420, Chroma::Yuv422, Chroma::Yuv444];

    pub(super) fn id(self) -> i32 {
        self as i32
    }

    pub(super) fn from_id(id: i32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }
}

impl fmt::Display for Chroma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Chroma::Monochrome => "4:0:0",
            Chroma::Yuv420 => "4:2:0",
            Chroma::Yuv422 => "4:2:2",
            Chroma::Yuv444 => "4:4:4",
        })
    }
}

/// What a GPU's decoder supports for one kind of stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DecodeCapability {
    /// Codec.
    pub codec: NvdecCodec,
    /// Chroma subsampling.
    pub chroma: Chroma,
    /// Bits per sample.
    pub bits: u32,
    /// Number of engines that decode it.
    pub engines: u32,
    /// Minimum coded width and height in pixels.
    pub min_size: (u32, u32),
    /// Maximum coded width and height in pixels.
    pub max_size: (u32, u32),
    /// Maximum number of macroblocks (16x16 pixels) per frame.
    pub max_macroblocks: u32,
    /// Bit `n`: `cudaVideoSurfaceFormat` `n` is a supported output format.
    pub(super) output_formats: u16,
}

/// A device ordinal and a kind of stream.
type Kind = (u32, NvdecCodec, Chroma, u32);

/// Each query takes the driver milliseconds, and the answer never changes.
static KNOWN: OnceLock<Mutex<HashMap<Kind, Option<DecodeCapability>>>> = OnceLock::new();

/// What the GPU supports; `None` if it does not decode this kind of stream.
///
/// # Errors
/// `NoDecoder`, `Driver`.
pub fn capability(device: &Arc<CudaDevice>, codec: NvdecCodec, chroma: Chroma, bits: u32) -> Result<Option<DecodeCapability>, CudaError> {
    let kind = (device.info().ordinal, codec, chroma, bits);
    let known = KNOWN.get_or_init(Mutex::default);
    if let Some(found) = known.lock().get(&kind) {
        return Ok(found.clone());
    }
    let found = ask(device, codec, chroma, bits)?;
    known.lock().insert(kind, found.clone());
    Ok(found)
}

fn ask(device: &Arc<CudaDevice>, codec: NvdecCodec, chroma: Chroma, bits: u32) -> Result<Option<DecodeCapability>, CudaError> {
    let library = library()?;
    let entered = device.enter()?;
    let mut caps =
        ffi::DecodeCaps { codec: codec.id(), chroma_format: chroma.id(), bit_depth_minus8: bits.saturating_sub(8), ..Default::default() };
    // SAFETY: a structure of the header's layout, with a current context.
    entered.check_code(unsafe { (library.get_caps)(&mut caps) }, "querying NVDEC's capabilities")?;
    Ok((caps.is_supported != 0).then(|| DecodeCapability {
        codec,
        chroma,
        bits,
        engines: u32::from(caps.engines).max(1),
        min_size: (caps.min_width.into(), caps.min_height.into()),
        max_size: (caps.max_width, caps.max_height),
        max_macroblocks: caps.max_macroblocks,
        output_formats: caps.output_format_mask,
    }))
}

/// Lists everything that the GPU decodes.
///
/// # Errors
/// `NoDecoder`, `Driver`.
pub fn capabilities(device: &Arc<CudaDevice>) -> Result<Vec<DecodeCapability>, CudaError> {
    let mut found = Vec::new();
    for codec in NvdecCodec::ALL {
        for chroma in Chroma::ALL {
            for bits in [8, 10, 12] {
                found.extend(capability(device, codec, chroma, bits)?);
            }
        }
    }
    Ok(found)
}

impl DecodeCapability {
    /// Checks that frames of this coded size are supported.
    pub(super) fn check_size(&self, width: u32, height: u32) -> Result<(), CudaError> {
        let fits = (self.min_size.0..=self.max_size.0).contains(&width)
            && (self.min_size.1..=self.max_size.1).contains(&height)
            && u64::from(width) * u64::from(height) / 256 <= u64::from(self.max_macroblocks);
        if fits {
            return Ok(());
        }
        let ((min_width, min_height), (max_width, max_height)) = (self.min_size, self.max_size);
        Err(CudaError::Unsupported {
            what: format!("{} {} {} bit at {width}x{height}", self.codec, self.chroma, self.bits),
            reason: format!("it supports {min_width}x{min_height} to {max_width}x{max_height}, up to {} macroblocks", self.max_macroblocks),
        })
    }
}

/// The error for a kind of stream that the GPU does not decode.
pub(super) fn unsupported(codec: NvdecCodec, chroma: Chroma, bits: u32) -> CudaError {
    CudaError::Unsupported {
        what: format!("{codec} {chroma} {bits} bit"),
        reason: "its decoder has no engine for this codec, chroma or depth; `framerail doctor` lists what it has".into(),
    }
}

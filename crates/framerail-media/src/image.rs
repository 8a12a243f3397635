//! Single images: PNG and JPEG.

use std::path::Path;

use framerail_core::{ColorDescription, Frame, FramePool, HostSurface, PixelFormat};

use crate::{
    Committed, Converter, ImageEncoder, InputOptions, MediaError, MediaItem, MediaReader, OutputRules, ScaleOptions, SideStreams,
    commit::write_file,
};

/// An image file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Lossless, 8 bits, with alpha if the frame has it.
    Png,
    /// Lossy, 4:2:0, full range.
    Jpeg {
        /// 1 (smallest) to 100 (best).
        quality: u8,
    },
}

impl ImageFormat {
    /// The format of a file name's extension.
    ///
    /// # Errors
    /// `BadOption` for anything but `.png`, `.jpg` and `.jpeg`.
    pub fn of(path: &Path, jpeg_quality: u8) -> Result<Self, MediaError> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
        match extension.as_str() {
            "png" => Ok(ImageFormat::Png),
            "jpg" | "jpeg" => Ok(ImageFormat::Jpeg { quality: jpeg_quality }),
            _ => Err(MediaError::BadOption {
                name: path.display().to_string(),
                reason: "images are written as .png or .jpg".into(),
                nearest: None,
            }),
        }
    }
}

/// Saves a frame as PNG or JPEG, by the file name's extension; an existing file is replaced. `jpeg_quality` goes from 1 to 100.
///
/// # Errors
/// `BadOption` for another extension, `Io`, `DiskFull`; `Core` for a device surface.
pub fn save_image(frame: &Frame, path: &Path, jpeg_quality: u8) -> Result<(), MediaError> {
    write_image(frame, path, jpeg_quality, &OutputRules { overwrite: true, ..OutputRules::default() }).map(|_| ())
}

/// As [`save_image`], with the rules of a run.
///
/// # Errors
/// As [`save_image`]; also `Exists`, `SameFile`.
pub fn write_image(frame: &Frame, path: &Path, jpeg_quality: u8, rules: &OutputRules) -> Result<Committed, MediaError> {
    let bytes = ImageEncoder::new(ImageFormat::of(path, jpeg_quality)?).encode_frame(frame)?;
    write_file(path, &bytes, rules)
}

/// Encodes a surface as an image in memory. For several in a row, keep an [`ImageEncoder`].
///
/// # Errors
/// `Unsupported` if this FFmpeg lacks the encoder, `Ffmpeg`.
pub fn encode_image(surface: &HostSurface, color: &ColorDescription, format: ImageFormat) -> Result<Vec<u8>, MediaError> {
    ImageEncoder::new(format).encode(surface, color)
}

/// Reads an image as RGBA, rotated upright.
///
/// # Errors
/// `NotFound`, `NotMedia`, `NoVideo`, `Damaged`.
pub fn load_image(path: &Path, pool: &FramePool) -> Result<HostSurface, MediaError> {
    let mut options = InputOptions::new(path.to_string_lossy());
    options.threads = 1;
    options.side_streams = SideStreams::None;
    let mut reader = MediaReader::open(&options, pool)?;
    while let Some(item) = reader.next()? {
        if let MediaItem::Frame(frame) = item {
            let host = frame.surface.host()?;
            let mut converter = Converter::new(ScaleOptions { accurate: true, ..ScaleOptions::default() });
            return converter.convert(host, &frame.color, PixelFormat::Rgba, host.width(), host.height(), pool);
        }
    }
    Err(MediaError::Damaged { source_name: options.source.to_string(), reason: "no image can be decoded".into() })
}

//! Single pictures: PNG and JPEG.

use std::{fs, path::Path, ptr};

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, Frame, FramePool, HostSurface, PixelFormat};

use crate::{
    Converter, InputOptions, MediaError, MediaItem, MediaReader, ScaleOptions, SideStreams,
    av::{self, AvPacket, CodecContext},
    output::OutputFile,
};

/// A picture's file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// Lossless, 8 bits, with alpha where the frame has it.
    Png,
    /// Lossy, 4:2:0, full range.
    Jpeg {
        /// 1 (smallest) to 100 (best).
        quality: u8,
    },
}

impl ImageFormat {
    /// The format that a file name's extension says.
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
                reason: "pictures are written as .png or .jpg".into(),
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
    let bytes = encode_image(frame.surface.host()?, &frame.color, ImageFormat::of(path, jpeg_quality)?)?;
    let output = OutputFile::create(path, true, &[])?;
    fs::write(output.working_path(), bytes).map_err(|error| MediaError::io(path, &error))?;
    output.complete().map(|_| ())
}

/// Encodes a surface as a picture in memory.
///
/// # Errors
/// `Unsupported` when this FFmpeg lacks the encoder, `Ffmpeg`.
pub fn encode_image(surface: &HostSurface, color: &ColorDescription, format: ImageFormat) -> Result<Vec<u8>, MediaError> {
    av::init();
    let (name, target) = match format {
        ImageFormat::Png if surface.format().has_alpha() => (c"png", ffi::AVPixelFormat::RGBA),
        ImageFormat::Png if surface.format() == PixelFormat::Gray8 => (c"png", ffi::AVPixelFormat::GRAY8),
        ImageFormat::Png => (c"png", ffi::AVPixelFormat::RGB24),
        ImageFormat::Jpeg { .. } => (c"mjpeg", ffi::AVPixelFormat::YUVJ420P),
    };
    // SAFETY: a zero-ended name; descriptions are static.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()) };
    if codec.is_null() {
        let what = format!("writing {}", name.to_string_lossy());
        return Err(MediaError::Unsupported { what, reason: "this FFmpeg was built without the encoder".into() });
    }
    let mut context = CodecContext::new(codec);
    (context.width, context.height) = (surface.width() as i32, surface.height() as i32);
    context.pix_fmt = target;
    context.time_base = ffi::AVRational { num: 1, den: 25 };
    context.thread_count = 1;
    if let ImageFormat::Jpeg { quality } = format {
        context.flags |= ffi::AV_CODEC_FLAG_QSCALE as i32;
        context.global_quality = ffi::FF_QP2LAMBDA * jpeg_quantiser(quality);
        context.color_range = ffi::AVColorRange(2);
    }
    // SAFETY: a configured context without further options.
    let code = unsafe { ffi::avcodec_open2(context.as_mut_ptr(), codec, ptr::null_mut()) };
    if code < 0 {
        return Err(av::error("opening the picture encoder", code));
    }
    let mut converter = Converter::new(ScaleOptions { accurate: true, ..ScaleOptions::default() });
    let mut picture = converter.convert_to_av(surface, color, target, surface.width(), surface.height())?;
    picture.quality = context.global_quality;
    picture.pts = 0;
    let mut packet = AvPacket::new();
    // SAFETY: an open encoder, a valid picture and an owned packet.
    let code = unsafe {
        let sent = ffi::avcodec_send_frame(context.as_mut_ptr(), picture.as_ptr());
        let ended = ffi::avcodec_send_frame(context.as_mut_ptr(), ptr::null());
        let received = ffi::avcodec_receive_packet(context.as_mut_ptr(), packet.as_mut_ptr());
        sent.min(ended).min(received)
    };
    if code < 0 {
        return Err(av::error("encoding a picture", code));
    }
    Ok(packet.data().to_vec())
}

/// FFmpeg's quantiser, 2 (best) to 31, for a quality from 1 to 100.
fn jpeg_quantiser(quality: u8) -> i32 {
    let quality = i32::from(quality.clamp(1, 100));
    2 + (100 - quality) * 29 / 99
}

/// Reads a picture as RGBA, turned upright.
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
    Err(MediaError::Damaged { source_name: options.source, reason: "no picture can be decoded".into() })
}

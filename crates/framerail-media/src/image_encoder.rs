//! Encodes a sequence of single images.

use std::ptr;

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, Frame, HostSurface, PixelFormat};

use crate::{
    Converter, ImageFormat, MediaError, ScaleOptions,
    av::{self, AvPacket, CodecContext},
    scale::EncoderFrame,
};

/// The format that an encoder was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    target: ffi::AVPixelFormat,
    width: u32,
    height: u32,
}

/// Encodes surfaces as PNG or JPEG in memory. FFmpeg's encoder and the conversion before it are opened for the first image, and
/// again when size or format change.
pub struct ImageEncoder {
    format: ImageFormat,
    converter: Converter,
    open: Option<(Kind, CodecContext)>,
    /// Time of the next image: encoders require increasing times, even for still images.
    pts: i64,
    opens: u64,
}

impl ImageEncoder {
    /// Creates an encoder without opening anything yet.
    pub fn new(format: ImageFormat) -> Self {
        let converter = Converter::new(ScaleOptions { accurate: true, ..ScaleOptions::default() });
        Self { format, converter, open: None, pts: 0, opens: 0 }
    }

    /// Encodes a surface; the result does not depend on previous images.
    ///
    /// # Errors
    /// `Unsupported` if this FFmpeg lacks the encoder, `Ffmpeg`. After an error the next image gets a new encoder.
    pub fn encode(&mut self, surface: &HostSurface, color: &ColorDescription) -> Result<Vec<u8>, MediaError> {
        self.encode_with(surface, color, None)
    }

    /// Encodes a frame, with the colour profile of its source image if the output format can use it.
    ///
    /// # Errors
    /// As [`ImageEncoder::encode`]; `Core` for a device surface.
    pub fn encode_frame(&mut self, frame: &Frame) -> Result<Vec<u8>, MediaError> {
        let profile = frame.still.as_ref().and_then(|still| still.icc_profile.as_deref());
        self.encode_with(frame.surface.host()?, &frame.color, profile)
    }

    fn encode_with(&mut self, surface: &HostSurface, color: &ColorDescription, profile: Option<&[u8]>) -> Result<Vec<u8>, MediaError> {
        let (name, target) = match self.format {
            ImageFormat::Png if surface.format().has_alpha() => (c"png", ffi::AVPixelFormat::RGBA),
            ImageFormat::Png if surface.format() == PixelFormat::Gray8 => (c"png", ffi::AVPixelFormat::GRAY8),
            ImageFormat::Png if surface.format() == PixelFormat::Gray16 => (c"png", ffi::AVPixelFormat::GRAY16BE),
            ImageFormat::Png => (c"png", ffi::AVPixelFormat::RGB24),
            ImageFormat::Jpeg { .. } => (c"mjpeg", ffi::AVPixelFormat::YUVJ420P),
        };
        let kind = Kind { target, width: surface.width(), height: surface.height() };
        let mut context = match self.open.take() {
            Some((open, context)) if open == kind => context,
            _ => {
                self.opens += 1;
                opened(name, kind, self.format)?
            }
        };
        let mut image = self.converter.convert_to_av(surface, color, &EncoderFrame::whole(target, kind.width, kind.height, color))?;
        image.quality = context.global_quality;
        image.pts = self.pts;
        // Bytes 16 to 20 of a profile name its colour space.
        let is_gray = matches!(target, ffi::AVPixelFormat::GRAY8 | ffi::AVPixelFormat::GRAY16BE);
        let colors: &[u8] = if is_gray { b"GRAY" } else { b"RGB " };
        if let Some(profile) = profile.filter(|profile| profile.get(16..20) == Some(colors)) {
            image.add_side_data(ffi::AVFrameSideDataType::ICC_PROFILE, profile);
        }
        self.pts += 1;
        let mut packet = AvPacket::new();
        // SAFETY: an open encoder, a valid frame and an owned packet.
        let code = unsafe {
            let sent = ffi::avcodec_send_frame(context.as_mut_ptr(), image.as_ptr());
            let received = ffi::avcodec_receive_packet(context.as_mut_ptr(), packet.as_mut_ptr());
            sent.min(received)
        };
        if code < 0 {
            return Err(av::error("encoding an image", code));
        }
        self.open = Some((kind, context));
        Ok(packet.data().to_vec())
    }

    /// How often an encoder was opened.
    pub fn opens(&self) -> u64 {
        self.opens
    }
}

fn opened(name: &std::ffi::CStr, kind: Kind, format: ImageFormat) -> Result<CodecContext, MediaError> {
    // SAFETY: a zero-terminated name; descriptions are static.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()) };
    if codec.is_null() {
        let what = format!("writing {}", name.to_string_lossy());
        return Err(MediaError::Unsupported { what, reason: "this FFmpeg was built without the encoder".into() });
    }
    let mut context = CodecContext::new(codec);
    (context.width, context.height) = (kind.width as i32, kind.height as i32);
    context.pix_fmt = kind.target;
    context.time_base = ffi::AVRational { num: 1, den: 25 };
    // More threads would delay images.
    context.thread_count = 1;
    if let ImageFormat::Jpeg { quality } = format {
        context.flags |= ffi::AV_CODEC_FLAG_QSCALE as i32;
        context.global_quality = ffi::FF_QP2LAMBDA * jpeg_quantiser(quality);
        context.color_range = ffi::AVColorRange(2);
    }
    // SAFETY: a configured context without further options.
    let code = unsafe { ffi::avcodec_open2(context.as_mut_ptr(), codec, ptr::null_mut()) };
    if code < 0 { Err(av::error("opening the image encoder", code)) } else { Ok(context) }
}

/// FFmpeg's quantiser, 2 (best) to 31, for a quality from 1 to 100.
fn jpeg_quantiser(quality: u8) -> i32 {
    let quality = i32::from(quality.clamp(1, 100));
    2 + (100 - quality) * 29 / 99
}

#[cfg(test)]
mod tests {
    use framerail_core::FramePool;

    use super::*;

    /// A gradient that differs for each number.
    fn image(format: PixelFormat, width: u32, height: u32, number: usize) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, width, height).expect("size in range");
        let mut planes = surface.planes_mut().expect("own");
        for plane in 0..format.planes() {
            planes.plane(plane).iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * (3 + number) + 50 * number) as u8);
        }
        surface
    }

    #[test]
    fn one_encoder_makes_the_files_that_new_ones_make() {
        let color = ColorDescription::default();
        for (format, pixels) in [
            (ImageFormat::Jpeg { quality: 80 }, PixelFormat::Yuv420p),
            (ImageFormat::Jpeg { quality: 30 }, PixelFormat::Gray8),
            (ImageFormat::Png, PixelFormat::Rgb24),
            (ImageFormat::Png, PixelFormat::Rgba),
        ] {
            let mut kept = ImageEncoder::new(format);
            for (number, (width, height, opens)) in
                [(64, 48, 1), (64, 48, 1), (64, 48, 1), (32, 20, 2), (64, 48, 3)].into_iter().enumerate()
            {
                let surface = image(pixels, width, height, number);
                let file = kept.encode(&surface, &color).expect("encoded");
                assert_eq!(file, ImageEncoder::new(format).encode(&surface, &color).expect("encoded"), "{format:?} {number}");
                assert_eq!(kept.opens(), opens, "{format:?} {number}");
            }
        }
    }
}

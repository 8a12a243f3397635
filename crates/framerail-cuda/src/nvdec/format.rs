//! Stream format from the sequence header.

use framerail_core::{ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, PixelFormat, Rational, Rotation};

use super::{
    codec::{Chroma, NvdecCodec},
    ffi,
};
use crate::CudaError;

/// A stream's format from its sequence header, and the output format of its frames.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamFormat {
    /// Codec.
    pub codec: NvdecCodec,
    /// Chroma subsampling.
    pub chroma: Chroma,
    /// Bits per sample.
    pub bits: u32,
    /// Width and height of coded frames, in pixels.
    pub coded_size: (u32, u32),
    /// Width and height of displayed frames, in pixels.
    pub size: (u32, u32),
    /// Left and top of the displayed area.
    pub(super) origin: (u32, u32),
    /// Pixel format of the output.
    pub pixel_format: PixelFormat,
    /// Colour tags of the sequence header.
    pub color: ColorDescription,
    /// Shape of one pixel, if specified and not square.
    pub sample_aspect_ratio: Option<Rational>,
    /// Frames per second, if specified.
    pub frame_rate: Option<Rational>,
    /// Surfaces that the codec's reference frames need.
    pub(super) min_surfaces: u32,
}

impl StreamFormat {
    pub(super) fn new(codec: NvdecCodec, raw: &ffi::VideoFormat) -> Result<Self, CudaError> {
        let bits = u32::from(raw.luma_depth_minus8.max(raw.chroma_depth_minus8)) + 8;
        let Some(chroma) = Chroma::from_id(raw.chroma_format) else {
            return Err(CudaError::Unsupported {
                what: format!("{codec}"),
                reason: format!("unknown chroma format {}", raw.chroma_format),
            });
        };
        let pixel_format = match (chroma, bits) {
            (Chroma::Yuv420 | Chroma::Monochrome, 8) => PixelFormat::Nv12,
            (Chroma::Yuv420 | Chroma::Monochrome, 10) => PixelFormat::P010,
            (Chroma::Yuv444, 8) => PixelFormat::Yuv444p,
            _ => return Err(not_taken(codec, chroma, bits)),
        };
        let side = |from: i32, to: i32| u32::try_from(i64::from(to) - i64::from(from)).ok().filter(|side| *side > 0);
        let area = raw.display_area;
        let inside = area.left >= 0
            && area.top >= 0
            && u32::try_from(area.right).is_ok_and(|right| right <= raw.coded_width)
            && u32::try_from(area.bottom).is_ok_and(|bottom| bottom <= raw.coded_height);
        let (origin, size) = match (side(area.left, area.right), side(area.top, area.bottom)) {
            (Some(width), Some(height)) if inside => ((area.left.unsigned_abs(), area.top.unsigned_abs()), (width, height)),
            _ => ((0, 0), (raw.coded_width, raw.coded_height)),
        };
        Ok(Self {
            codec,
            chroma,
            bits,
            coded_size: (raw.coded_width, raw.coded_height),
            size,
            origin,
            pixel_format,
            color: color(codec, raw),
            sample_aspect_ratio: pixel_shape(raw.display_aspect_ratio, size),
            frame_rate: ratio(raw.frame_rate[0], raw.frame_rate[1]),
            min_surfaces: u32::from(raw.min_decode_surfaces).max(1),
        })
    }

    /// The assumed format of a stream of this size and depth, before its sequence header is known: for planning memory.
    pub fn guess(width: u32, height: u32, bits: u32) -> Self {
        Self {
            codec: NvdecCodec::H264,
            chroma: Chroma::Yuv420,
            bits,
            coded_size: (width, height),
            size: (width, height),
            origin: (0, 0),
            pixel_format: if bits > 8 { PixelFormat::P010 } else { PixelFormat::Nv12 },
            color: ColorDescription::default(),
            sample_aspect_ratio: None,
            frame_rate: None,
            min_surfaces: 1,
        }
    }

    /// The format of frames that are rotated after decoding.
    pub fn turned(&self, rotation: Rotation) -> Self {
        let mut turned = self.clone();
        if rotation.swaps_sides() {
            turned.size = (self.size.1, self.size.0);
            turned.sample_aspect_ratio = self.sample_aspect_ratio.and_then(|ratio| Rational::new(ratio.den, ratio.num));
        }
        turned
    }

    /// `cudaVideoSurfaceFormat` of the output.
    pub(super) fn output_format(&self) -> i32 {
        match self.pixel_format {
            PixelFormat::Nv12 => ffi::surface_format::NV12,
            PixelFormat::P010 => ffi::surface_format::P016,
            _ => ffi::surface_format::YUV444,
        }
    }

    /// Whether the same decoder object can continue with the other format, possibly after reconfiguration.
    pub(super) fn same_kind(&self, other: &StreamFormat) -> bool {
        (self.codec, self.chroma, self.bits) == (other.codec, other.chroma, other.bits)
    }
}

/// The error for a kind of stream that framerail does not decode on GPUs, even if the GPU could.
fn not_taken(codec: NvdecCodec, chroma: Chroma, bits: u32) -> CudaError {
    CudaError::Unsupported {
        what: format!("{codec} {chroma} {bits} bit"),
        reason: "on a GPU framerail supports 4:2:0 with 8 or 10 bits and 4:4:4 with 8; others are decoded on the CPU".into(),
    }
}

fn ratio(num: u32, den: u32) -> Option<Rational> {
    Rational::new(num.into(), den.into()).filter(|ratio| ratio.is_positive())
}

/// H.273 code points, as in every codec's sequence header.
fn color(codec: NvdecCodec, raw: &ffi::VideoFormat) -> ColorDescription {
    // If these codecs specify no colour, the parser reports their standards' default, BT.709, which players do not follow and
    // which cannot be told apart from a specified value. So keep the container's tags, which FFmpeg completes from the headers.
    if matches!(codec, NvdecCodec::Mpeg1 | NvdecCodec::Mpeg2 | NvdecCodec::Mpeg4) {
        return ColorDescription::default();
    }
    let matrix = ColorMatrix::from_code_point(raw.matrix_coefficients);
    ColorDescription {
        // A missing colour description is all zero, which would mean RGB in 4:2:0.
        matrix: if raw.chroma_format != Chroma::Yuv444.id() && matrix == ColorMatrix::Rgb { ColorMatrix::Unspecified } else { matrix },
        // A missing colour description also means limited; the container may know better.
        range: if raw.signal_bits & 0x08 != 0 { ColorRange::Full } else { ColorRange::Unspecified },
        primaries: ColorPrimaries(if raw.color_primaries == 0 { 2 } else { raw.color_primaries }),
        transfer: ColorTransfer(if raw.transfer_characteristics == 0 { 2 } else { raw.transfer_characteristics }),
        chroma_location: 0,
    }
}

/// Pixel aspect ratio from the display aspect ratio; `None` when square.
fn pixel_shape([x, y]: [i32; 2], (width, height): (u32, u32)) -> Option<Rational> {
    let num = i64::from(x) * i64::from(height);
    let den = i64::from(y) * i64::from(width);
    if num <= 0 || den <= 0 || num == den {
        return None;
    }
    let (mut a, mut b) = (num, den);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    Rational::new(num / a, den / a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw() -> ffi::VideoFormat {
        ffi::VideoFormat {
            coded_width: 1920,
            coded_height: 1088,
            display_area: ffi::Rect { left: 0, top: 0, right: 1920, bottom: 1080 },
            chroma_format: 1,
            display_aspect_ratio: [16, 9],
            frame_rate: [30_000, 1001],
            matrix_coefficients: 1,
            min_decode_surfaces: 6,
            ..Default::default()
        }
    }

    #[test]
    fn a_sequence_header_becomes_a_format() {
        let format = StreamFormat::new(NvdecCodec::H264, &raw()).expect("supported");
        assert_eq!((format.size, format.pixel_format, format.bits), ((1920, 1080), PixelFormat::Nv12, 8));
        assert_eq!((format.sample_aspect_ratio, format.color.matrix), (None, ColorMatrix::Bt709));
        let mpeg4 = StreamFormat::new(NvdecCodec::Mpeg4, &raw()).expect("supported");
        assert_eq!(mpeg4.color.matrix, ColorMatrix::Unspecified, "perhaps a default: not the stream's word");
        let ten = ffi::VideoFormat { luma_depth_minus8: 2, chroma_depth_minus8: 2, ..raw() };
        assert_eq!(StreamFormat::new(NvdecCodec::Hevc, &ten).expect("supported").pixel_format, PixelFormat::P010);
    }

    #[test]
    fn what_is_not_given_out_is_refused_with_its_name() {
        let chroma422 = ffi::VideoFormat { chroma_format: 2, ..raw() };
        let error = StreamFormat::new(NvdecCodec::H264, &chroma422).expect_err("4:2:2");
        assert!(error.to_string().contains("h264 4:2:2 8 bit"), "{error}");
        let deep = ffi::VideoFormat { luma_depth_minus8: 4, chroma_depth_minus8: 4, ..raw() };
        let error = StreamFormat::new(NvdecCodec::Hevc, &deep).expect_err("12 bit");
        assert!(error.to_string().contains("framerail supports"), "not the engine's fault: {error}");
    }

    #[test]
    fn a_display_area_outside_of_the_frame_is_ignored() {
        let wild = ffi::VideoFormat { display_area: ffi::Rect { left: -5, top: 0, right: 99_999, bottom: 10 }, ..raw() };
        assert_eq!(StreamFormat::new(NvdecCodec::H264, &wild).expect("supported").size, (1920, 1088));
    }

    #[test]
    fn non_square_pixels_are_reported() {
        assert_eq!(pixel_shape([4, 3], (720, 576)), Rational::new(16, 15));
        assert_eq!(pixel_shape([0, 0], (720, 576)), None);
    }
}

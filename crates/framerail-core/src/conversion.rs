//! Parameters of a frame-to-tensor conversion: computed in one place, executed on the CPU or the GPU.

use crate::{Resize, ResizeAxis, ResizeTaps};

/// The resampling method of a conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// Interpolates between the nearest four pixels, with pixel centres at halves and no antialiasing, as OpenCV's `INTER_LINEAR`.
    /// Subsampled chroma is repeated first, as in FFmpeg's conversion of 8-bit planar 4:2:0 to RGB. For NV12, P010 and
    /// deeper 4:2:0, FFmpeg interpolates chroma; this does not.
    #[default]
    Bilinear,
    /// The same positions in the 8-bit arithmetic of FFmpeg and OpenCV: each pixel is converted to 8-bit RGB, then `INTER_LINEAR`
    /// weighs it in units of 1/2048. Matches the usual Python preprocessing bit for bit for 8-bit RGB, and for 8-bit planar
    /// 4:2:0 and 4:2:2 with an even number of rows. Other formats are converted exactly and rounded, and their chroma is repeated where
    /// FFmpeg interpolates it.
    Bilinear8Bit,
    /// Averages the stored components over the area that an output pixel covers; suited to strong downscaling.
    Area,
    /// Converts each pixel to output channels first (in 8 bits for 8-bit formats), then applies a filter. Matches readers that decode at
    /// full size and resize afterwards. The filter does not read beyond the edges of the window.
    Filter(Resize),
}

/// The part of a frame that is resampled, in frame pixels. Edge pixels are repeated beyond the frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropWindow {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width, above 0.
    pub width: f32,
    /// Height, above 0.
    pub height: f32,
}

/// Where the resampled part is placed in the tensor, in tensor pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// A linear combination of up to three components, clamped to 0..=255, then scaled and shifted:
/// `clamp(gain · samples + bias, 0, 255) · scale + shift`.
// C layout: passed to kernels unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct ChannelMix {
    /// Weight of each component's stored samples.
    pub gain: [f32; 3],
    /// Added before clamping.
    pub bias: f32,
    /// Multiplies the clamped value.
    pub scale: f32,
    /// Added last.
    pub shift: f32,
}

/// Coefficients of FFmpeg's vectorised 8-bit Y'CbCr to RGB conversion: Q13, for samples and offsets multiplied by eight.
///
/// Source: Rec. ITU-T H.273, clause 8.3, with the rounding steps of swscale's 16-bit arithmetic. The output is bit-exact with
/// swscale's.
// C layout: passed to kernels unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FastYuv {
    /// Luma black level, times eight.
    pub black: i16,
    /// Luma coefficient.
    pub luma: i16,
    /// Coefficient of Cr for red.
    pub red_cr: i16,
    /// Coefficients of Cb and Cr for green.
    pub green: [i16; 2],
    /// Coefficient of Cb for blue.
    pub blue_cb: i16,
}

/// The parameters of a conversion.
///
/// An element inside `placement` is resampled from `window` with `sampling`, component by component, as stored sample values
/// (shifted left where the format shifts them). Channel `c` is then `clamp(gain · samples + bias, 0, 255) · scale + shift` with
/// `mixes[c]`. Elements outside `placement` are `padding[c]`. With [`Sampling::Bilinear8Bit`], pixels are converted to 8-bit channels
/// before interpolation; with [`Sampling::Filter`], to channels that are rounded to 8 bits if `in_bytes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    /// The part of the frame that is resampled.
    pub window: CropWindow,
    /// Where it is placed in the tensor.
    pub placement: Placement,
    /// Size that `window` is resized to, of which the placement may show only a part; used with a filter.
    pub resized: (u32, u32),
    /// First column and row of the resized window that the placement shows.
    pub cut: (u32, u32),
    /// The resampling method.
    pub sampling: Sampling,
    /// One per channel, in tensor order. For HSV tensors, gain and bias yield red, green and blue, while
    /// scale and shift apply to hue, saturation and value.
    pub mixes: [ChannelMix; 3],
    /// Element outside the placement, for each channel.
    pub padding: [f32; 3],
    /// For 8-bit Y'CbCr in colour: replaces gain and bias where 8-bit channels are computed with FFmpeg's arithmetic.
    pub fast: Option<FastYuv>,
    /// Whether a filter's input channels are rounded to 8 bits.
    pub in_bytes: bool,
    /// Bits by which 16-bit samples are shifted right first: 0 when `mixes` apply to stored values; 6 (10-bit samples in the high bits) or
    /// 4 (12-bit) when they apply to code values.
    pub value_shift: u32,
}

impl Conversion {
    /// Filter taps for each column and row of the placement, for a frame of this size; `None` unless `sampling` is a filter.
    pub fn taps(&self, width: u32, height: u32) -> Option<(ResizeTaps, ResizeTaps)> {
        let (Sampling::Filter(resize), CropWindow { x, y, .. }) = (self.sampling, self.window) else { return None };
        let across = ResizeAxis { pixels: width, origin: x.into(), extent: self.window.width.into(), out: self.resized.0 };
        let down = ResizeAxis { pixels: height, origin: y.into(), extent: self.window.height.into(), out: self.resized.1 };
        let across = ResizeTaps::new(resize, across, self.cut.0..self.cut.0 + self.placement.width);
        Some((across, ResizeTaps::new(resize, down, self.cut.1..self.cut.1 + self.placement.height)))
    }
}

/// Tone-mapping curves from HDR to SDR, as lookup tables for devices.
///
/// In order: whether brightness depends on luminance (HLG), as 0 or 1; a row-major 3×3 matrix to BT.709 primaries; then
/// tables of [`ToneCurves::ENTRIES`] numbers each: signal to linear light, in equal steps; the factor for the brightest channel, the SDR
/// signal times 255 for linear light, and HLG's factor for luminance, each in equal steps of the fourth root.
#[derive(Clone, Debug, PartialEq)]
pub struct ToneCurves(pub Vec<f32>);

impl ToneCurves {
    /// Number of intervals in a table.
    pub const STEPS: usize = 4096;
    /// Entries per table: one past the last interval's end, so that an interpolation always has a next entry.
    pub const ENTRIES: usize = Self::STEPS + 2;
}

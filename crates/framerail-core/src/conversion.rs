//! A conversion from a picture to a tensor as plain numbers: worked out in one place, run wherever the picture lies.

use crate::{Resize, ResizeAxis, ResizeTaps};

/// How samples between or across pixels are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// Between the nearest four pixels, pixel centres at halves, no antialiasing: as OpenCV's `INTER_LINEAR`.
    /// Subsampled chroma is repeated first, as FFmpeg's scaler does on its way from 8-bit planar 4:2:0 to RGB; for NV12, P010 and
    /// deeper 4:2:0 that scaler interpolates chroma, which this does not.
    #[default]
    Bilinear,
    /// The same positions in 8-bit arithmetic as FFmpeg and OpenCV do it: each pixel becomes 8-bit RGB first, then `INTER_LINEAR`
    /// weighs it in parts of 2048. What models behind Python tools have seen, equal bit by bit for 8-bit RGB and for 8-bit planar
    /// 4:2:0 and 4:2:2 with an even number of rows. Other formats are converted exactly and rounded, with chroma repeated where
    /// FFmpeg interpolates it.
    Bilinear8Bit,
    /// The mean over the area that a pixel covers, of the stored components: right for scaling down by much.
    Area,
    /// Each pixel becomes channels first, in 8 bits where it has so many, and a filter weighs them: what readers give, equal to
    /// resizing the frame at its own size. The part that is taken ends at its edges.
    Filter(Resize),
}

/// The part of a picture that is resampled, in its pixels; beyond the picture its edge is repeated.
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

/// Where the resampled part lies in the tensor, in its pixels.
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

/// A linear combination of up to three components, clamped to 0..=255 and then scaled and shifted:
/// `clamp(gain · samples + bias, 0, 255) · scale + shift`.
// Laid out as in C: kernels are given it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct ChannelMix {
    /// Weight of each component's stored samples.
    pub gain: [f32; 3],
    /// Added before clamping.
    pub bias: f32,
    /// Multiplies the clamped value.
    pub scale: f32,
    /// Added at last.
    pub shift: f32,
}

/// The factors of FFmpeg's vector code from 8-bit Y'CbCr to RGB: Q13, for samples and zeros that are eight times as large.
///
/// Source: Rec. ITU-T H.273, clause 8.3, rounded in the steps that swscale's 16-bit arithmetic takes; equal to its output bit by
/// bit.
// Laid out as in C: kernels are given it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FastYuv {
    /// Eight times luma's black.
    pub black: i16,
    /// Luma's factor.
    pub luma: i16,
    /// Red's from Cr.
    pub red_cr: i16,
    /// Green's from Cb and Cr.
    pub green: [i16; 2],
    /// Blue's from Cb.
    pub blue_cb: i16,
}

/// The numbers of a conversion.
///
/// An element inside of `placement` is resampled from `window` by `sampling`, component by component, as stored sample values
/// (shifted left where the format shifts them). Channel `c` is then `clamp(gain · samples + bias, 0, 255) · scale + shift` by
/// `mixes[c]`; outside it is `padding[c]`. With [`Sampling::Bilinear8Bit`] pixels become 8-bit channels before they are weighed, and
/// with [`Sampling::Filter`] channels, of 8 bits where `in_bytes`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    /// The part that is resampled.
    pub window: CropWindow,
    /// Where it goes.
    pub placement: Placement,
    /// The size that `window` becomes, of which the placement may show only a part: with a filter.
    pub resized: (u32, u32),
    /// First column and row of that size that the placement shows.
    pub cut: (u32, u32),
    /// How samples are found.
    pub sampling: Sampling,
    /// One for each channel, in the tensor's order. For tensors of hue, saturation and value, gain and bias give red, green, blue;
    /// scale and shift are those of hue, saturation, value.
    pub mixes: [ChannelMix; 3],
    /// The element beyond the placement, for each channel.
    pub padding: [f32; 3],
    /// Replaces gain and bias where 8-bit channels are made by FFmpeg's arithmetic; for 8-bit Y'CbCr in colour.
    pub fast: Option<FastYuv>,
    /// Whether a filter weighs channels that were rounded to 8 bits.
    pub in_bytes: bool,
    /// Bits by which 16-bit samples are shifted right first: 0 when `mixes` are for stored values, 6 when they are for the codes
    /// of 10-bit samples in the high bits, 4 for 12 bits.
    pub value_shift: u32,
}

impl Conversion {
    /// The pixels of a picture of this size that make up each column and each row of the placement, where a filter weighs them.
    pub fn taps(&self, width: u32, height: u32) -> Option<(ResizeTaps, ResizeTaps)> {
        let (Sampling::Filter(resize), CropWindow { x, y, .. }) = (self.sampling, self.window) else { return None };
        let across = ResizeAxis { pixels: width, origin: x.into(), extent: self.window.width.into(), out: self.resized.0 };
        let down = ResizeAxis { pixels: height, origin: y.into(), extent: self.window.height.into(), out: self.resized.1 };
        let across = ResizeTaps::new(resize, across, self.cut.0..self.cut.0 + self.placement.width);
        Some((across, ResizeTaps::new(resize, down, self.cut.1..self.cut.1 + self.placement.height)))
    }
}

/// Curves that turn pixels of high dynamic range into standard range, as devices look them up.
///
/// Numbers in this order: whether light depends on luminance (HLG) as 0 or 1; three rows of three that lead to BT.709's primaries; then
/// tables of [`ToneCurves::ENTRIES`] numbers each: signal to light, by equal steps; the factor by the brightest channel, the standard
/// signal times 255 by light, and HLG's factor by luminance, by equal steps of the fourth root.
#[derive(Clone, Debug, PartialEq)]
pub struct ToneCurves(pub Vec<f32>);

impl ToneCurves {
    /// Intervals of a table.
    pub const STEPS: usize = 4096;
    /// Numbers of a table: one more than the last, so that there always is a next.
    pub const ENTRIES: usize = Self::STEPS + 2;
}

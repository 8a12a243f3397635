//! A conversion from a picture to a model input as plain numbers: what runs here, and what devices are given to run.

use framerail_core::BBox;

use crate::{Fit, ModelMapping, Preprocess, Sampling};
pub use crate::{color::FastYuv, kernels::ChannelMix};

/// Where the resized picture lies in the model input, in model pixels.
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

impl Placement {
    pub(crate) fn new(spec: &Preprocess, crop: &BBox) -> Self {
        let Fit::Letterbox { centered, .. } = spec.fit else {
            return Self { left: 0, top: 0, width: spec.width, height: spec.height };
        };
        let (crop_width, crop_height) = (f64::from(crop.width()), f64::from(crop.height()));
        let scale = (f64::from(spec.width) / crop_width).min(f64::from(spec.height) / crop_height);
        let width = ((crop_width * scale).round() as u32).clamp(1, spec.width);
        let height = ((crop_height * scale).round() as u32).clamp(1, spec.height);
        let (left, top) = if centered { ((spec.width - width) / 2, (spec.height - height) / 2) } else { (0, 0) };
        Self { left, top, width, height }
    }
}

/// The numbers of one conversion; made by [`crate::Preprocessor::plan`].
///
/// An output pixel inside of `placement` is resampled from `crop` by `sampling`, component by component, as stored sample values
/// (shifted left where the format shifts them). Channel `c` is then `clamp(gain · samples + bias, 0, 255) · scale + shift` by
/// `mixes[c]`; outside it is `padding[c]`. With [`Sampling::Bilinear8Bit`] pixels become 8-bit channels before they are weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConversionPlan {
    /// The part of the picture that is resampled, in frame pixels; beyond the frame its edge is repeated.
    pub crop: BBox,
    /// Where it goes.
    pub placement: Placement,
    /// How samples are found.
    pub sampling: Sampling,
    /// One for each channel, in the order of the output; those of channels that are not there are zero.
    pub mixes: [ChannelMix; 3],
    /// The element beyond the picture, for each channel.
    pub padding: [f32; 3],
    /// Replaces `gain` and `bias` where 8-bit sampling takes FFmpeg's arithmetic.
    pub fast: Option<FastYuv>,
    /// From frame to model pixels.
    pub mapping: ModelMapping,
}

//! A conversion from a picture to a model input as plain numbers: what runs here, and what devices are given to run.

use framerail_core::{BBox, Conversion, CropWindow, PixelAspect, Resize, ResizeFilter, ResizeTaps};
pub use framerail_core::{ChannelMix, FastYuv, Placement};

use crate::{Fit, ModelMapping, Preprocess, Sampling};

/// Where a picture's crop lies in the model input. A letterbox keeps the shape that the picture has on a screen, so that models see
/// square pixels.
pub(crate) fn placement(spec: &Preprocess, crop: &BBox, pixels: PixelAspect) -> Placement {
    let Fit::Letterbox { centered, .. } = spec.fit else {
        return Placement { left: 0, top: 0, width: spec.width, height: spec.height };
    };
    let (crop_width, crop_height) = (f64::from(crop.width()) * f64::from(pixels.ratio()), f64::from(crop.height()));
    let scale = (f64::from(spec.width) / crop_width).min(f64::from(spec.height) / crop_height);
    let width = ((crop_width * scale).round() as u32).clamp(1, spec.width);
    let height = ((crop_height * scale).round() as u32).clamp(1, spec.height);
    let (left, top) = if centered { ((spec.width - width) / 2, (spec.height - height) / 2) } else { (0, 0) };
    Placement { left, top, width, height }
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
    /// The size that `crop` becomes, of which the placement may show only a part.
    pub resized: (u32, u32),
    /// First column and row of that size that the placement shows.
    pub cut: (u32, u32),
    /// How samples are found.
    pub sampling: Sampling,
    /// One for each channel, in the order of the output; those of channels that are not there are zero.
    pub mixes: [ChannelMix; 3],
    /// The element beyond the picture, for each channel.
    pub padding: [f32; 3],
    /// Replaces `gain` and `bias` where 8-bit channels are made by FFmpeg's arithmetic.
    pub fast: Option<FastYuv>,
    /// Whether a filter weighs channels that were rounded to 8 bits.
    pub in_bytes: bool,
    /// From frame to model pixels.
    pub mapping: ModelMapping,
}

impl ConversionPlan {
    /// What a device is given to run.
    pub fn conversion(&self) -> Conversion {
        let Self { crop, placement, resized, cut, sampling, mixes, padding, fast, in_bytes, .. } = *self;
        let window = CropWindow { x: crop.x1, y: crop.y1, width: crop.width(), height: crop.height() };
        Conversion { window, placement, resized, cut, sampling, mixes, padding, fast, in_bytes, value_shift: 0 }
    }

    /// The pixels of a frame of this size that make up each column and each row of the placement.
    pub(crate) fn taps(&self, width: u32, height: u32) -> (ResizeTaps, ResizeTaps) {
        let resize = match self.sampling {
            Sampling::Filter(resize) => resize,
            Sampling::Bilinear | Sampling::Bilinear8Bit => Resize { filter: ResizeFilter::Bilinear, antialias: false },
            Sampling::Area => Resize { filter: ResizeFilter::Area, antialias: true },
        };
        let filtered = Conversion { sampling: Sampling::Filter(resize), ..self.conversion() };
        filtered.taps(width, height).unwrap_or_else(|| unreachable!("a filter has taps"))
    }
}

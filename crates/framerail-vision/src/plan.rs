//! A conversion from a frame to a model input as plain numbers, which the host or a device can run.

use framerail_core::{BBox, Conversion, CropWindow, PixelAspect, Resize, ResizeFilter, ResizeTaps};
pub use framerail_core::{ChannelMix, FastYuv, Placement};

use crate::{Fit, ModelMapping, Preprocess, Sampling};

/// Returns where a frame's crop lies in the model input. A letterbox keeps the display aspect ratio, so that models see
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

/// The parameters of one conversion, from [`crate::Preprocessor::plan`].
///
/// An output pixel inside `placement` is resampled from `crop` by `sampling`, component by component, as stored sample values
/// (shifted left where the format shifts them). Channel `c` is then `clamp(gain · samples + bias, 0, 255) · scale + shift` with
/// `mixes[c]`; outside `placement` it is `padding[c]`. With [`Sampling::Bilinear8Bit`], pixels become 8-bit channels before resampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConversionPlan {
    /// The part of the frame that is resampled, in frame pixels. Beyond the frame, its edge is repeated.
    pub crop: BBox,
    /// Where the result lies in the output.
    pub placement: Placement,
    /// The size to which `crop` is resized; the placement may show only a part of it.
    pub resized: (u32, u32),
    /// First column and row of the resized crop that the placement shows.
    pub cut: (u32, u32),
    /// How samples are interpolated.
    pub sampling: Sampling,
    /// One mix per output channel, in output order; zero for unused channels.
    pub mixes: [ChannelMix; 3],
    /// The element outside the placement, for each channel.
    pub padding: [f32; 3],
    /// Replaces `gain` and `bias` where 8-bit channels are computed in FFmpeg's arithmetic.
    pub fast: Option<FastYuv>,
    /// Whether a filter works on channels that were rounded to 8 bits.
    pub in_bytes: bool,
    /// Maps frame pixels to model pixels.
    pub mapping: ModelMapping,
}

impl ConversionPlan {
    /// Returns the conversion in the form that devices run.
    pub fn conversion(&self) -> Conversion {
        let Self { crop, placement, resized, cut, sampling, mixes, padding, fast, in_bytes, .. } = *self;
        let window = CropWindow { x: crop.x1, y: crop.y1, width: crop.width(), height: crop.height() };
        Conversion { window, placement, resized, cut, sampling, mixes, padding, fast, in_bytes, value_shift: 0 }
    }

    /// Returns the pixels of a frame of this size that make up each column and each row of the placement.
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

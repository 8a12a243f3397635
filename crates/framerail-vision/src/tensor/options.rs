//! What a tensor made of pictures is like, on any device.

use framerail_core::{
    BBox, ColorDescription, DType, PixelAspect, PixelFormat, Sampling, TensorLayout, TensorSpec, ToneCurves, surface::MAX_SIDE,
};

use super::tone::ToneMapper;

use crate::{ChannelOrder, ConversionPlan, Fit, Placement, Preprocess, Preprocessor, Resize, VisionError};

/// The size that pictures are resized to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TensorSize {
    /// That of the crop or of the frame.
    #[default]
    Own,
    /// This width and height in pixels.
    Exact(u32, u32),
    /// The shorter side becomes so long, the other in proportion and rounded down, as torchvision's `Resize` with one number.
    ShortSide {
        /// Pixels of the shorter side.
        length: u32,
        /// Most pixels of the longer side; the shorter one is then less.
        max: Option<u32>,
    },
    /// The longer side becomes so long, the other in proportion and rounded down.
    LongSide(u32),
}

impl TensorSize {
    /// Both sides, where they are given.
    pub fn exact(self) -> Option<(u32, u32)> {
        if let TensorSize::Exact(width, height) = self { Some((width, height)) } else { None }
    }

    /// Width and height that a picture of this size becomes, whatever its sides.
    pub fn of(self, width: u32, height: u32) -> (u32, u32) {
        let (short, long) = (width.min(height), width.max(height));
        // In double precision and rounded down, as Python does it.
        let part = |of: u32, length: u32, whole: u32| (f64::from(of) * f64::from(length) / f64::from(whole.max(1))) as u32;
        let (new_short, new_long) = match self {
            TensorSize::Own => return (width, height),
            TensorSize::Exact(width, height) => return (width, height),
            TensorSize::ShortSide { length, max } => match (part(length, long, short), max) {
                (new_long, Some(max)) if new_long > max => (part(max, length, new_long), max),
                (new_long, _) => (length, new_long),
            },
            TensorSize::LongSide(length) => (part(length, short, long), length),
        };
        let (new_short, new_long) = (new_short.max(1), new_long.max(1));
        if width <= height { (new_short, new_long) } else { (new_long, new_short) }
    }
}

/// A part of a resized picture, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Columns left of it.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Columns that are kept.
    pub width: u32,
    /// Rows that are kept.
    pub height: u32,
}

/// How pictures of high dynamic range become BT.709 pictures of standard range.
///
/// Pictures are taken to be made for a peak of 1000 cd/m²; the curve leads from there to
/// a white of 203 cd/m² (Report ITU-R BT.2408). One factor for all channels of a pixel, found by its brightest, keeps the hue. Light then goes
/// from the stream's primaries to BT.709's and into the signal of a standard display (Rec. ITU-R BT.1886).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToneMap {
    /// The curve of Report ITU-R BT.2390 ("EETF"), in PQ values of the brightest channel.
    Bt2390,
    /// John Hable's filmic curve, on linear light.
    Hable,
}

/// The one description of a tensor output, for the host and for cards.
///
/// A picture is cropped, resized or letterboxed, turned into channels by its matrix and range, scaled and laid out. An element is
/// `(value * scale - mean[c]) / std[c]` with `value` full-range in 0..=255 and `c` the channel in `channel_order`; `U8` elements
/// are rounded to the nearest, ties to even, and cut off at 0 and 255. `U16` elements are 257 times as large, so that full range is 0
/// to 65535, and rounded likewise. Alpha is only scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorOptions {
    /// The part that is taken, in frame pixels; beyond the frame its edge is repeated. The whole frame by default.
    pub crop: Option<BBox>,
    /// The size that pictures are resized to.
    pub size: TensorSize,
    /// Width and height of the part in the middle of the resized picture that is kept; 0 is around it where it is smaller, as with
    /// torchvision's `CenterCrop`. Not with a letterbox.
    pub center_crop: Option<(u32, u32)>,
    /// The part of the resized picture that is kept, which lies within it. Neither with a letterbox nor with `center_crop`.
    pub cut: Option<Cut>,
    /// How a picture of another shape is fitted in.
    pub fit: Fit,
    /// How samples are found when sizes differ.
    pub sampling: Sampling,
    /// The channels.
    pub channel_order: ChannelOrder,
    /// Planes or interleaved channels.
    pub layout: TensorLayout,
    /// Type of the elements.
    pub dtype: DType,
    /// Multiplies the values 0..=255 first: 1 or 1/255, usually.
    pub scale: f32,
    /// Taken off each channel after scaling.
    pub mean: [f32; 3],
    /// Divides each channel at last; never 0.
    pub std: [f32; 3],
    /// Turns pictures with PQ or HLG transfer into BT.709 of standard range. Others stay as they are, and so do all by default:
    /// PQ and HLG values are then handed on as data.
    pub tone_map: Option<ToneMap>,
}

impl Default for TensorOptions {
    /// RGB planes of 8 bits at the picture's own size.
    fn default() -> Self {
        Self {
            crop: None,
            size: TensorSize::Own,
            center_crop: None,
            cut: None,
            fit: Fit::Stretch,
            sampling: Sampling::Filter(Resize::default()),
            channel_order: ChannelOrder::Rgb,
            layout: TensorLayout::Tchw,
            dtype: DType::U8,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
            tone_map: None,
        }
    }
}

impl TensorOptions {
    /// Width and height of the tensor's picture, for a frame of this size.
    pub fn picture_size(&self, width: u32, height: u32) -> (u32, u32) {
        let cut = self.cut.map(|cut| (cut.width, cut.height));
        cut.or(self.center_crop).unwrap_or_else(|| self.resized(width, height))
    }

    /// The size before the middle is cut out.
    fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        let side = |length: f32| (length.round() as u32).clamp(1, MAX_SIDE);
        let (width, height) = self.crop.map_or((width, height), |crop| (side(crop.width()), side(crop.height())));
        self.size.of(width, height)
    }

    /// The tensor that a frame of this size becomes.
    pub fn tensor_spec(&self, width: u32, height: u32) -> TensorSpec {
        let (width, height) = self.picture_size(width, height);
        TensorSpec { width, height, layout: self.layout, dtype: self.dtype, channel_order: self.channel_order }
    }

    /// Bytes of one picture, for a frame of this size.
    pub fn picture_bytes(&self, width: u32, height: u32) -> usize {
        self.tensor_spec(width, height).picture_bytes()
    }

    /// Elements of one picture, for a frame of this size.
    pub fn picture_elements(&self, width: u32, height: u32) -> usize {
        self.tensor_spec(width, height).picture_elements()
    }

    /// The three sides of one picture in the order of the layout: `[C, H, W]` or `[H, W, C]`.
    pub fn picture_shape(&self, width: u32, height: u32) -> [usize; 3] {
        let (width, height) = self.picture_size(width, height);
        let (width, height, channels) = (width as usize, height as usize, self.channel_order.channels());
        match self.layout {
            TensorLayout::Tchw => [channels, height, width],
            TensorLayout::Thwc => [height, width, channels],
        }
    }

    /// Whether the options make sense, whatever the frames will be like.
    ///
    /// # Errors
    /// `OptionOutOfRange` for a side of 0 or above 32768, an empty, far-off or non-finite crop, a `std` of 0, or numbers that are
    /// not finite.
    pub fn check(&self) -> Result<(), VisionError> {
        // Any frame will do: what is checked does not depend on it.
        self.plan(1, 1, PixelFormat::Rgb24, &ColorDescription::default(), PixelAspect::SQUARE).map(drop)
    }

    /// The conversion of frames of one size, format, colour and pixel shape as plain numbers, for other implementations. Tone
    /// mapping is not part of it.
    ///
    /// # Errors
    /// As [`TensorOptions::check`].
    pub fn plan(
        &self,
        width: u32,
        height: u32,
        format: PixelFormat,
        color: &ColorDescription,
        pixels: PixelAspect,
    ) -> Result<ConversionPlan, VisionError> {
        let mut plan = self.preprocessor(width, height)?.plan(width, height, format, color, pixels, self.crop)?;
        self.cut_out(&mut plan)?;
        self.cut_out_middle(&mut plan)?;
        // Eight bits hold all that there is, and are what a frame at its own size has; before a tone curve they would show as steps.
        if self.is_tone_mapped(color) {
            (plan.in_bytes, plan.fast) = (false, None);
        }
        let BBox { x1, y1, .. } = plan.crop;
        let same_size = (plan.resized.0 as f32, plan.resized.1 as f32) == (plan.crop.width(), plan.crop.height());
        let keeps_pixels = same_size && (x1.fract(), y1.fract()) == (0.0, 0.0);
        if !keeps_pixels || !matches!(self.sampling, Sampling::Filter(_)) {
            return Ok(plan);
        }
        // A part of the frame as it is: each pixel by FFmpeg's arithmetic, where it has some for the format.
        let (left, top) = (x1 + plan.cut.0 as f32, y1 + plan.cut.1 as f32);
        let (right, bottom) = (left + plan.placement.width as f32, top + plan.placement.height as f32);
        let sampling = if plan.in_bytes { Sampling::Bilinear8Bit } else { Sampling::Bilinear };
        let (crop, resized) = (BBox::from_xyxy(left, top, right, bottom), (plan.placement.width, plan.placement.height));
        Ok(ConversionPlan { crop, resized, cut: (0, 0), sampling, ..plan })
    }

    /// Keeps a part of the resized picture.
    fn cut_out(&self, plan: &mut ConversionPlan) -> Result<(), VisionError> {
        let Some(Cut { left, top, width, height }) = self.cut else { return Ok(()) };
        let fits = |first: u32, length: u32, side: u32| length > 0 && first.checked_add(length).is_some_and(|end| end <= side);
        if !fits(left, width, plan.resized.0) || !fits(top, height, plan.resized.1) {
            let given = format!("{width}x{height} at {left},{top}");
            return Err(VisionError::option(
                "cut",
                format!("{given} of {}x{}", plan.resized.0, plan.resized.1),
                "a part of the resized picture",
            ));
        }
        if self.fit != Fit::Stretch || self.center_crop.is_some() {
            return Err(VisionError::option("cut", format!("{width}x{height} of a letterbox or of its middle"), "one of both"));
        }
        plan.placement = Placement { left: 0, top: 0, width, height };
        plan.cut = (left, top);
        Ok(())
    }

    /// Places the middle of the resized picture in the tensor.
    fn cut_out_middle(&self, plan: &mut ConversionPlan) -> Result<(), VisionError> {
        let Some((width, height)) = self.center_crop else { return Ok(()) };
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(VisionError::option("center_crop", format!("{width}x{height}"), "sides from 1 to 32768"));
        }
        if self.fit != Fit::Stretch {
            return Err(VisionError::option("center_crop", format!("{width}x{height} of a letterbox"), "one of both"));
        }
        let (across, down) = (Middle::new(plan.resized.0, width), Middle::new(plan.resized.1, height));
        plan.placement = Placement { left: across.place, top: down.place, width: across.length, height: down.length };
        plan.cut = (across.skipped, down.skipped);
        for (padding, mix) in plan.padding.iter_mut().zip(&plan.mixes) {
            *padding = mix.shift;
        }
        Ok(())
    }

    fn is_tone_mapped(&self, color: &ColorDescription) -> bool {
        self.tone_map.is_some() && ToneMapper::is_for(color)
    }

    /// The curves for frames of this colour, for whoever maps them elsewhere; `None` where frames stay as they are.
    pub fn tone_curves(&self, color: &ColorDescription) -> Option<ToneCurves> {
        Some(ToneMapper::new(self.tone_map?, color)?.curves())
    }

    /// The same options for all frames of a stream whose first one has this size: later ones are resized to it.
    #[must_use]
    pub fn pinned(&self, width: u32, height: u32) -> Self {
        let (width, height) = self.resized(width, height);
        let fit = if self.size == TensorSize::Own { Fit::Stretch } else { self.fit };
        Self { size: TensorSize::Exact(width, height), fit, ..*self }
    }

    /// What a channel is multiplied by so that it fills the type.
    fn type_scale(&self) -> f32 {
        if self.dtype == DType::U16 { 257.0 } else { 1.0 }
    }

    /// Multiplies alpha, 0 to 255.
    pub(crate) fn alpha_scale(&self) -> f32 {
        self.scale * self.type_scale()
    }

    /// The same conversion to 32-bit floats, before the middle is cut out.
    fn preprocessor(&self, width: u32, height: u32) -> Result<Preprocessor, VisionError> {
        let (width, height) = self.resized(width, height);
        let Self { sampling, channel_order, layout, std, .. } = *self;
        let channel_order = if channel_order == ChannelOrder::Rgba { ChannelOrder::Rgb } else { channel_order };
        let (scale, mean) = (self.scale * self.type_scale(), self.mean.map(|mean| mean * self.type_scale()));
        // A picture of its own size has nothing to fill.
        let fit = if self.size == TensorSize::Own { Fit::Stretch } else { self.fit };
        let spec = Preprocess { width, height, fit, channel_order, layout, scale, mean, std };
        Ok(Preprocessor::new(spec)?.with_sampling(sampling))
    }
}

/// One axis of a picture whose middle is cut out, as torchvision's `center_crop` finds it.
struct Middle {
    /// Where the picture starts in what is kept.
    place: u32,
    length: u32,
    /// Pixels before the first that is kept.
    skipped: u32,
}

impl Middle {
    fn new(pixels: u32, kept: u32) -> Self {
        let place = kept.saturating_sub(pixels) / 2;
        let skipped = (f64::from(pixels.saturating_sub(kept)) / 2.0).round_ties_even() as u32;
        Self { place, length: pixels.min(kept), skipped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_input_made_by_a_reader_is_converted_as_the_model_converts_it() {
        let color = ColorDescription::default();
        for sampling in [Sampling::Bilinear, Sampling::Bilinear8Bit, Sampling::Area, Sampling::Filter(Resize::default())] {
            for (format, width, height) in
                [(PixelFormat::Nv12, 192, 160), (PixelFormat::Yuv420p, 88, 72), (PixelFormat::Yuv420p10, 192, 160)]
            {
                let options =
                    TensorOptions { size: TensorSize::Exact(width, height), sampling, dtype: DType::F32, ..TensorOptions::default() };
                let found = options.plan(176, 144, format, &color, PixelAspect::SQUARE).expect("valid");
                let TensorOptions { fit, channel_order, layout, scale, mean, std, .. } = options;
                let spec = Preprocess { width, height, fit, channel_order, layout, scale, mean, std };
                let model = Preprocessor::new(spec).expect("valid").with_sampling(sampling);
                let expected = model.plan(176, 144, format, &color, PixelAspect::SQUARE, None).expect("valid");
                assert_eq!(found.conversion(), expected.conversion(), "{sampling:?} of {format}");
            }
        }
    }

    #[test]
    fn sizes_are_those_of_torchvision() {
        let short = |length, max| TensorSize::ShortSide { length, max };
        // (width, height) of the picture, and what torchvision 0.24 makes of it.
        for (size, picture, expected) in [
            (short(224, None), (1920, 1080), (398, 224)),
            (short(224, None), (1080, 1920), (224, 398)),
            (short(224, None), (100, 100), (224, 224)),
            (short(224, Some(300)), (1920, 1080), (300, 168)),
            (short(256, Some(500)), (320, 240), (341, 256)),
            (TensorSize::LongSide(300), (1920, 1080), (300, 168)),
            (TensorSize::Exact(30, 40), (1920, 1080), (30, 40)),
            (short(1, None), (1, 5000), (1, 5000)),
        ] {
            assert_eq!(size.of(picture.0, picture.1), expected, "{size:?} of {picture:?}");
        }
    }
}

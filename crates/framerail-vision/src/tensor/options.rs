//! Describes tensors made from frames, for any device.

use framerail_core::{
    BBox, ColorDescription, DType, PixelAspect, PixelFormat, Sampling, TensorLayout, TensorSpec, ToneCurves, surface::MAX_SIDE,
};

use super::tone::ToneMapper;

use crate::{ChannelOrder, ConversionPlan, Fit, Placement, Preprocess, Preprocessor, Resize, VisionError};

/// The size to which frames are resized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TensorSize {
    /// The size of the crop or of the frame.
    #[default]
    Own,
    /// This width and height in pixels.
    Exact(u32, u32),
    /// The shorter side gets this length, the longer one follows in proportion, rounded down, as torchvision's `Resize` with one number.
    ShortSide {
        /// Length of the shorter side in pixels.
        length: u32,
        /// Maximum length of the longer side in pixels; the shorter one may become shorter for it.
        max: Option<u32>,
    },
    /// The longer side gets this length, the shorter one follows in proportion, rounded down.
    LongSide(u32),
}

impl TensorSize {
    /// Both sides of [`TensorSize::Exact`].
    pub fn exact(self) -> Option<(u32, u32)> {
        if let TensorSize::Exact(width, height) = self { Some((width, height)) } else { None }
    }

    /// Returns the width and height to which a frame of this size is resized.
    pub fn of(self, width: u32, height: u32) -> (u32, u32) {
        let (short, long) = (width.min(height), width.max(height));
        // In double precision and rounded down, as in Python.
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

/// A part of a resized frame, in its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cut {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Number of columns.
    pub width: u32,
    /// Number of rows.
    pub height: u32,
}

/// How frames of high dynamic range are converted to BT.709 of standard dynamic range.
///
/// Frames are assumed to be mastered for a peak of 1000 cd/m². The curve maps this peak to a white of 203 cd/m² (Report ITU-R
/// BT.2408). All channels of a pixel share one factor, given by the brightest channel, which keeps the hue. Light is then converted
/// from the stream's primaries to BT.709's and encoded for a standard display (Rec. ITU-R BT.1886).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ToneMap {
    /// The curve of Report ITU-R BT.2390 ("EETF"), in PQ values of the brightest channel.
    Bt2390,
    /// John Hable's filmic curve, on linear light.
    Hable,
}

/// Describes a tensor output, for the host and for GPUs.
///
/// A frame is cropped, resized or letterboxed, converted to channels by its matrix and range, scaled and laid out. An element is
/// `(value * scale - mean[c]) / std[c]` with `value` full-range in 0..=255 and `c` the channel in `channel_order`. `U8` elements
/// are rounded to the nearest, ties to even, and clamped to 0..=255. `U16` elements are 257 times as large, so that full range is 0
/// to 65535, and are rounded likewise. Alpha is only scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorOptions {
    /// The part of the frame that is used, in frame pixels. Beyond the frame, its edge is repeated. Default: the whole frame.
    pub crop: Option<BBox>,
    /// The size to which frames are resized.
    pub size: TensorSize,
    /// Width and height of the centre part that is kept of the resized frame. Where the frame is smaller, it is padded with 0, as with
    /// torchvision's `CenterCrop`. Not allowed with a letterbox.
    pub center_crop: Option<(u32, u32)>,
    /// The part that is kept of the resized frame; must lie within it. Not allowed with a letterbox or with `center_crop`.
    pub cut: Option<Cut>,
    /// How a frame of a different shape is fitted.
    pub fit: Fit,
    /// How samples are interpolated when sizes differ.
    pub sampling: Sampling,
    /// The channels and their order.
    pub channel_order: ChannelOrder,
    /// Planar or interleaved channels.
    pub layout: TensorLayout,
    /// Type of the elements.
    pub dtype: DType,
    /// Factor applied first to the values 0..=255; usually 1 or 1/255.
    pub scale: f32,
    /// Subtracted from each channel after scaling.
    pub mean: [f32; 3],
    /// Divides each channel last; never 0.
    pub std: [f32; 3],
    /// Converts frames with PQ or HLG transfer to BT.709 of standard dynamic range; other frames are unchanged. With `None`, the
    /// default, PQ and HLG values are passed on as data.
    pub tone_map: Option<ToneMap>,
}

impl Default for TensorOptions {
    /// Planar 8-bit RGB at the frame's own size.
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
    /// Returns width and height of the output for a frame of this size.
    pub fn image_size(&self, width: u32, height: u32) -> (u32, u32) {
        let cut = self.cut.map(|cut| (cut.width, cut.height));
        cut.or(self.center_crop).unwrap_or_else(|| self.resized(width, height))
    }

    /// Returns the size after resizing, before a part is cut out.
    fn resized(&self, width: u32, height: u32) -> (u32, u32) {
        let side = |length: f32| (length.round() as u32).clamp(1, MAX_SIDE);
        let (width, height) = self.crop.map_or((width, height), |crop| (side(crop.width()), side(crop.height())));
        self.size.of(width, height)
    }

    /// Returns the format of the tensor for a frame of this size.
    pub fn tensor_spec(&self, width: u32, height: u32) -> TensorSpec {
        let (width, height) = self.image_size(width, height);
        TensorSpec { width, height, layout: self.layout, dtype: self.dtype, channel_order: self.channel_order }
    }

    /// Bytes of the output for one frame of this size.
    pub fn image_bytes(&self, width: u32, height: u32) -> usize {
        self.tensor_spec(width, height).image_bytes()
    }

    /// Elements of the output for one frame of this size.
    pub fn image_elements(&self, width: u32, height: u32) -> usize {
        self.tensor_spec(width, height).image_elements()
    }

    /// Shape of the output for one frame, in layout order: `[C, H, W]` or `[H, W, C]`.
    pub fn image_shape(&self, width: u32, height: u32) -> [usize; 3] {
        let (width, height) = self.image_size(width, height);
        let (width, height, channels) = (width as usize, height as usize, self.channel_order.channels());
        match self.layout {
            TensorLayout::Tchw => [channels, height, width],
            TensorLayout::Thwc => [height, width, channels],
        }
    }

    /// Checks the options as far as they do not depend on the frames.
    ///
    /// # Errors
    /// `OptionOutOfRange` for a side of 0 or above 32768, an empty, far-off or non-finite crop, a cut that no frame can hold, a
    /// `std` of 0, or numbers that are not finite.
    pub fn check(&self) -> Result<(), VisionError> {
        // Any frame will do unless a part is cut out: a frame of that part's shape holds it if any frame does.
        let (width, height) = self.cut.map_or((1, 1), |cut| (cut.left.saturating_add(cut.width), cut.top.saturating_add(cut.height)));
        self.plan(width.max(1), height.max(1), PixelFormat::Rgb24, &ColorDescription::default(), PixelAspect::SQUARE).map(drop)
    }

    /// Returns the conversion of frames of one size, format, colour and pixel aspect ratio as plain numbers, for other
    /// implementations. Tone mapping is not included.
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
        // 8-bit channels are as exact as 8-bit frames, and match frames at their own size. Before a tone curve they would cause banding.
        if self.is_tone_mapped(color) {
            (plan.in_bytes, plan.fast) = (false, None);
        }
        let BBox { x1, y1, .. } = plan.crop;
        let same_size = (plan.resized.0 as f32, plan.resized.1 as f32) == (plan.crop.width(), plan.crop.height());
        let keeps_pixels = same_size && (x1.fract(), y1.fract()) == (0.0, 0.0);
        if !keeps_pixels || !matches!(self.sampling, Sampling::Filter(_)) {
            return Ok(plan);
        }
        // An unresized part of the frame: each pixel in FFmpeg's arithmetic, where it has some for the format.
        let (left, top) = (x1 + plan.cut.0 as f32, y1 + plan.cut.1 as f32);
        let (right, bottom) = (left + plan.placement.width as f32, top + plan.placement.height as f32);
        let sampling = if plan.in_bytes { Sampling::Bilinear8Bit } else { Sampling::Bilinear };
        let (crop, resized) = (BBox::from_xyxy(left, top, right, bottom), (plan.placement.width, plan.placement.height));
        Ok(ConversionPlan { crop, resized, cut: (0, 0), sampling, ..plan })
    }

    /// Cuts a part out of the resized frame.
    fn cut_out(&self, plan: &mut ConversionPlan) -> Result<(), VisionError> {
        let Some(Cut { left, top, width, height }) = self.cut else { return Ok(()) };
        let fits = |first: u32, length: u32, side: u32| length > 0 && first.checked_add(length).is_some_and(|end| end <= side);
        if !fits(left, width, plan.resized.0) || !fits(top, height, plan.resized.1) {
            let given = format!("{width}x{height} at {left},{top}");
            return Err(VisionError::option(
                "cut",
                format!("{given} of {}x{}", plan.resized.0, plan.resized.1),
                "a part of the resized frame",
            ));
        }
        if self.fit != Fit::Stretch || self.center_crop.is_some() {
            return Err(VisionError::option("cut", format!("{width}x{height} of a letterbox or of its middle"), "one of both"));
        }
        plan.placement = Placement { left: 0, top: 0, width, height };
        plan.cut = (left, top);
        Ok(())
    }

    /// Cuts the centre out of the resized frame and places it in the tensor.
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

    /// Returns the tone curves for frames of this colour, for other implementations; `None` where frames are not tone-mapped.
    pub fn tone_curves(&self, color: &ColorDescription) -> Option<ToneCurves> {
        Some(ToneMapper::new(self.tone_map?, color)?.curves())
    }

    /// The same options for all frames of a stream whose first frame has this size: later frames are resized to match it.
    #[must_use]
    pub fn pinned(&self, width: u32, height: u32) -> Self {
        let (width, height) = self.resized(width, height);
        let fit = if self.size == TensorSize::Own { Fit::Stretch } else { self.fit };
        Self { size: TensorSize::Exact(width, height), fit, ..*self }
    }

    /// Factor that scales a channel to the range of the element type.
    fn type_scale(&self) -> f32 {
        if self.dtype == DType::U16 { 257.0 } else { 1.0 }
    }

    /// Factor for alpha values of 0 to 255.
    pub(crate) fn alpha_scale(&self) -> f32 {
        self.scale * self.type_scale()
    }

    /// The same conversion to 32-bit floats, before a part is cut out.
    fn preprocessor(&self, width: u32, height: u32) -> Result<Preprocessor, VisionError> {
        let (width, height) = self.resized(width, height);
        let Self { sampling, channel_order, layout, std, .. } = *self;
        let channel_order = if channel_order == ChannelOrder::Rgba { ChannelOrder::Rgb } else { channel_order };
        let (scale, mean) = (self.scale * self.type_scale(), self.mean.map(|mean| mean * self.type_scale()));
        // A frame at its own size needs no padding.
        let fit = if self.size == TensorSize::Own { Fit::Stretch } else { self.fit };
        let spec = Preprocess { width, height, fit, channel_order, layout, scale, mean, std };
        Ok(Preprocessor::new(spec)?.with_sampling(sampling))
    }
}

/// One axis of a centre crop, computed as in torchvision's `center_crop`.
struct Middle {
    /// Where the frame starts in the kept part.
    place: u32,
    length: u32,
    /// Pixels skipped before the first kept one.
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
        // (width, height) of the frame, and torchvision 0.24's result.
        for (size, image, expected) in [
            (short(224, None), (1920, 1080), (398, 224)),
            (short(224, None), (1080, 1920), (224, 398)),
            (short(224, None), (100, 100), (224, 224)),
            (short(224, Some(300)), (1920, 1080), (300, 168)),
            (short(256, Some(500)), (320, 240), (341, 256)),
            (TensorSize::LongSide(300), (1920, 1080), (300, 168)),
            (TensorSize::Exact(30, 40), (1920, 1080), (30, 40)),
            (short(1, None), (1, 5000), (1, 5000)),
        ] {
            assert_eq!(size.of(image.0, image.1), expected, "{size:?} of {image:?}");
        }
    }
}

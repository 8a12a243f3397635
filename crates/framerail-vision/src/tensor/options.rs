//! What a tensor made of pictures is like, on any device.

use framerail_core::{BBox, ColorDescription, DType, PixelAspect, PixelFormat, Sampling, TensorLayout, TensorSpec, surface::MAX_SIDE};

use crate::{ChannelOrder, ConversionPlan, Fit, Preprocess, Preprocessor, VisionError};

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
/// are rounded to the nearest, ties to even, and cut off at 0 and 255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorOptions {
    /// The part that is taken, in frame pixels; beyond the frame its edge is repeated. The whole frame by default.
    pub crop: Option<BBox>,
    /// Width and height in pixels; those of the crop or of the frame by default.
    pub size: Option<(u32, u32)>,
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
    /// PQ and HLG values are then handed on as data. On the host only.
    pub tone_map: Option<ToneMap>,
}

impl Default for TensorOptions {
    /// RGB planes of 8 bits at the picture's own size.
    fn default() -> Self {
        Self {
            crop: None,
            size: None,
            fit: Fit::Stretch,
            sampling: Sampling::Bilinear,
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
        let side = |length: f32| (length.round() as u32).clamp(1, MAX_SIDE);
        self.size.unwrap_or(match self.crop {
            Some(crop) => (side(crop.width()), side(crop.height())),
            None => (width, height),
        })
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
        let plan = self.preprocessor(width, height)?.plan(width, height, format, color, pixels, self.crop)?;
        let BBox { x1, y1, .. } = plan.crop;
        let keeps_pixels = (plan.placement.width as f32, plan.placement.height as f32) == (plan.crop.width(), plan.crop.height())
            && (x1.fract(), y1.fract()) == (0.0, 0.0);
        let to_rgb = matches!(self.channel_order, ChannelOrder::Rgb | ChannelOrder::Bgr);
        if keeps_pixels && to_rgb && self.takes_bytes() {
            // As the converter does it: each pixel by FFmpeg's arithmetic, where it has some for the format.
            let in_bytes = Self { sampling: Sampling::Bilinear8Bit, ..*self };
            let own = in_bytes.preprocessor(width, height)?.plan(width, height, format, color, pixels, self.crop)?;
            return Ok(if own.fast.is_some() { own } else { plan });
        }
        Ok(plan)
    }

    /// Whether elements are the channels' 8-bit values, neither scaled nor shifted; or such values are needed first.
    pub(crate) fn takes_bytes(&self) -> bool {
        let is_plain = self.scale == 1.0 && self.mean == [0.0; 3] && self.std == [1.0; 3];
        (is_plain && self.dtype == DType::U8) || self.channel_order == ChannelOrder::Hsv
    }

    /// The same conversion to 32-bit floats.
    pub(crate) fn preprocessor(&self, width: u32, height: u32) -> Result<Preprocessor, VisionError> {
        let (width, height) = self.picture_size(width, height);
        let Self { sampling, channel_order, layout, scale, mean, std, .. } = *self;
        // Its own picture size has nothing to fill.
        let fit = if self.size.is_some() { self.fit } else { Fit::Stretch };
        let spec = Preprocess { width, height, fit, channel_order, layout, scale, mean, std };
        Ok(Preprocessor::new(spec)?.with_sampling(sampling))
    }
}

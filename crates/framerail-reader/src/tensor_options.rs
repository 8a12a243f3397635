//! What the tensors of a reader are like.

use framerail_core::{BBox, DType, TensorLayout};
use framerail_vision::{ChannelOrder, Fit, Sampling};

/// What the tensors are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorOptions {
    /// The part of each picture that is taken, in its pixels; all of it by default.
    pub crop: Option<BBox>,
    /// Width and height in pixels; each picture's own by default.
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
    /// An element is `(value · scale − mean) / std`, with `value` in 0..=255.
    pub scale: f32,
    /// Taken off each channel after scaling.
    pub mean: [f32; 3],
    /// Divides each channel at last.
    pub std: [f32; 3],
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
        }
    }
}

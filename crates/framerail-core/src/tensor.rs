//! Memory layout of a batch of frames as a tensor.

use serde::{Deserialize, Serialize};

/// Axis order of a batch: T (or N) frames, C channels, H rows, W columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TensorLayout {
    /// Frames, channels, rows, columns: the input of most models (also called NCHW).
    #[default]
    Tchw,
    /// Frames, rows, columns, channels: the layout of image libraries (also called NHWC).
    Thwc,
}

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DType {
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// IEEE 754 half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// IEEE 754 single precision.
    F32,
}

impl DType {
    /// Bytes of one element.
    pub fn size_bytes(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::U16 | DType::F16 | DType::Bf16 => 2,
            DType::F32 => 4,
        }
    }
}

/// Channels of a tensor, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma only: one channel.
    Gray,
    /// Hue in units of 2° (0 to 179), saturation and value (0 to 255), each rounded, as OpenCV's 8-bit HSV. Pixels are resampled
    /// as RGB and rounded to 8 bits first.
    Hsv,
    /// Red, green, blue, alpha: not premultiplied, opaque if the frame has no alpha.
    Rgba,
}

impl ChannelOrder {
    /// Number of channels.
    pub fn channels(self) -> usize {
        match self {
            ChannelOrder::Gray => 1,
            ChannelOrder::Rgb | ChannelOrder::Bgr | ChannelOrder::Hsv => 3,
            ChannelOrder::Rgba => 4,
        }
    }
}

/// The tensor that a frame is converted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Planar or interleaved channels.
    pub layout: TensorLayout,
    /// Element type. Values for `U8` and `U16` are rounded to nearest (ties to even) and clamped to the type's range.
    pub dtype: DType,
    /// The channels.
    pub channel_order: ChannelOrder,
}

impl TensorSpec {
    /// Number of elements of one frame.
    pub fn image_elements(&self) -> usize {
        self.width as usize * self.height as usize * self.channel_order.channels()
    }

    /// Size of one frame in bytes.
    pub fn image_bytes(&self) -> usize {
        self.image_elements() * self.dtype.size_bytes()
    }
}

//! How a batch of pictures lies in memory as a tensor.

use serde::{Deserialize, Serialize};

/// The order of a picture batch's axes: T (or N) frames, C channels, H rows, W columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TensorLayout {
    /// Frames, channels, rows, columns: what most models take (also called NCHW).
    #[default]
    Tchw,
    /// Frames, rows, columns, channels: what image libraries hold (also called NHWC).
    Thwc,
}

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum DType {
    /// Unsigned 8-bit integer.
    U8,
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
            DType::F16 | DType::Bf16 => 2,
            DType::F32 => 4,
        }
    }
}

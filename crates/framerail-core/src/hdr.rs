//! Static HDR10 metadata of a stream.

use serde::{Deserialize, Serialize};

/// The mastering display (SMPTE ST 2086).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasteringDisplay {
    /// CIE 1931 x and y of red, green and blue; `None` if only luminance is specified.
    pub primaries_xy: Option<[[f64; 2]; 3]>,
    /// CIE 1931 x and y of the white point; specified together with the primaries.
    pub white_xy: [f64; 2],
    /// Minimum and maximum luminance in cd/m²; `None` if only primaries are specified.
    pub luminance_nits: Option<(f64, f64)>,
}

/// Content light level (CTA-861.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentLight {
    /// Maximum content light level (MaxCLL): the brightest pixel, in cd/m².
    pub max_cll_nits: u32,
    /// Maximum frame-average light level (MaxFALL), in cd/m².
    pub max_fall_nits: u32,
}

/// Static HDR metadata of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HdrMetadata {
    /// Mastering display.
    pub mastering_display: Option<MasteringDisplay>,
    /// Content light level.
    pub content_light: Option<ContentLight>,
}

impl HdrMetadata {
    /// Whether no metadata is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Fills missing fields from `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            mastering_display: self.mastering_display.or(other.mastering_display),
            content_light: self.content_light.or(other.content_light),
        }
    }
}

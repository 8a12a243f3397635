//! What HDR10 says of a whole stream beside its colour tags.

use serde::{Deserialize, Serialize};

/// The display on which a video was graded (SMPTE ST 2086).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MasteringDisplay {
    /// CIE 1931 x and y of red, green and blue; `None` where only luminance is stated.
    pub primaries_xy: Option<[[f64; 2]; 3]>,
    /// CIE 1931 x and y of white; stated with the primaries.
    pub white_xy: [f64; 2],
    /// Lowest and highest luminance in cd/m²; `None` where only primaries are stated.
    pub luminance_nits: Option<(f64, f64)>,
}

/// How bright a video gets (CTA-861.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentLight {
    /// Brightest pixel in cd/m².
    pub max_cll_nits: u32,
    /// Brightest mean of a frame in cd/m².
    pub max_fall_nits: u32,
}

/// Static HDR metadata of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HdrMetadata {
    /// The display on which it was graded.
    pub mastering_display: Option<MasteringDisplay>,
    /// How bright it gets.
    pub content_light: Option<ContentLight>,
}

impl HdrMetadata {
    /// Whether nothing is stated.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is stated here, else in another.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            mastering_display: self.mastering_display.or(other.mastering_display),
            content_light: self.content_light.or(other.content_light),
        }
    }
}

//! Colour metadata: how sample values map to colours. Code points follow ITU-T H.273, as in FFmpeg.

use serde::{Deserialize, Serialize};

/// The matrix between RGB and Y'CbCr (H.273 "MatrixCoefficients").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ColorMatrix {
    /// Not specified by the stream; see [`ColorDescription::matrix_or_default`].
    #[default]
    Unspecified,
    /// The samples are RGB.
    Rgb,
    /// Rec. ITU-R BT.601 (625 and 525 lines).
    Bt601,
    /// Rec. ITU-R BT.709.
    Bt709,
    /// SMPTE ST 240.
    Smpte240,
    /// Rec. ITU-R BT.2020, non-constant luminance.
    Bt2020,
    /// FCC Title 47.
    Fcc,
    /// Any other code point, stored unchanged.
    Other(u8),
}

impl ColorMatrix {
    /// Converts an H.273 code point.
    pub fn from_code_point(code: u8) -> Self {
        match code {
            0 => ColorMatrix::Rgb,
            1 => ColorMatrix::Bt709,
            2 => ColorMatrix::Unspecified,
            4 => ColorMatrix::Fcc,
            5 | 6 => ColorMatrix::Bt601,
            7 => ColorMatrix::Smpte240,
            9 => ColorMatrix::Bt2020,
            other => ColorMatrix::Other(other),
        }
    }

    /// Returns the H.273 code point. BT.601 maps to SMPTE 170M (6), which has the same weights as BT.470BG (5).
    pub fn code_point(self) -> u8 {
        match self {
            ColorMatrix::Rgb => 0,
            ColorMatrix::Bt709 => 1,
            ColorMatrix::Unspecified => 2,
            ColorMatrix::Fcc => 4,
            ColorMatrix::Bt601 => 6,
            ColorMatrix::Smpte240 => 7,
            ColorMatrix::Bt2020 => 9,
            ColorMatrix::Other(code) => code,
        }
    }

    /// The luma weights `(Kr, Kb)` of H.273, table 4; those of BT.601 for matrices that define none.
    pub fn luma_weights(self) -> (f64, f64) {
        match self {
            ColorMatrix::Bt709 => (0.2126, 0.0722),
            ColorMatrix::Bt2020 => (0.2627, 0.0593),
            ColorMatrix::Smpte240 => (0.212, 0.087),
            ColorMatrix::Fcc => (0.30, 0.11),
            _ => (0.299, 0.114),
        }
    }
}

/// Whether 8-bit luma spans 16..=235 or 0..=255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColorRange {
    /// Not specified: limited for Y'CbCr, full for RGB.
    #[default]
    Unspecified,
    /// Luma 16..=235, chroma 16..=240 (scaled for higher bit depths).
    Limited,
    /// Every code value.
    Full,
}

/// H.273 "ColourPrimaries" code point; passed through, not interpreted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColorPrimaries(pub u8);

/// H.273 "TransferCharacteristics" code point; passed through, not interpreted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColorTransfer(pub u8);

impl Default for ColorPrimaries {
    /// Code point 2, "unspecified".
    fn default() -> Self {
        Self(2)
    }
}

impl Default for ColorTransfer {
    /// Code point 2, "unspecified".
    fn default() -> Self {
        Self(2)
    }
}

/// The colour tags of a stream or frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColorDescription {
    /// Matrix between RGB and Y'CbCr.
    pub matrix: ColorMatrix,
    /// Limited or full range.
    pub range: ColorRange,
    /// Colour primaries.
    pub primaries: ColorPrimaries,
    /// Transfer characteristics.
    pub transfer: ColorTransfer,
    /// Chroma sample location: FFmpeg's `AVChromaLocation` value, 0 when not specified.
    pub chroma_location: u8,
}

impl ColorDescription {
    /// The specified matrix, or BT.601 by default. FFmpeg's scaler makes the same assumption for untagged video,
    /// so both produce the same colours.
    pub fn matrix_or_default(&self) -> ColorMatrix {
        match self.matrix {
            ColorMatrix::Unspecified => ColorMatrix::Bt601,
            stated => stated,
        }
    }

    /// Fills unspecified tags from `other`.
    pub fn completed_by(self, other: &Self) -> Self {
        Self {
            matrix: if self.matrix == ColorMatrix::Unspecified { other.matrix } else { self.matrix },
            range: if self.range == ColorRange::Unspecified { other.range } else { self.range },
            primaries: if self.primaries == ColorPrimaries::default() { other.primaries } else { self.primaries },
            transfer: if self.transfer == ColorTransfer::default() { other.transfer } else { self.transfer },
            chroma_location: if self.chroma_location == 0 { other.chroma_location } else { self.chroma_location },
        }
    }

    /// Whether samples use the full range; `is_rgb` decides when the range is not specified.
    pub fn is_full_range(&self, is_rgb: bool) -> bool {
        match self.range {
            ColorRange::Full => true,
            ColorRange::Limited => false,
            ColorRange::Unspecified => is_rgb,
        }
    }
}

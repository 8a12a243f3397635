//! Colour tags between FFmpeg's numbers and core's types.

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer};

/// H.273's matrix by code point.
pub(crate) fn matrix(code: i32) -> ColorMatrix {
    match code {
        0 => ColorMatrix::Rgb,
        1 => ColorMatrix::Bt709,
        2 => ColorMatrix::Unspecified,
        4 => ColorMatrix::Fcc,
        5 | 6 => ColorMatrix::Bt601,
        7 => ColorMatrix::Smpte240,
        9 => ColorMatrix::Bt2020,
        other => u8::try_from(other).map_or(ColorMatrix::Unspecified, ColorMatrix::Other),
    }
}

/// The code point of a matrix. BT.601 is written as SMPTE 170M (6): its weights are those of BT.470BG (5).
pub(crate) fn matrix_code(matrix: ColorMatrix) -> i32 {
    match matrix {
        ColorMatrix::Rgb => 0,
        ColorMatrix::Bt709 => 1,
        ColorMatrix::Fcc => 4,
        ColorMatrix::Bt601 => 6,
        ColorMatrix::Smpte240 => 7,
        ColorMatrix::Bt2020 => 9,
        ColorMatrix::Other(code) => code.into(),
        _ => 2,
    }
}

/// The colour tags of a stream or frame from FFmpeg's fields.
pub(crate) fn describe(
    space: ffi::AVColorSpace,
    range: ffi::AVColorRange,
    primaries: ffi::AVColorPrimaries,
    transfer: ffi::AVColorTransferCharacteristic,
    location: ffi::AVChromaLocation,
) -> ColorDescription {
    ColorDescription {
        matrix: matrix(space.0 as i32),
        range: match range.0 as i32 {
            1 => ColorRange::Limited,
            2 => ColorRange::Full,
            _ => ColorRange::Unspecified,
        },
        primaries: ColorPrimaries(u8::try_from(primaries.0 as i32).unwrap_or(2)),
        transfer: ColorTransfer(u8::try_from(transfer.0 as i32).unwrap_or(2)),
        chroma_location: u8::try_from(location.0 as i32).unwrap_or(0),
    }
}

/// FFmpeg's fields of a colour description.
pub(crate) struct AvColor {
    pub(crate) space: ffi::AVColorSpace,
    pub(crate) range: ffi::AVColorRange,
    pub(crate) primaries: ffi::AVColorPrimaries,
    pub(crate) transfer: ffi::AVColorTransferCharacteristic,
    pub(crate) location: ffi::AVChromaLocation,
}

impl From<&ColorDescription> for AvColor {
    fn from(color: &ColorDescription) -> Self {
        Self {
            space: ffi::AVColorSpace(matrix_code(color.matrix) as _),
            range: ffi::AVColorRange(match color.range {
                ColorRange::Unspecified => 0,
                ColorRange::Limited => 1,
                ColorRange::Full => 2,
            }),
            primaries: ffi::AVColorPrimaries(color.primaries.0.into()),
            transfer: ffi::AVColorTransferCharacteristic(color.transfer.0.into()),
            location: ffi::AVChromaLocation(color.chroma_location.into()),
        }
    }
}

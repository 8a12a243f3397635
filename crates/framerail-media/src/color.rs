//! Conversion of colour tags between FFmpeg's numbers and core's types.

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer};

/// Converts FFmpeg's colour fields of a stream or frame.
pub(crate) fn describe(
    space: ffi::AVColorSpace,
    range: ffi::AVColorRange,
    primaries: ffi::AVColorPrimaries,
    transfer: ffi::AVColorTransferCharacteristic,
    location: ffi::AVChromaLocation,
) -> ColorDescription {
    ColorDescription {
        matrix: u8::try_from(space.0 as i32).map_or(ColorMatrix::Unspecified, ColorMatrix::from_code_point),
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

/// A colour description as FFmpeg's fields.
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
            space: ffi::AVColorSpace(color.matrix.code_point().into()),
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

//! FFmpeg's names for colour tags.

use ffmpeg_the_third::ffi;
use framerail_core::{ColorDescription, ColorRange};

use crate::{av, color::AvColor};

/// Names as `ffprobe` prints them, except for the range; `None` for unspecified tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColorNames {
    /// The matrix between RGB and Y'CbCr, such as `bt2020nc`. BT.601 is `smpte170m`, even if it was tagged as `bt470bg`.
    pub matrix: Option<String>,
    /// `limited` or `full`.
    pub range: Option<String>,
    /// The primaries, such as `bt2020`.
    pub primaries: Option<String>,
    /// The transfer function, such as `smpte2084`.
    pub transfer: Option<String>,
    /// Position of the chroma samples, such as `left`.
    pub chroma_location: Option<String>,
}

impl ColorNames {
    /// The names of a description's tags.
    pub fn of(color: &ColorDescription) -> Self {
        let range = match color.range {
            ColorRange::Unspecified => None,
            ColorRange::Limited => Some("limited".to_owned()),
            ColorRange::Full => Some("full".to_owned()),
        };
        let tags = AvColor::from(color);
        // SAFETY: the functions accept any number and return a static string or null.
        let [matrix, primaries, transfer, chroma_location] = unsafe {
            [
                av::string(ffi::av_color_space_name(tags.space)),
                av::string(ffi::av_color_primaries_name(tags.primaries)),
                av::string(ffi::av_color_transfer_name(tags.transfer)),
                av::string(ffi::av_chroma_location_name(tags.location)),
            ]
        };
        let stated = |name: String| (!matches!(name.as_str(), "" | "unknown" | "unspecified" | "reserved")).then_some(name);
        Self {
            matrix: stated(matrix),
            range,
            primaries: stated(primaries),
            transfer: stated(transfer),
            chroma_location: stated(chroma_location),
        }
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorMatrix, ColorPrimaries, ColorTransfer};

    use super::*;

    #[test]
    fn tags_have_ffmpegs_names_and_none_where_nothing_is_stated() {
        assert_eq!(ColorNames::of(&ColorDescription::default()), ColorNames::default());
        let hdr = ColorDescription {
            matrix: ColorMatrix::Bt2020,
            range: ColorRange::Limited,
            primaries: ColorPrimaries(9),
            transfer: ColorTransfer(16),
            chroma_location: 1,
        };
        let named = |name: &str| Some(name.to_owned());
        let expected = ColorNames {
            matrix: named("bt2020nc"),
            range: named("limited"),
            primaries: named("bt2020"),
            transfer: named("smpte2084"),
            chroma_location: named("left"),
        };
        assert_eq!(ColorNames::of(&hdr), expected);
    }
}

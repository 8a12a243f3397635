//! Chroma format and bit depth of H.264 and HEVC, from the container's codec record alone.

use ffmpeg_the_third::ffi;
use framerail_core::PixelFormat;

use crate::{
    Parameters,
    nal::{Bits, Payload},
};

/// H.264 profiles whose sequence parameter sets state chroma format and depth (ITU-T H.264, 7.3.2.1.1); others are 8-bit 4:2:0.
const PROFILES_WITH_FORMAT: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];

/// Chroma format and bit depth of coded video.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodedFormat {
    /// `chroma_format_idc` of H.264 and HEVC: 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format_idc: u8,
    /// Bits per luma sample.
    pub luma_bits: u8,
    /// Bits per chroma sample.
    pub chroma_bits: u8,
}

impl CodedFormat {
    /// Reads the `avcC` or `hvcC` record; `None` for other codecs, other forms of global headers and invalid values.
    pub fn of(parameters: &Parameters) -> Option<Self> {
        let extradata = parameters.extradata();
        let format = match (parameters.get().codec_id, extradata.first()) {
            (ffi::AVCodecID::H264, Some(1)) => Self::of_avcc(extradata)?,
            (ffi::AVCodecID::HEVC, Some(1)) => Self::of_hvcc(extradata)?,
            _ => return None,
        };
        let is_sound = format.chroma_format_idc <= 3 && (8..=16).contains(&format.luma_bits) && (8..=16).contains(&format.chroma_bits);
        is_sound.then_some(format)
    }

    /// ISO/IEC 14496-15, 5.3.3.1: version, profile, compatibility, level, length size, count and length of the first SPS.
    fn of_avcc(record: &[u8]) -> Option<Self> {
        let (&[_, _, _, _, _, count, high, low], sets) = record.split_first_chunk::<8>()?;
        let unit = sets.get(..u16::from_be_bytes([high, low]).into()).filter(|_| count & 0x1f > 0)?;
        // NAL unit header, profile_idc, constraints, level_idc.
        let profile = *unit.get(1)?;
        let mut bits = Bits::new(Payload::new(unit.get(4..)?));
        bits.golomb()?;
        if !PROFILES_WITH_FORMAT.contains(&profile) {
            return Some(Self { chroma_format_idc: 1, luma_bits: 8, chroma_bits: 8 });
        }
        let chroma_format_idc = u8::try_from(bits.golomb()?).ok()?;
        if chroma_format_idc == 3 {
            bits.flag()?;
        }
        let depth = |minus_8: u32| u8::try_from(minus_8.checked_add(8)?).ok();
        Some(Self { chroma_format_idc, luma_bits: depth(bits.golomb()?)?, chroma_bits: depth(bits.golomb()?)? })
    }

    /// ISO/IEC 14496-15, 8.3.3.1.
    fn of_hvcc(record: &[u8]) -> Option<Self> {
        let field = |place: usize, mask: u8| record.get(place).map(|byte| byte & mask);
        Some(Self { chroma_format_idc: field(16, 3)?, luma_bits: field(17, 7)? + 8, chroma_bits: field(18, 7)? + 8 })
    }

    /// The planar format that a software decoder returns, if core lists it. `None` for monochrome, which some decoders
    /// output as 4:2:0. Identity matrices (RGB) and full range are not considered.
    pub fn pixel_format(self) -> Option<PixelFormat> {
        let chroma = match self.chroma_format_idc {
            1 => "yuv420p",
            2 => "yuv422p",
            3 => "yuv444p",
            _ => return None,
        };
        if self.luma_bits != self.chroma_bits {
            return None;
        }
        let name = if self.luma_bits == 8 { chroma.to_owned() } else { format!("{chroma}{}le", self.luma_bits) };
        name.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_record_is_survived(mut record in proptest::collection::vec(any::<u8>(), 0..48)) {
            if let Some(first) = record.first_mut() {
                *first = 1;
            }
            for codec in [ffi::AVCodecID::H264, ffi::AVCodecID::HEVC] {
                let format = CodedFormat::of(&Parameters::of_codec(codec, &record));
                prop_assert!(format.is_none_or(|format| (8..=16).contains(&format.luma_bits)));
            }
        }
    }
}

//! HDR metadata (mastering display and content light level): read from streams and frames, written to streams and HEVC.

use std::ptr;

use ffmpeg_the_third::ffi;
use framerail_core::{ContentLight, HdrMetadata, MasteringDisplay, Rational};

use crate::av::AvFrame;

/// HEVC counts chromaticities in steps of 1/50000, luminance in steps of 0.0001 cd/m².
const CHROMATICITY_STEPS: f64 = 50_000.0;
const LUMINANCE_STEPS: f64 = 10_000.0;

/// FFmpeg's `AVMasteringDisplayMetadata` as every release has it; later ones may append fields.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawDisplay {
    primaries: [[ffi::AVRational; 2]; 3],
    white: [ffi::AVRational; 2],
    min_luminance: ffi::AVRational,
    max_luminance: ffi::AVRational,
    has_primaries: i32,
    has_luminance: i32,
}

/// FFmpeg's `AVContentLightMetadata`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawLight {
    max_cll: u32,
    max_fall: u32,
}

/// HDR metadata of a stream in the container.
pub(crate) fn of_stream(stream: &ffi::AVStream) -> HdrMetadata {
    use ffi::AVPacketSideDataType as Kind;
    let entry = |kind: Kind| {
        let mut size = 0;
        // SAFETY: a valid stream; the answer is null or `size` bytes of it.
        let data = unsafe { ffi::av_stream_get_side_data(stream, kind, &mut size) };
        (data.cast_const(), size)
    };
    // SAFETY: the bytes live as long as the stream, which is borrowed.
    unsafe {
        HdrMetadata {
            mastering_display: read(entry(Kind::MASTERING_DISPLAY_METADATA)).as_ref().and_then(display),
            content_light: read(entry(Kind::CONTENT_LIGHT_LEVEL)).as_ref().and_then(light),
        }
    }
}

/// HDR metadata of a decoded frame.
pub(crate) fn of_frame(frame: &AvFrame) -> HdrMetadata {
    use ffi::AVFrameSideDataType as Kind;
    let entry = |kind: Kind| {
        // SAFETY: a valid frame; the answer is null or an entry that lives as long as the frame.
        let data = unsafe { ffi::av_frame_get_side_data(frame.as_ptr(), kind).as_ref() };
        data.map_or((ptr::null(), 0), |data| (data.data.cast_const(), data.size))
    };
    // SAFETY: the bytes live as long as the frame, which is borrowed.
    unsafe {
        HdrMetadata {
            mastering_display: read(entry(Kind::MASTERING_DISPLAY_METADATA)).as_ref().and_then(display),
            content_light: read(entry(Kind::CONTENT_LIGHT_LEVEL)).as_ref().and_then(light),
        }
    }
}

/// Reads a value from a byte buffer if it is large enough.
///
/// # Safety
/// The pointer is null or has `size` bytes, which form a valid value of plain numbers.
unsafe fn read<T: Copy>((data, size): (*const u8, usize)) -> Option<T> {
    // SAFETY: the caller guarantees it; alignment is not required.
    (!data.is_null() && size >= size_of::<T>()).then(|| unsafe { data.cast::<T>().read_unaligned() })
}

fn display(raw: &RawDisplay) -> Option<MasteringDisplay> {
    let number = |ratio: ffi::AVRational| if ratio.den == 0 { 0.0 } else { f64::from(ratio.num) / f64::from(ratio.den) };
    let pair = |pair: [ffi::AVRational; 2]| pair.map(number);
    let found = MasteringDisplay {
        primaries_xy: (raw.has_primaries != 0).then(|| raw.primaries.map(pair)),
        white_xy: pair(raw.white),
        luminance_nits: (raw.has_luminance != 0).then(|| (number(raw.min_luminance), number(raw.max_luminance))),
    };
    (found.primaries_xy.is_some() || found.luminance_nits.is_some()).then_some(found)
}

fn light(raw: &RawLight) -> Option<ContentLight> {
    (raw.max_cll > 0 || raw.max_fall > 0).then_some(ContentLight { max_cll_nits: raw.max_cll, max_fall_nits: raw.max_fall })
}

/// Adds metadata to an output stream, for its container to write.
///
/// # Safety
/// A stream whose header is not written yet.
pub(crate) unsafe fn add_to(stream: *mut ffi::AVStream, metadata: &HdrMetadata) {
    use ffi::AVPacketSideDataType as Kind;
    let steps = |value: f64, steps: f64| {
        Rational::new((value * steps).round() as i64, steps as i64)
            .map_or(ffi::AVRational { num: 0, den: 1 }, |ratio| ffi::AVRational { num: ratio.num as i32, den: ratio.den as i32 })
    };
    let chromaticity = |pair: [f64; 2]| pair.map(|value| steps(value, CHROMATICITY_STEPS));
    let mastering = metadata.mastering_display.map(|display| {
        let (min, max) = display.luminance_nits.unwrap_or_default();
        RawDisplay {
            primaries: display.primaries_xy.unwrap_or_default().map(chromaticity),
            white: chromaticity(display.white_xy),
            min_luminance: steps(min, LUMINANCE_STEPS),
            max_luminance: steps(max, LUMINANCE_STEPS),
            has_primaries: display.primaries_xy.is_some().into(),
            has_luminance: display.luminance_nits.is_some().into(),
        }
    });
    let light = metadata.content_light.map(|light| RawLight { max_cll: light.max_cll_nits, max_fall: light.max_fall_nits });
    // SAFETY: the caller guarantees it; FFmpeg allocates the requested size, which is written completely.
    unsafe {
        if let Some(mastering) = mastering {
            let data = ffi::av_stream_new_side_data(stream, Kind::MASTERING_DISPLAY_METADATA, size_of::<RawDisplay>());
            if !data.is_null() {
                data.cast::<RawDisplay>().write_unaligned(mastering);
            }
        }
        if let Some(light) = light {
            let data = ffi::av_stream_new_side_data(stream, Kind::CONTENT_LIGHT_LEVEL, size_of::<RawLight>());
            if !data.is_null() {
                data.cast::<RawLight>().write_unaligned(light);
            }
        }
    }
}

/// x265 parameters that write the metadata into the stream; empty if there is none.
pub(crate) fn x265_params(metadata: &HdrMetadata) -> String {
    let mut text = String::new();
    if let Some((display, primaries)) = metadata.mastering_display.and_then(|display| Some((display, display.primaries_xy?))) {
        let at = |[x, y]: [f64; 2]| format!("({:.0},{:.0})", x * CHROMATICITY_STEPS, y * CHROMATICITY_STEPS);
        let [red, green, blue] = primaries.map(at);
        let (min, max) = display.luminance_nits.unwrap_or_default();
        let luminance = format!("({:.0},{:.0})", max * LUMINANCE_STEPS, min * LUMINANCE_STEPS);
        text += &format!(":master-display=G{green}B{blue}R{red}WP{}L{luminance}", at(display.white_xy));
    }
    if let Some(light) = metadata.content_light {
        text += &format!(":max-cll={},{}", light.max_cll_nits, light.max_fall_nits);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x265_is_given_steps() {
        let metadata = HdrMetadata {
            mastering_display: Some(MasteringDisplay {
                primaries_xy: Some([[0.68, 0.32], [0.265, 0.69], [0.15, 0.06]]),
                white_xy: [0.3127, 0.329],
                luminance_nits: Some((0.0001, 1000.0)),
            }),
            content_light: Some(ContentLight { max_cll_nits: 1000, max_fall_nits: 400 }),
        };
        let expected = ":master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400";
        assert_eq!(x265_params(&metadata), expected);
        assert_eq!(x265_params(&HdrMetadata::default()), "");
    }
}

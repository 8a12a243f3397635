//! Maps pixel formats between FFmpeg and core: which ones pass unchanged, and which must be converted to what.

use ffmpeg_the_third::ffi;
use framerail_core::PixelFormat;

use crate::av;

/// How a decoded frame becomes a core surface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The planes unchanged.
    Direct(PixelFormat),
    /// The planes unchanged; the format implies full range.
    DirectFullRange(PixelFormat),
    /// Converted by swscale.
    Converted(PixelFormat),
}

impl Delivery {
    /// The delivered format.
    pub(crate) fn format(self) -> PixelFormat {
        match self {
            Delivery::Direct(format) | Delivery::DirectFullRange(format) | Delivery::Converted(format) => format,
        }
    }
}

/// FFmpeg's name of a format number.
pub(crate) fn name(format: i32) -> String {
    // SAFETY: any number is allowed, unknown ones return null; names are static.
    let name = unsafe { av::string(ffi::av_get_pix_fmt_name(ffi::AVPixelFormat(format))) };
    if name.is_empty() { "none".into() } else { name }
}

/// FFmpeg's number of a core format.
pub(crate) fn av_format(format: PixelFormat) -> ffi::AVPixelFormat {
    let name = av::c_string(format.name());
    // SAFETY: a zero-terminated name.
    unsafe { ffi::av_get_pix_fmt(name.as_ptr()) }
}

/// Decides how a frame of an FFmpeg format is delivered; `None` for formats in device memory and unknown ones.
pub(crate) fn delivery(format: i32) -> Option<Delivery> {
    let name = name(format);
    if let Ok(known) = name.parse() {
        return Some(Delivery::Direct(known));
    }
    let full_range = match name.as_str() {
        "yuvj420p" => Some(PixelFormat::Yuv420p),
        "yuvj422p" => Some(PixelFormat::Yuv422p),
        "yuvj444p" => Some(PixelFormat::Yuv444p),
        "yuvj440p" => Some(PixelFormat::Yuv440p),
        "yuvj411p" => Some(PixelFormat::Yuv411p),
        _ => None,
    };
    if let Some(known) = full_range {
        return Some(Delivery::DirectFullRange(known));
    }
    nearest(format).map(Delivery::Converted)
}

/// The supported format that preserves most of an unsupported one: first the colour model, then chroma and bit depth, then alpha.
fn nearest(format: i32) -> Option<PixelFormat> {
    // SAFETY: any number is allowed; descriptors are static.
    let descriptor = unsafe { ffi::av_pix_fmt_desc_get(ffi::AVPixelFormat(format)).as_ref() }?;
    let has = |flag: libc::c_int| descriptor.flags & flag as u64 != 0;
    if has(ffi::AV_PIX_FMT_FLAG_HWACCEL) {
        return None;
    }
    let bits = descriptor.comp[0].depth;
    let alpha = has(ffi::AV_PIX_FMT_FLAG_ALPHA);
    if has(ffi::AV_PIX_FMT_FLAG_PAL) {
        return Some(PixelFormat::Bgra);
    }
    if has(ffi::AV_PIX_FMT_FLAG_BAYER) {
        return Some(if bits > 8 { PixelFormat::Rgb48 } else { PixelFormat::Rgb24 });
    }
    if descriptor.nb_components < 3 {
        return Some(nearest_gray(bits, alpha));
    }
    if has(ffi::AV_PIX_FMT_FLAG_RGB) || name(format).starts_with("xyz") {
        return Some(nearest_rgb(bits, alpha));
    }
    Some(nearest_yuv(bits, alpha, (descriptor.log2_chroma_w, descriptor.log2_chroma_h)))
}

fn nearest_gray(bits: i32, alpha: bool) -> PixelFormat {
    match bits {
        ..=8 if alpha => PixelFormat::Rgba,
        ..=8 => PixelFormat::Gray8,
        _ if alpha => PixelFormat::Rgba64,
        9..=10 => PixelFormat::Gray10,
        11..=12 => PixelFormat::Gray12,
        _ => PixelFormat::Gray16,
    }
}

fn nearest_rgb(bits: i32, alpha: bool) -> PixelFormat {
    match bits {
        ..=8 if alpha => PixelFormat::Rgba,
        ..=8 => PixelFormat::Rgb24,
        _ if alpha => PixelFormat::Rgba64,
        9..=10 => PixelFormat::Gbrp10,
        11..=12 => PixelFormat::Gbrp12,
        _ => PixelFormat::Rgb48,
    }
}

fn nearest_yuv(bits: i32, alpha: bool, chroma_shift: (u8, u8)) -> PixelFormat {
    use PixelFormat as P;
    match (bits, alpha, chroma_shift) {
        (..=8, true, (1, 1)) => P::Yuva420p,
        (..=8, true, _) => P::Yuva444p,
        (9..=10, true, _) => P::Yuva444p10,
        (11..=12, true, _) => P::Yuva444p12,
        (_, true, _) => P::Yuva444p16,
        (..=8, false, (0, 0)) => P::Yuv444p,
        (..=8, false, (0, _)) => P::Yuv440p,
        (..=8, false, (1, 0)) => P::Yuv422p,
        (..=8, false, (2, 0)) => P::Yuv411p,
        (..=8, false, _) => P::Yuv420p,
        (9..=10, false, (1, 0)) => P::Yuv422p10,
        (9..=10, false, (1.., 1..)) => P::Yuv420p10,
        (9..=10, false, _) => P::Yuv444p10,
        (11..=12, false, (1, 0)) => P::Yuv422p12,
        (11..=12, false, (1.., 1..)) => P::Yuv420p12,
        (11..=12, false, _) => P::Yuv444p12,
        (_, false, (1, 0)) => P::Yuv422p16,
        (_, false, (1.., 1..)) => P::Yuv420p16,
        (_, false, _) => P::Yuv444p16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_name(name: &str) -> i32 {
        let name = av::c_string(name);
        // SAFETY: a zero-terminated name.
        unsafe { ffi::av_get_pix_fmt(name.as_ptr()) }.0
    }

    #[test]
    fn every_core_format_passes_as_it_is() {
        for format in PixelFormat::ALL {
            assert_eq!(delivery(av_format(*format).0), Some(Delivery::Direct(*format)));
        }
    }

    #[test]
    fn unlisted_formats_keep_what_they_can() {
        for (from, to) in [
            ("pal8", PixelFormat::Bgra),
            ("monow", PixelFormat::Gray8),
            ("yuv410p", PixelFormat::Yuv420p),
            ("yuv420p10be", PixelFormat::Yuv420p10),
            ("yuyv422", PixelFormat::Yuv422p),
            ("gray16be", PixelFormat::Gray16),
            ("gbrp16le", PixelFormat::Rgb48),
            ("gbrap12le", PixelFormat::Rgba64),
            ("ya16le", PixelFormat::Rgba64),
            ("yuv420p14le", PixelFormat::Yuv420p16),
            ("rgb555le", PixelFormat::Rgb24),
            ("ya8", PixelFormat::Rgba),
            ("yuva422p", PixelFormat::Yuva444p),
            ("bayer_rggb8", PixelFormat::Rgb24),
            ("nv16", PixelFormat::Yuv422p),
        ] {
            assert_eq!(delivery(by_name(from)), Some(Delivery::Converted(to)), "{from}");
        }
        assert_eq!(delivery(by_name("yuvj420p")), Some(Delivery::DirectFullRange(PixelFormat::Yuv420p)));
        assert_eq!(delivery(by_name("cuda")), None);
        assert_eq!(delivery(-1), None);
        assert_eq!(delivery(1 << 20), None);
    }
}

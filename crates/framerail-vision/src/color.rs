//! Conversion between a surface's sample values and full-range RGB, according to the frame's colour tags.
//!
//! Source: Rec. ITU-T H.273, clause 8.3 (equations for Y'CbCr and its quantisation).

use framerail_core::{ChannelMix, ChannelOrder, ColorDescription, FastYuv, PixelFamily, PixelFormat};

/// `rgb[i] = gain[i] · samples + bias[i]` for stored sample values: full range, 0 to 255 before clamping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RgbFromSamples {
    /// One row each for red, green and blue; one column per colour component.
    pub gain: [[f32; 3]; 3],
    /// Added last.
    pub bias: [f32; 3],
    /// Luma, computed in the same way.
    pub luma_gain: [f32; 3],
    /// Added to luma last.
    pub luma_bias: f32,
}

/// How one component's stored values map to 0 to 255 (luma, RGB) or -127.5 to 127.5 (chroma).
#[derive(Clone, Copy, Debug)]
struct Quantisation {
    /// Stored value of black, or of neutral chroma.
    zero: f64,
    /// Stored steps per 1/255 of the range.
    step: f64,
}

fn quantisation(format: PixelFormat, color: &ColorDescription) -> (Quantisation, Quantisation) {
    // Untagged grey counts as full range, as in FFmpeg's scaler.
    let full = color.is_full_range(format.family() != PixelFamily::Yuv);
    let shift = format.components().first().map_or(0, |component| component.shift);
    let stored = f64::from(1u32 << shift);
    let unit = f64::from(1u32 << (format.bits() - 8)) * stored;
    let max = f64::from(format.max_value()) * stored;
    if full {
        (Quantisation { zero: 0.0, step: max / 255.0 }, Quantisation { zero: 128.0 * unit, step: max / 255.0 })
    } else {
        (Quantisation { zero: 16.0 * unit, step: 219.0 / 255.0 * unit }, Quantisation { zero: 128.0 * unit, step: 224.0 / 255.0 * unit })
    }
}

impl RgbFromSamples {
    /// Creates the conversion for a surface of this format with these tags.
    pub fn new(format: PixelFormat, color: &ColorDescription) -> Self {
        let (luma, chroma) = quantisation(format, color);
        let (kr, kb) = color.matrix_or_default().luma_weights();
        let kg = 1.0 - kr - kb;
        let value = 1.0 / luma.step;
        let rows = match format.family() {
            PixelFamily::Gray => [[value, 0.0, 0.0]; 3],
            PixelFamily::Rgb => [[value, 0.0, 0.0], [0.0, value, 0.0], [0.0, 0.0, value]],
            PixelFamily::Yuv => [
                [value, 0.0, 2.0 * (1.0 - kr) / chroma.step],
                [value, -2.0 * kb * (1.0 - kb) / kg / chroma.step, -2.0 * kr * (1.0 - kr) / kg / chroma.step],
                [value, 2.0 * (1.0 - kb) / chroma.step, 0.0],
            ],
        };
        let zero = match format.family() {
            PixelFamily::Yuv => [luma.zero, chroma.zero, chroma.zero],
            PixelFamily::Gray | PixelFamily::Rgb => [luma.zero; 3],
        };
        let luma_row = match format.family() {
            // BT.601 weights, as image libraries use to convert RGB to grey.
            PixelFamily::Rgb => [0.299 * value, 0.587 * value, 0.114 * value],
            PixelFamily::Gray | PixelFamily::Yuv => [value, 0.0, 0.0],
        };
        let bias = |row: [f64; 3]| -(0..3).map(|i| row[i] * zero[i]).sum::<f64>() as f32;
        Self {
            gain: rows.map(|row| row.map(|v| v as f32)),
            bias: rows.map(bias),
            luma_gain: luma_row.map(|v| v as f32),
            luma_bias: bias(luma_row),
        }
    }

    /// Returns one mix per colour channel, neither scaled nor shifted. For HSV these are red, green and blue, from which it is computed.
    pub fn mixes(&self, order: ChannelOrder) -> Vec<ChannelMix> {
        let mix = |gain, bias| ChannelMix { gain, bias, scale: 1.0, shift: 0.0 };
        let of = |channel: usize| mix(self.gain[channel], self.bias[channel]);
        match order {
            ChannelOrder::Bgr => vec![of(2), of(1), of(0)],
            ChannelOrder::Gray => vec![mix(self.luma_gain, self.luma_bias)],
            ChannelOrder::Rgb | ChannelOrder::Rgba | ChannelOrder::Hsv => vec![of(0), of(1), of(2)],
        }
    }
}

/// Returns the factors of FFmpeg's fast arithmetic, for frames that have it: 8-bit planar 4:2:0 and 4:2:2 with an even number of rows.
pub(crate) fn fast_yuv(format: PixelFormat, height: u32, color: &ColorDescription) -> Option<FastYuv> {
    let fast = matches!(format, PixelFormat::Yuv420p | PixelFormat::Yuv422p | PixelFormat::Yuva420p);
    if !fast || height % 2 == 1 {
        return None;
    }
    let full = color.is_full_range(false);
    let (kr, kb) = color.matrix_or_default().luma_weights();
    let kg = 1.0 - kr - kb;
    // Rounded to Q16 for limited range, then truncated for full range, then rounded to Q13.
    let chroma = |factor: f64| {
        let limited = (factor * 255.0 / 224.0 * 65536.0).round();
        let stated = if full { (limited * 224.0 / 255.0).trunc() } else { limited };
        (stated / 8.0 + 0.5).floor() as i16
    };
    let luma = if full { 8192 } else { ((65536 * 255 / 219 + 4) / 8) as i16 };
    Some(FastYuv {
        black: if full { 0 } else { 16 * 8 },
        luma,
        red_cr: chroma(2.0 * (1.0 - kr)),
        green: [chroma(-2.0 * kb * (1.0 - kb) / kg), chroma(-2.0 * kr * (1.0 - kr) / kg)],
        blue_cb: chroma(2.0 * (1.0 - kb)),
    })
}

/// Converts a full-range RGB colour to code values of a surface's colour components (one for grey), before any shift of the format.
pub(crate) fn samples_from_rgb(format: PixelFormat, color: &ColorDescription, rgb: [f32; 3]) -> [u16; 3] {
    let (luma, chroma) = quantisation(format, color);
    let (kr, kb) = match format.family() {
        PixelFamily::Yuv => color.matrix_or_default().luma_weights(),
        PixelFamily::Gray | PixelFamily::Rgb => (0.299, 0.114),
    };
    let [r, g, b] = rgb.map(f64::from);
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let parts = match format.family() {
        PixelFamily::Gray => [(y, luma); 3],
        PixelFamily::Rgb => [(r, luma), (g, luma), (b, luma)],
        PixelFamily::Yuv => [(y, luma), ((b - y) / (2.0 * (1.0 - kb)), chroma), ((r - y) / (2.0 * (1.0 - kr)), chroma)],
    };
    let stored = f64::from(1u32 << format.components().first().map_or(0, |component| component.shift));
    parts.map(|(value, q)| ((value * q.step + q.zero) / stored).round().clamp(0.0, f64::from(format.max_value())) as u16)
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorMatrix, ColorRange};

    use super::*;

    fn rgb_of(conversion: &RgbFromSamples, samples: [f32; 3]) -> [f32; 3] {
        let dot = |row: [f32; 3], bias: f32| row[0] * samples[0] + row[1] * samples[1] + row[2] * samples[2] + bias;
        [0, 1, 2].map(|i| dot(conversion.gain[i], conversion.bias[i]).clamp(0.0, 255.0))
    }

    #[test]
    fn colours_survive_there_and_back_in_every_format() {
        for &format in PixelFormat::ALL {
            for matrix in [ColorMatrix::Unspecified, ColorMatrix::Bt709, ColorMatrix::Bt2020] {
                for range in [ColorRange::Unspecified, ColorRange::Full, ColorRange::Limited] {
                    let color = ColorDescription { matrix, range, ..Default::default() };
                    let rgb = if format.family() == PixelFamily::Gray { [90.0; 3] } else { [200.0, 30.0, 120.0] };
                    let shift = format.components()[0].shift;
                    let samples = samples_from_rgb(format, &color, rgb).map(|code| f32::from(code << shift));
                    let back = rgb_of(&RgbFromSamples::new(format, &color), samples);
                    for channel in 0..3 {
                        assert!((back[channel] - rgb[channel]).abs() < 1.7, "{format} {matrix:?} {range:?}: {back:?} for {rgb:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn factors_of_the_fast_way_are_the_known_ones() {
        let bt601 = FastYuv { black: 128, luma: 9539, red_cr: 13075, green: [-3209, -6660], blue_cb: 16525 };
        assert_eq!(fast_yuv(PixelFormat::Yuv420p, 2, &ColorDescription::default()), Some(bt601));
        let full = ColorDescription { range: ColorRange::Full, ..Default::default() };
        assert_eq!(fast_yuv(PixelFormat::Yuv422p, 2, &full).map(|fast| (fast.black, fast.luma, fast.red_cr)), Some((0, 8192, 11485)));
        assert_eq!(fast_yuv(PixelFormat::Yuv420p, 3, &full), None);
        assert_eq!(fast_yuv(PixelFormat::Nv12, 2, &full), None);
    }

    #[test]
    fn known_codes_of_bt601_and_bt709() {
        let bt601 = ColorDescription::default();
        assert_eq!(samples_from_rgb(PixelFormat::Yuv420p, &bt601, [255.0, 0.0, 0.0]), [81, 90, 240]);
        assert_eq!(samples_from_rgb(PixelFormat::Yuv420p10, &bt601, [255.0; 3]), [940, 512, 512]);
        assert_eq!(samples_from_rgb(PixelFormat::P010, &bt601, [0.0; 3]), [64, 512, 512]);
        let bt709 = ColorDescription { matrix: ColorMatrix::Bt709, ..Default::default() };
        assert_eq!(samples_from_rgb(PixelFormat::Nv12, &bt709, [0.0, 255.0, 0.0]), [173, 42, 26]);
        assert_eq!(samples_from_rgb(PixelFormat::Gray8, &bt601, [255.0; 3])[0], 255);
    }
}

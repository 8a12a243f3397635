//! Hue, saturation and value as in OpenCV's 8-bit images.

use multiversion::multiversion;

/// At this magnitude, the lowest bits of a float are the rounded integer.
const WHOLE: f32 = 12_582_912.0;

/// `parts / of` as a rounded integer of at most 22 bits.
#[inline(always)]
fn rounded_quotient(parts: f32, of: i32) -> i32 {
    // The divisor of black and grey does not matter: it is multiplied by 0.
    let quotient = parts / (of.max(1) as f32) + WHOLE;
    (quotient.to_bits() & 0x3f_ffff) as i32
}

/// Converts full-range red, green, blue to hue in half degrees (0 to 179), saturation and value (0 to 255).
///
/// Uses reciprocals with twelve fractional bits, rounded.
///
/// Source: OpenCV's documented 8-bit `COLOR_RGB2HSV`. The GPU kernels of this project compute the same numbers.
#[inline(always)]
pub(crate) fn hsv_from_rgb(rgb: [u8; 3]) -> [u8; 3] {
    let [red, green, blue] = rgb.map(i32::from);
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let spread = most - least;
    let from_green = if most == green { blue - red + 2 * spread } else { red - green + 4 * spread };
    let part = if most == red { green - blue } else { from_green };
    let hue = (part * rounded_quotient(122_880.0, spread) + 2048) >> 12;
    let saturation = (spread * rounded_quotient(1_044_480.0, most) + 2048) >> 12;
    [if hue < 0 { hue + 180 } else { hue } as u8, saturation as u8, most as u8]
}

/// Like [`hsv_from_rgb`], for a row of 8-bit channels, in place.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn hsv_row(rows: [&mut [u8]; 3]) {
    let [first, second, third] = rows;
    for ((red, green), blue) in first.iter_mut().zip(second).zip(third) {
        [*red, *green, *blue] = hsv_from_rgb([*red, *green, *blue]);
    }
}

/// Pixels that are converted together, channel by channel: few enough for the nearest cache.
const BLOCK: usize = 256;

/// Converts 8-bit pixels of hue in half degrees (0 to 179), saturation and value to full-range red, green, blue, in place. Trailing
/// bytes that do not form a whole pixel are left unchanged.
#[multiversion(targets("x86_64+avx2+fma"))]
pub fn rgb_from_hsv(pixels: &mut [u8]) {
    let [mut first, mut second, mut third] = [[0; BLOCK]; 3];
    for block in pixels.chunks_mut(3 * BLOCK) {
        let block = block.as_chunks_mut::<3>().0;
        // Compilers vectorise separate channels, not pixels of three bytes: a tenth of the time.
        for (((first, second), third), pixel) in first.iter_mut().zip(&mut second).zip(&mut third).zip(&*block) {
            [*first, *second, *third] = *pixel;
        }
        for ((first, second), third) in first.iter_mut().zip(&mut second).zip(&mut third) {
            [*first, *second, *third] = rgb_of([*first, *second, *third]);
        }
        for (((first, second), third), pixel) in first.iter().zip(&second).zip(&third).zip(block) {
            *pixel = [*first, *second, *third];
        }
    }
}

#[inline(always)]
fn rgb_of(hsv: [u8; 3]) -> [u8; 3] {
    let [hue, saturation, value] = hsv.map(f32::from);
    let depth = value * saturation * (1.0 / 255.0);
    // How far each channel lies below the value, from the distance of the hue to where the channel is full.
    [5.0, 3.0, 1.0].map(|start: f32| {
        let place = hue * (1.0 / 30.0) + start;
        let place = if place >= 6.0 { place - 6.0 } else { place };
        (value - depth * place.min(4.0 - place).clamp(0.0, 1.0) + WHOLE).to_bits() as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours() {
        let cases = [
            ([0, 0, 0], [0, 0, 0]),
            ([255, 255, 255], [0, 0, 255]),
            ([255, 0, 0], [0, 255, 255]),
            ([0, 255, 0], [60, 255, 255]),
            ([0, 0, 255], [120, 255, 255]),
            ([255, 255, 0], [30, 255, 255]),
            ([255, 0, 255], [150, 255, 255]),
            ([128, 64, 64], [0, 128, 128]),
        ];
        for (rgb, hsv) in cases {
            assert_eq!(hsv_from_rgb(rgb), hsv, "{rgb:?}");
        }
    }

    #[test]
    fn a_row_of_any_length_is_converted() {
        let pixel = |at: usize| [(at * 7 % 180) as u8, (at * 13) as u8, (at * 29) as u8];
        for pixels in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 5] {
            let mut row: Vec<u8> = (0..pixels).flat_map(pixel).chain([1, 2]).collect();
            rgb_from_hsv(&mut row);
            let expected: Vec<u8> = (0..pixels).flat_map(|at| rgb_of(pixel(at))).chain([1, 2]).collect();
            assert_eq!(row, expected, "and a part of a pixel is left alone");
        }
    }

    #[test]
    fn colours_come_back() {
        for code in (0..1 << 24).step_by(41) {
            let rgb = [code & 255, code >> 8 & 255, code >> 16 & 255].map(|channel: i32| channel as u8);
            let mut back = hsv_from_rgb(rgb);
            rgb_from_hsv(&mut back);
            // Hue has steps of two degrees.
            assert!(rgb.iter().zip(back).all(|(before, after)| before.abs_diff(after) <= 5), "{rgb:?}: {back:?}");
        }
    }

    #[test]
    fn every_colour_is_near_the_formula() {
        for code in (0..1 << 24).step_by(37) {
            let rgb = [code & 255, code >> 8 & 255, code >> 16 & 255].map(|channel| channel as u8);
            let [r, g, b] = rgb.map(f64::from);
            let (most, least) = (r.max(g).max(b), r.min(g).min(b));
            let spread = most - least;
            let sixths = match spread {
                0.0 => 0.0,
                _ if most == r => (g - b) / spread,
                _ if most == g => (b - r) / spread + 2.0,
                _ => (r - g) / spread + 4.0,
            };
            let hue = (sixths * 30.0).rem_euclid(180.0);
            let saturation = if most > 0.0 { spread / most * 255.0 } else { 0.0 };
            let [h, s, v] = hsv_from_rgb(rgb).map(f64::from);
            // Reciprocals of twelve bits add an error of up to 0.2 to the rounding.
            let off = (h - hue).abs();
            assert!(off.min(180.0 - off) <= 0.7 && (s - saturation).abs() <= 0.6 && v == most, "{rgb:?}: {h} for {hue}");
            assert!(h <= 179.5, "{rgb:?}: {h}");
        }
    }
}

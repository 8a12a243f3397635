//! Hue, saturation and value as OpenCV's 8-bit pictures hold them.

use std::sync::LazyLock;

/// Reciprocals in Q12, rounded: of saturation (255 steps) and of hue (30 half degrees for each sixth of the circle).
///
/// Source: OpenCV's documented 8-bit `COLOR_RGB2HSV`; the same numbers as in this project's kernels.
struct Reciprocals {
    saturation: [i32; 256],
    hue: [i32; 256],
}

static RECIPROCALS: LazyLock<Reciprocals> = LazyLock::new(|| {
    let table = |whole: f32| std::array::from_fn(|of| if of == 0 { 0 } else { (whole / of as f32).round_ties_even() as i32 });
    Reciprocals { saturation: table(1_044_480.0), hue: table(122_880.0) }
});

/// Full-range red, green, blue to hue in half degrees (0 to 179), saturation and value (0 to 255).
pub(crate) fn hsv_from_rgb(rgb: [u8; 3]) -> [u8; 3] {
    let reciprocals = &*RECIPROCALS;
    let [red, green, blue] = rgb.map(i32::from);
    let (most, least) = (red.max(green).max(blue), red.min(green).min(blue));
    let spread = most - least;
    let part = match most {
        _ if most == red => green - blue,
        _ if most == green => blue - red + 2 * spread,
        _ => red - green + 4 * spread,
    };
    let hue = (part * reciprocals.hue[(spread & 255) as usize] + 2048) >> 12;
    let saturation = (spread * reciprocals.saturation[(most & 255) as usize] + 2048) >> 12;
    [if hue < 0 { hue + 180 } else { hue } as u8, saturation as u8, most as u8]
}

/// The same for a row of 8-bit channels, in place.
pub(crate) fn hsv_row(rows: [&mut [u8]; 3]) {
    let [first, second, third] = rows;
    for ((red, green), blue) in first.iter_mut().zip(second).zip(third) {
        [*red, *green, *blue] = hsv_from_rgb([*red, *green, *blue]);
    }
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
            // Reciprocals of twelve bits cost up to 0.2 beside rounding.
            let off = (h - hue).abs();
            assert!(off.min(180.0 - off) <= 0.7 && (s - saturation).abs() <= 0.6 && v == most, "{rgb:?}: {h} for {hue}");
            assert!(h <= 179.5, "{rgb:?}: {h}");
        }
    }
}

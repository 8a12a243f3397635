//! Colour adjustments on planes of floats.

use framerail_core::ColorStep;
use multiversion::multiversion;

/// The three planes of one frame.
pub(super) type Planes<'a> = [&'a mut [f32]; 3];

/// Weights of red, green and blue in grey.
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

fn grey(rgb: [f32; 3]) -> f32 {
    rgb[0] * GREY[0] + rgb[1] * GREY[1] + rgb[2] * GREY[2]
}

/// Applies one step.
pub(super) fn adjust(step: ColorStep, planes: &mut Planes<'_>) {
    match step {
        ColorStep::None => {}
        ColorStep::Brightness(factor) => planes.iter_mut().for_each(|plane| mix_with(plane, factor, 0.0)),
        ColorStep::Contrast(factor) => {
            let mean = mean_grey(planes);
            planes.iter_mut().for_each(|plane| mix_with(plane, factor, mean * (1.0 - factor)));
        }
        ColorStep::Saturation(factor) => each_pixel(planes, |rgb| {
            let grey = grey(rgb) * (1.0 - factor);
            rgb.map(|value| (value * factor + grey).clamp(0.0, 1.0))
        }),
        ColorStep::Hue(turns) => turn_hue(planes, turns),
    }
}

/// Converts the planes to grey.
pub(super) fn take_out_color(planes: &mut Planes<'_>) {
    each_pixel(planes, |rgb| [grey(rgb); 3]);
}

#[inline(always)]
fn each_pixel(planes: &mut Planes<'_>, change: impl Fn([f32; 3]) -> [f32; 3]) {
    let [red, green, blue] = planes;
    for ((red, green), blue) in red.iter_mut().zip(green.iter_mut()).zip(blue.iter_mut()) {
        [*red, *green, *blue] = change([*red, *green, *blue]);
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn mix_with(plane: &mut [f32], factor: f32, addend: f32) {
    for value in plane {
        *value = (*value * factor + addend).clamp(0.0, 1.0);
    }
}

fn mean_grey(planes: &Planes<'_>) -> f32 {
    let [red, green, blue] = planes;
    let sum: f64 = red.iter().zip(green.iter()).zip(blue.iter()).map(|((r, g), b)| f64::from(grey([*r, *g, *b]))).sum();
    (sum / red.len().max(1) as f64) as f32
}

/// Rotates the hue of each pixel.
///
/// Source: A. R. Smith: Color Gamut Transform Pairs, SIGGRAPH 1978, in the form without case distinctions:
/// channel n is `v - c · max(0, min(k, 4 - k, 1))` with `k = (n + 6h) mod 6` and n = 5, 3, 1.
#[multiversion(targets("x86_64+avx2+fma"))]
fn turn_hue(planes: &mut Planes<'_>, turns: f32) {
    each_pixel(planes, |[red, green, blue]| {
        let value = red.max(green).max(blue);
        let chroma = value - red.min(green).min(blue);
        // Grey has no hue, so any value will do.
        let part = if chroma > 0.0 { 1.0 / chroma } else { 0.0 };
        let sixth = if value == red {
            (green - blue) * part
        } else if value == green {
            (blue - red) * part + 2.0
        } else {
            (red - green) * part + 4.0
        };
        // Two extra turns keep the value non-negative. Where rounding just misses a full turn, both ends give the same colour.
        let turned = sixth + turns * 6.0 + 12.0;
        [5.0_f32, 3.0, 1.0].map(|channel| {
            let k = channel + turned;
            let k = k - 6.0 * (k * (1.0 / 6.0)).floor();
            value - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
        })
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adjusted(rgb: [f32; 3], step: ColorStep) -> [f32; 3] {
        let mut planes = rgb.map(|value| vec![value]);
        adjust(step, &mut planes.each_mut().map(Vec::as_mut_slice));
        planes.map(|plane| plane[0])
    }

    fn near(found: [f32; 3], expected: [f32; 3]) {
        assert!(found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5), "{found:?}, not {expected:?}");
    }

    #[test]
    fn primaries_turn_into_each_other() {
        near(adjusted([1.0, 0.0, 0.0], ColorStep::Hue(1.0 / 3.0)), [0.0, 1.0, 0.0]);
        near(adjusted([1.0, 0.0, 0.0], ColorStep::Hue(-1.0 / 3.0)), [0.0, 0.0, 1.0]);
        near(adjusted([0.0, 1.0, 1.0], ColorStep::Hue(0.5)), [1.0, 0.0, 0.0]);
        near(adjusted([0.3, 0.3, 0.3], ColorStep::Hue(0.2)), [0.3; 3]);
        near(adjusted([0.2, 0.6, 0.4], ColorStep::Hue(0.0)), [0.2, 0.6, 0.4]);
    }

    #[test]
    fn neutral_steps_change_nothing_and_extremes_are_cut_off() {
        let rgb = [0.2, 0.9, 0.4];
        for step in [ColorStep::None, ColorStep::Brightness(1.0), ColorStep::Contrast(1.0), ColorStep::Saturation(1.0)] {
            near(adjusted(rgb, step), rgb);
        }
        near(adjusted(rgb, ColorStep::Brightness(2.0)), [0.4, 1.0, 0.8]);
        near(adjusted(rgb, ColorStep::Brightness(0.0)), [0.0; 3]);
        near(adjusted(rgb, ColorStep::Saturation(0.0)), [grey(rgb); 3]);
        near(adjusted(rgb, ColorStep::Contrast(0.0)), [grey(rgb); 3]);
    }
}

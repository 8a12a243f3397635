//! A part of a picture at another size, as planes of floats.

use framerail_core::{AugmentParams, BatchSpec, DType};
use multiversion::multiversion;

/// The pixels that make up each output position of an axis, in order of the output, with their weights.
#[derive(Debug, Default)]
struct Axis {
    /// First pixel and number of them, for each position.
    spans: Vec<(usize, usize)>,
    /// Weights, `stride` for each position.
    weights: Vec<f32>,
    stride: usize,
}

impl Axis {
    /// `pixels` of the crop become `out` positions.
    ///
    /// Source: the positions of PyTorch's bilinear `interpolate` with `align_corners=False`; with `antialias` those of Pillow's
    /// triangle filter, which is the same where a picture grows.
    fn new(pixels: u32, out: u32, antialias: bool, flip: bool) -> Self {
        let scale = f64::from(pixels) / f64::from(out);
        let reach = if antialias { scale.max(1.0) } else { 1.0 };
        let stride = (reach.ceil() as usize) * 2 + 1;
        let mut axis = Self { spans: Vec::with_capacity(out as usize), weights: vec![0.0; out as usize * stride], stride };
        for (position, weights) in (0..out).zip(axis.weights.chunks_exact_mut(stride)) {
            let position = if flip { out - 1 - position } else { position };
            let center = (f64::from(position) + 0.5) * scale;
            axis.spans.push(if reach > 1.0 { triangle(center, reach, pixels, weights) } else { nearest_two(center, pixels, weights) });
        }
        axis
    }

    fn taps(&self, position: usize) -> (usize, &[f32]) {
        let (first, count) = self.spans[position];
        (first, &self.weights[position * self.stride..][..count])
    }
}

fn nearest_two(center: f64, pixels: u32, weights: &mut [f32]) -> (usize, usize) {
    let at = (center - 0.5).clamp(0.0, f64::from(pixels - 1));
    let part = at.fract() as f32;
    if part == 0.0 {
        weights[0] = 1.0;
        return (at as usize, 1);
    }
    weights[..2].copy_from_slice(&[1.0 - part, part]);
    (at as usize, 2)
}

fn triangle(center: f64, reach: f64, pixels: u32, weights: &mut [f32]) -> (usize, usize) {
    let first = (center - reach + 0.5).max(0.0) as usize;
    let end = ((center + reach + 0.5) as usize).min(pixels as usize);
    let weight = |pixel: usize| (1.0 - ((pixel as f64 + 0.5 - center) / reach).abs()).max(0.0);
    let sum: f64 = (first..end).map(weight).sum();
    for (out, pixel) in weights.iter_mut().zip(first..end) {
        *out = (weight(pixel) / sum) as f32;
    }
    (first, end - first)
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn add_bytes(row: &[u8], weight: f32, sums: &mut [f32]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += f32::from(*value) * weight;
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn add_floats(row: &[u8], weight: f32, sums: &mut [f32]) {
    for (sum, value) in sums.iter_mut().zip(row.as_chunks::<4>().0) {
        *sum += f32::from_ne_bytes(*value) * weight;
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn gather(row: &[f32], step: usize, spans: &[(usize, usize)], weights: &[f32], stride: usize, out: &mut [f32]) {
    for ((out, (first, count)), weights) in out.iter_mut().zip(spans).zip(weights.chunks_exact(stride)) {
        let pixels = row[first * step..].iter().step_by(step);
        *out = pixels.zip(&weights[..*count]).map(|(pixel, weight)| pixel * weight).sum();
    }
}

/// Cuts, resizes and flips; keeps its row between pictures.
#[derive(Debug, Default)]
pub(super) struct Resampler {
    sums: Vec<f32>,
}

impl Resampler {
    /// Writes three planes of `width` by `height` values in 0..=1. The crop lies inside of the picture.
    pub fn run(&mut self, batch: &BatchSpec, picture: &[u8], params: &AugmentParams, (width, height): (u32, u32), planes: &mut [f32]) {
        let crop = params.crop;
        let across = Axis::new(crop.width, width, params.antialias, params.flip_horizontal);
        let down = Axis::new(crop.height, height, params.antialias, params.flip_vertical);
        let (step, channel_step) = batch.steps();
        // Interleaved rows are weighed with all their channels at once.
        let (rows_apart, channels_a_row) = if step == 1 { (1, 1) } else { (3, 3) };
        let element = batch.dtype.size_bytes();
        let scale = if batch.dtype == DType::U8 { 1.0 / 255.0 } else { 1.0 };
        let out_pixels = width as usize * height as usize;
        self.sums.resize(crop.width as usize * channels_a_row, 0.0);
        for y in 0..height as usize {
            let (first, weights) = down.taps(y);
            for plane in 0..3 / channels_a_row {
                self.sums.fill(0.0);
                for (row, weight) in (crop.y as usize + first..).zip(weights) {
                    let start = plane * channel_step + (row * batch.width as usize + crop.x as usize) * rows_apart;
                    let row = &picture[start * element..][..self.sums.len() * element];
                    match batch.dtype {
                        DType::U8 => add_bytes(row, weight * scale, &mut self.sums),
                        _ => add_floats(row, weight * scale, &mut self.sums),
                    }
                }
                for channel in 0..channels_a_row {
                    let out = &mut planes[(plane + channel) * out_pixels + y * width as usize..][..width as usize];
                    gather(&self.sums[channel..], channels_a_row, &across.spans, &across.weights, across.stride, out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::TensorLayout;

    use super::*;

    #[test]
    fn the_same_size_keeps_every_value_and_flips_turn_it() {
        for layout in [TensorLayout::Tchw, TensorLayout::Thwc] {
            let batch = BatchSpec { width: 5, height: 4, layout, dtype: DType::U8 };
            let picture: Vec<u8> = (0..60).map(|index| index * 4 + 3).collect();
            let (step, channel_step) = batch.steps();
            let mut params = AugmentParams::whole(5, 4);
            (params.flip_horizontal, params.flip_vertical) = (true, true);
            let mut planes = vec![0.0; 60];
            Resampler::default().run(&batch, &picture, &params, (5, 4), &mut planes);
            for (index, value) in planes.iter().enumerate() {
                let (channel, pixel) = (index / 20, 19 - index % 20);
                assert!((value * 255.0 - f32::from(picture[pixel * step + channel * channel_step])).abs() < 1e-4, "{index}");
            }
        }
    }

    #[test]
    fn weights_sum_to_one() {
        for (pixels, out) in [(1, 9), (9, 1), (7, 7), (640, 33), (33, 640), (2, 3)] {
            for antialias in [false, true] {
                let axis = Axis::new(pixels, out, antialias, false);
                for position in 0..out as usize {
                    let (first, weights) = axis.taps(position);
                    assert!(first + weights.len() <= pixels as usize && !weights.is_empty());
                    assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{pixels} to {out}, {antialias}");
                }
            }
        }
    }
}

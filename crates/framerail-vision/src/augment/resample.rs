//! Resamples a part of a frame to another size, as planes of floats.

use framerail_core::{AugmentParams, BatchSpec, DType};
use multiversion::multiversion;

use crate::kernels::{self, RowBuffer, row_buffer};

/// The pixels that make up each output position of an axis, with their weights.
#[derive(Debug, Default)]
struct Axis {
    /// First pixel and number of pixels of each position.
    spans: Vec<(usize, usize)>,
    /// Weights, `stride` per position.
    weights: Vec<f32>,
    stride: usize,
}

impl Axis {
    /// Resamples `pixels` of the crop to `out` positions.
    ///
    /// Source: the positions of PyTorch's bilinear `interpolate` with `align_corners=False`; with `antialias`, those of Pillow's
    /// triangle filter, which is the same when scaling up.
    fn new(pixels: u32, out: u32, antialias: bool, flip: bool) -> Self {
        let scale = f64::from(pixels) / f64::from(out);
        let is_wide = antialias && scale > 1.0;
        let stride = if is_wide { scale.ceil() as usize * 2 + 1 } else { 2 };
        let mut axis = Self { spans: Vec::with_capacity(out as usize), weights: vec![0.0; out as usize * stride], stride };
        for (position, weights) in (0..out).zip(axis.weights.chunks_exact_mut(stride)) {
            let position = if flip { out - 1 - position } else { position };
            let center = (f64::from(position) + 0.5) * scale;
            axis.spans.push(if is_wide { triangle(center, scale, pixels, weights) } else { nearest_two(center, pixels, weights) });
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
    weights.copy_from_slice(&[1.0 - part, part]);
    (at as usize, if part == 0.0 { 1 } else { 2 })
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

/// Resamples a weighted row horizontally. The row holds `step` interleaved channels.
#[derive(Debug)]
struct Across {
    step: usize,
    axis: Axis,
    /// Indices of both neighbours for each channel, and the position between them. Used for axes of at most two taps.
    near: [Vec<u32>; 3],
    next: [Vec<u32>; 3],
    part: Vec<f32>,
}

impl Across {
    fn new(axis: Axis, step: usize) -> Self {
        let (mut near, mut next) = <([Vec<u32>; 3], [Vec<u32>; 3])>::default();
        let mut part = Vec::new();
        if axis.stride == 2 {
            for channel in 0..step {
                near[channel] = axis.spans.iter().map(|(first, _)| (first * step + channel) as u32).collect();
                next[channel] = axis.spans.iter().map(|(first, count)| ((first + count - 1) * step + channel) as u32).collect();
            }
            part = axis.weights.chunks_exact(2).map(|pair| pair[1]).collect();
        }
        Self { step, axis, near, next, part }
    }

    fn run(&self, row: &RowBuffer, channel: usize, out: &mut [f32]) {
        match self.step {
            _ if self.axis.stride == 2 => kernels::lerp(row, &self.near[channel], &self.next[channel], &self.part, out),
            1 => gather::<1>(row, channel, &self.axis, out),
            _ => gather::<3>(row, channel, &self.axis, out),
        }
    }
}

fn gather<const STEP: usize>(row: &RowBuffer, channel: usize, axis: &Axis, out: &mut [f32]) {
    let pixels = row.as_chunks::<STEP>().0;
    for ((out, (first, count)), weights) in out.iter_mut().zip(&axis.spans).zip(axis.weights.chunks_exact(axis.stride)) {
        *out = pixels[*first..][..*count].iter().zip(weights).map(|(pixel, weight)| pixel[channel] * weight).sum();
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn add_floats(row: &[u8], weight: f32, sums: &mut [f32]) {
    for (sum, value) in sums.iter_mut().zip(row.as_chunks::<4>().0) {
        *sum += f32::from_ne_bytes(*value) * weight;
    }
}

/// Crops, resizes and flips. Keeps its row buffer between frames.
#[derive(Debug)]
pub(super) struct Resampler {
    row: Box<RowBuffer>,
}

impl Default for Resampler {
    fn default() -> Self {
        Self { row: row_buffer() }
    }
}

impl Resampler {
    /// Writes three planes of `width` by `height` values in 0..=1. The crop must lie inside the frame.
    pub fn run(&mut self, batch: &BatchSpec, image: &[u8], params: &AugmentParams, (width, height): (u32, u32), planes: &mut [f32]) {
        let crop = params.crop;
        let (step, channel_step) = batch.steps();
        let across = Across::new(Axis::new(crop.width, width, params.antialias, params.flip_horizontal), step);
        let down = Axis::new(crop.height, height, params.antialias, params.flip_vertical);
        let element = batch.dtype.size_bytes();
        let out_pixels = width as usize * height as usize;
        let elements = crop.width as usize * step;
        for y in 0..height as usize {
            let (first, weights) = down.taps(y);
            // Interleaved rows are weighted with all channels at once.
            for plane in 0..3 / step {
                let rows = (crop.y as usize + first..).zip(weights).map(|(row, weight)| {
                    let start = plane * channel_step + (row * batch.width as usize + crop.x as usize) * step;
                    (&image[start * element..][..elements * element], *weight)
                });
                weigh(batch.dtype, rows, &mut self.row[..elements]);
                for channel in 0..step {
                    let out = &mut planes[(plane + channel) * out_pixels + y * width as usize..][..width as usize];
                    across.run(&self.row, channel, out);
                }
            }
        }
    }
}

fn weigh<'a>(dtype: DType, rows: impl Iterator<Item = (&'a [u8], f32)>, out: &mut [f32]) {
    if dtype == DType::U8 {
        return kernels::weigh_rows(1, rows.map(|(row, weight)| (row, weight / 255.0)), out);
    }
    out.fill(0.0);
    rows.for_each(|(row, weight)| add_floats(row, weight, out));
}

#[cfg(test)]
mod tests {
    use framerail_core::TensorLayout;

    use super::*;

    #[test]
    fn the_same_size_keeps_every_value_and_flips_turn_it() {
        for layout in [TensorLayout::Tchw, TensorLayout::Thwc] {
            let batch = BatchSpec { width: 5, height: 4, layout, dtype: DType::U8 };
            let image: Vec<u8> = (0..60).map(|index| index * 4 + 3).collect();
            let (step, channel_step) = batch.steps();
            let mut params = AugmentParams::whole(5, 4);
            (params.flip_horizontal, params.flip_vertical) = (true, true);
            let mut planes = vec![0.0; 60];
            Resampler::default().run(&batch, &image, &params, (5, 4), &mut planes);
            for (index, value) in planes.iter().enumerate() {
                let (channel, pixel) = (index / 20, 19 - index % 20);
                assert!((value * 255.0 - f32::from(image[pixel * step + channel * channel_step])).abs() < 1e-4, "{index}");
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

//! Converts RGB arrays to planes of Y'CbCr, for encoders.
//!
//! Each sample is computed by the equations of Rec. ITU-T H.273 and rounded to the nearest. Chroma of 4:2:0 and 4:2:2 is the mean of
//! the pixels that share it. Conversion of 8 bits to 8 bits uses 16-bit fixed point, within 0.06 of the equations before its
//! rounding; the rest uses 32-bit floats.

use framerail_core::{ColorDescription, ColorRange, FramePool, HostSurface, PixelFormat, surface::PlanesMut};
use multiversion::multiversion;

use crate::VisionError;

/// The layout of an array of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelArray {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// 3 for RGB, 1 for grey.
    pub channels: u32,
    /// Bytes per sample: 1, or 2 in little endian. Samples use the full range of their type.
    pub sample_bytes: u32,
    /// Whether channels are planar (CHW) rather than interleaved (HWC).
    pub is_planar: bool,
}

impl PixelArray {
    /// Bytes of one frame.
    pub fn bytes(&self) -> usize {
        self.width as usize * self.height as usize * self.channels as usize * self.sample_bytes as usize
    }
}

/// Converts frames to planes of one format. Keeps its row buffers and a pool of surfaces.
pub struct ToYuv {
    array: PixelArray,
    format: PixelFormat,
    mix: Mix,
    pool: FramePool,
    rows: [Vec<f32>; 3],
    sums: [Vec<f32>; 3],
    bytes: ByteRows,
}

/// Red, green and blue of the two rows that share chroma, padded to whole pairs, and sums over the pixels that share it.
#[derive(Default)]
struct ByteRows {
    rows: [[Vec<u8>; 3]; 2],
    sums: [Vec<i16>; 3],
}

/// A weight of 1 in [`FixedMix`].
const WEIGHT_ONE: f32 = 32_768.0;
/// An 8-bit step in fixed point.
const STEP: i16 = 64;

/// Weights of red, green and blue in 1/32768, and an offset in 1/64 of a step. The offset includes half a step, because the sum is
/// rounded down, and compensates for rounding down three products.
#[derive(Clone, Copy)]
struct FixedMix {
    weights: [i16; 3],
    zero: i16,
}

impl FixedMix {
    /// Converts a mix of bytes to bytes to fixed point.
    fn new([red, green, blue, zero]: [f32; 4]) -> Self {
        let fixed = |weight: f32| (weight * WEIGHT_ONE).round() as i16;
        let (first, last) = (fixed(red), fixed(blue));
        // The sum of the weights is kept, so that greys stay exact.
        let middle = fixed(red + green + blue) - first - last;
        Self { weights: [first, middle, last], zero: zero as i16 * STEP + STEP / 2 + 1 }
    }
}

/// Weights of red, green and blue, and an offset.
#[derive(Clone, Copy)]
struct Mix {
    luma: [f32; 4],
    chroma: [[f32; 4]; 2],
    highest: f32,
}

impl Mix {
    fn new(color: &ColorDescription, bits: u32, sample_bytes: u32) -> Self {
        let (red, blue) = color.matrix_or_default().luma_weights();
        let green = 1.0 - red - blue;
        let white = if sample_bytes == 2 { 65_535.0 } else { 255.0 };
        let step = f64::from(1_u32 << (bits - 8));
        let highest = 256.0 * step - 1.0;
        let (luma_span, luma_zero, chroma_span) =
            if color.range == ColorRange::Full { (highest, 0.0, highest) } else { (219.0 * step, 16.0 * step, 224.0 * step) };
        let scaled = |weights: [f64; 3], span: f64, zero: f64| {
            let [r, g, b] = weights.map(|weight| (weight * span / white) as f32);
            [r, g, b, zero as f32]
        };
        let (to_blue, to_red) = (0.5 / (1.0 - blue), 0.5 / (1.0 - red));
        let middle = 128.0 * step;
        Self {
            luma: scaled([red, green, blue], luma_span, luma_zero),
            chroma: [
                scaled([-red * to_blue, -green * to_blue, 0.5], chroma_span, middle),
                scaled([0.5, -green * to_red, -blue * to_red], chroma_span, middle),
            ],
            highest: highest as f32,
        }
    }
}

impl ToYuv {
    /// Supported output formats: 4:2:0, 4:2:2 and 4:4:4 with 8, 10 or 12 bits.
    pub const FORMATS: [PixelFormat; 9] = [
        PixelFormat::Yuv420p,
        PixelFormat::Yuv422p,
        PixelFormat::Yuv444p,
        PixelFormat::Yuv420p10,
        PixelFormat::Yuv422p10,
        PixelFormat::Yuv444p10,
        PixelFormat::Yuv420p12,
        PixelFormat::Yuv422p12,
        PixelFormat::Yuv444p12,
    ];

    /// Creates a converter from arrays like `array` to `format`, by the matrix and range of `color`. Default: BT.601 and limited range.
    ///
    /// # Errors
    /// `OptionOutOfRange` for an unsupported format, or arrays without 1 or 3 channels of 1 or 2 bytes.
    pub fn new(array: PixelArray, format: PixelFormat, color: &ColorDescription, pool: FramePool) -> Result<Self, VisionError> {
        let is_known = matches!(array.channels, 1 | 3) && matches!(array.sample_bytes, 1 | 2);
        if !Self::FORMATS.contains(&format) || !is_known {
            return Err(VisionError::option("pixel_format", format, "4:2:0, 4:2:2 or 4:4:4 of 8, 10 or 12 bits, from 1 or 3 channels"));
        }
        let width = array.width as usize;
        let rows = || std::array::from_fn(|_| vec![0.0; width + 1]);
        Ok(Self {
            mix: Mix::new(color, format.bits(), array.sample_bytes),
            array,
            format,
            pool,
            rows: rows(),
            sums: rows(),
            bytes: ByteRows::default(),
        })
    }

    /// The output format.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Converts one frame of [`PixelArray::bytes`] bytes.
    ///
    /// # Errors
    /// `Core` for sizes out of range, or when memory runs out.
    pub fn convert(&mut self, image: &[u8]) -> Result<HostSurface, VisionError> {
        let (width, height) = (self.array.width as usize, self.array.height as usize);
        let (across, down) = self.format.chroma_shift();
        let mut surface = self.pool.surface(self.format, self.array.width, self.array.height)?;
        let Some(mut planes) = surface.planes_mut() else { return Err(VisionError::NotWritable { format: self.format }) };
        if self.array.sample_bytes == 1 && self.format.bits() == 8 {
            self.convert_bytes(image, &mut planes);
            return Ok(surface);
        }
        let lines = 1_usize << down;
        let is_wide = self.format.bits() > 8;
        let highest = self.mix.highest;
        for top in (0..height).step_by(lines) {
            for line in 0..lines {
                // The last row of an odd height replaces the missing one.
                let row = (top + line).min(height - 1);
                self.load(image, row);
                let [r, g, b] = &self.rows;
                if top + line < height {
                    let out = planes.row(0, row);
                    if is_wide { mix_words(self.mix.luma, [r, g, b], highest, out) } else { mix_bytes(self.mix.luma, [r, g, b], out) }
                }
                for (sum, row) in self.sums.iter_mut().zip(&self.rows) {
                    if line == 0 { sum.copy_from_slice(row) } else { add(sum, row) }
                }
            }
            let share = 1.0 / (lines << across) as f32;
            let count = if across == 0 { width } else { width.div_ceil(2) };
            if across == 1 {
                for sum in &mut self.sums {
                    if width % 2 == 1 {
                        sum[width] = sum[width - 1];
                    }
                    add_pairs(sum, count);
                }
            }
            let [r, g, b] = &self.sums;
            let sums = [&r[..count], &g[..count], &b[..count]];
            for (plane, weights) in self.mix.chroma.iter().enumerate() {
                let weights = [weights[0] * share, weights[1] * share, weights[2] * share, weights[3]];
                let out = planes.row(plane + 1, top >> down);
                if is_wide { mix_words(weights, sums, highest, out) } else { mix_bytes(weights, sums, out) }
            }
        }
        Ok(surface)
    }

    /// Converts bytes to bytes in fixed point.
    fn convert_bytes(&mut self, image: &[u8], planes: &mut PlanesMut<'_>) {
        let (width, height) = (self.array.width as usize, self.array.height as usize);
        let (across, down) = self.format.chroma_shift();
        let luma = FixedMix::new(self.mix.luma);
        let chroma = self.mix.chroma.map(FixedMix::new);
        let ByteRows { rows: [near, far], sums } = &mut self.bytes;
        for top in (0..height).step_by(1 << down) {
            let first = load_bytes(&self.array, image, top, near);
            mix_bytes_to_bytes(luma, first, planes.row(0, top));
            if across == 0 {
                chroma.iter().enumerate().for_each(|(plane, mix)| mix_bytes_to_bytes(*mix, first, planes.row(plane + 1, top)));
                continue;
            }
            // A single row counts twice: each row of 4:2:2, and the last row of an odd height.
            let mut second = first;
            if down == 1 && top + 1 < height {
                second = load_bytes(&self.array, image, top + 1, far);
                mix_bytes_to_bytes(luma, second, planes.row(0, top + 1));
            }
            for ((sum, first), second) in sums.iter_mut().zip(first).zip(second) {
                sum.resize(width.div_ceil(2), 0);
                add_fours(first, second, sum);
            }
            let [r, g, b] = &*sums;
            chroma.iter().enumerate().for_each(|(plane, mix)| mix_sums_to_bytes(*mix, [r, g, b], planes.row(plane + 1, top >> down)));
        }
    }

    /// Reads a row of the array into floats, separately for red, green and blue.
    fn load(&mut self, image: &[u8], row: usize) {
        let (width, height) = (self.array.width as usize, self.array.height as usize);
        let (channels, size) = (self.array.channels as usize, self.array.sample_bytes as usize);
        let [r, g, b] = &mut self.rows;
        if self.array.is_planar || channels == 1 {
            for (channel, out) in [r, g, b].into_iter().enumerate() {
                let plane = if channels == 1 { 0 } else { channel };
                let from = (plane * height + row) * width * size;
                let samples = image.get(from..from + width * size).unwrap_or_default();
                if size == 1 { widen_bytes(samples, out) } else { widen_words(samples, out) }
            }
        } else {
            let from = row * width * 3 * size;
            let samples = image.get(from..from + width * 3 * size).unwrap_or_default();
            if size == 1 { split_bytes(samples, r, g, b) } else { split_words(samples, r, g, b) }
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn split(samples: &[u8], r: &mut [u8], g: &mut [u8], b: &mut [u8]) {
    for (((r, g), b), [red, green, blue]) in r.iter_mut().zip(g).zip(b).zip(samples.as_chunks::<3>().0) {
        (*r, *g, *b) = (*red, *green, *blue);
    }
}

/// Returns a row of bytes, separately for red, green and blue. For an odd width, the last pixel is repeated.
fn load_bytes<'a>(array: &PixelArray, image: &'a [u8], row: usize, buffers: &'a mut [Vec<u8>; 3]) -> [&'a [u8]; 3] {
    let (width, height) = (array.width as usize, array.height as usize);
    let taken = |start: usize, bytes: usize| image.get(start..start + bytes).unwrap_or_default();
    let is_interleaved = array.channels == 3 && !array.is_planar;
    let planes = [0, 1, 2].map(|channel| {
        let plane = if array.channels == 1 { 0 } else { channel };
        if is_interleaved { &[] } else { taken((plane * height + row) * width, width) }
    });
    let is_odd = width % 2 == 1;
    if !is_interleaved && !is_odd {
        return planes;
    }
    buffers.iter_mut().for_each(|buffer| buffer.resize(width.next_multiple_of(2), 0));
    if is_interleaved {
        let [r, g, b] = &mut *buffers;
        split(taken(row * width * 3, width * 3), r, g, b);
    } else {
        buffers.iter_mut().zip(planes).for_each(|(buffer, plane)| buffer[..plane.len()].copy_from_slice(plane));
    }
    for buffer in &mut *buffers {
        if let ([.., last, padding], true) = (&mut buffer[..], is_odd) {
            *padding = *last;
        }
    }
    let [r, g, b] = buffers;
    [r, g, b]
}

/// `left · right / 65536`, rounded down: one instruction in SSE2 and NEON.
#[inline(always)]
fn multiply_high(left: i16, right: i16) -> i16 {
    ((i32::from(left) * i32::from(right)) >> 16) as i16
}

#[inline(always)]
fn mixed(mix: FixedMix, [r, g, b]: [i16; 3]) -> u8 {
    let [red, green, blue] = mix.weights;
    let sum = mix.zero + multiply_high(r, red) + multiply_high(g, green) + multiply_high(b, blue);
    // Full-range chroma reaches 256.
    (sum >> 6).clamp(0, 255) as u8
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn mix_bytes_to_bytes(mix: FixedMix, rows: [&[u8]; 3], out: &mut [u8]) {
    for (((out, r), g), b) in out.iter_mut().zip(rows[0]).zip(rows[1]).zip(rows[2]) {
        *out = mixed(mix, [*r, *g, *b].map(|sample| i16::from(sample) << 7));
    }
}

/// Mixes rows of sums over four bytes each, scaled by 32.
#[multiversion(targets("x86_64+avx2+fma"))]
fn mix_sums_to_bytes(mix: FixedMix, rows: [&[i16]; 3], out: &mut [u8]) {
    for (((out, r), g), b) in out.iter_mut().zip(rows[0]).zip(rows[1]).zip(rows[2]) {
        *out = mixed(mix, [*r, *g, *b]);
    }
}

/// Sums two neighbours of two rows each, times 32.
#[multiversion(targets("x86_64+avx2+fma"))]
fn add_fours(first: &[u8], second: &[u8], out: &mut [i16]) {
    for ((out, first), second) in out.iter_mut().zip(first.as_chunks::<2>().0).zip(second.as_chunks::<2>().0) {
        let sum = |pair: &[u8; 2]| u16::from_le_bytes(*pair) % 256 + u16::from_le_bytes(*pair) / 256;
        *out = ((sum(first) + sum(second)) << 5) as i16;
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn widen_bytes(samples: &[u8], out: &mut [f32]) {
    for (out, sample) in out.iter_mut().zip(samples) {
        *out = f32::from(*sample);
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn widen_words(samples: &[u8], out: &mut [f32]) {
    for (out, sample) in out.iter_mut().zip(samples.as_chunks::<2>().0) {
        *out = f32::from(u16::from_le_bytes(*sample));
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn split_bytes(samples: &[u8], r: &mut [f32], g: &mut [f32], b: &mut [f32]) {
    let pixels = samples.as_chunks::<3>().0;
    for (((r, g), b), [red, green, blue]) in r.iter_mut().zip(g).zip(b).zip(pixels) {
        (*r, *g, *b) = (f32::from(*red), f32::from(*green), f32::from(*blue));
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn split_words(samples: &[u8], r: &mut [f32], g: &mut [f32], b: &mut [f32]) {
    let pixels = samples.as_chunks::<6>().0;
    for (((r, g), b), [r0, r1, g0, g1, b0, b1]) in r.iter_mut().zip(g).zip(b).zip(pixels) {
        let word = |low: &u8, high: &u8| f32::from(u16::from_le_bytes([*low, *high]));
        (*r, *g, *b) = (word(r0, r1), word(g0, g1), word(b0, b1));
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn add(sum: &mut [f32], row: &[f32]) {
    for (sum, value) in sum.iter_mut().zip(row) {
        *sum += value;
    }
}

/// Sums pairs of neighbours into the front half of the row.
#[multiversion(targets("x86_64+avx2+fma"))]
fn add_pairs(row: &mut [f32], count: usize) {
    for at in 0..count {
        let (Some(left), Some(right)) = (row.get(2 * at), row.get(2 * at + 1)) else { return };
        let sum = left + right;
        if let Some(out) = row.get_mut(at) {
            *out = sum;
        }
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn mix_bytes(weights: [f32; 4], rows: [&[f32]; 3], out: &mut [u8]) {
    let [red, green, blue, zero] = weights;
    for (((out, r), g), b) in out.iter_mut().zip(rows[0]).zip(rows[1]).zip(rows[2]) {
        // Rounds to the nearest. Full-range chroma could round to 256; no value is below 0.
        *out = (zero + 0.5 + r * red + g * green + b * blue).min(255.0) as i32 as u8;
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn mix_words(weights: [f32; 4], rows: [&[f32]; 3], highest: f32, out: &mut [u8]) {
    let [red, green, blue, zero] = weights;
    for (((out, r), g), b) in out.as_chunks_mut::<2>().0.iter_mut().zip(rows[0]).zip(rows[1]).zip(rows[2]) {
        let value = (zero + r * red + g * green + b * blue).clamp(0.0, highest);
        *out = ((value + 0.5) as i32 as u16).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::ColorMatrix;
    use proptest::prelude::*;

    use super::*;

    fn color(matrix: ColorMatrix, range: ColorRange) -> ColorDescription {
        ColorDescription { matrix, range, ..ColorDescription::default() }
    }

    /// The equations in 64-bit floats.
    fn reference(rgb: [f64; 3], color: &ColorDescription, bits: u32, white: f64) -> [f64; 3] {
        let (kr, kb) = color.matrix.luma_weights();
        let [r, g, b] = rgb.map(|value| value / white);
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        let (u, v) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
        let step = f64::from(1_u32 << (bits - 8));
        if color.range == ColorRange::Full {
            let highest = 256.0 * step - 1.0;
            return [y * highest, (u * highest + 128.0 * step).min(highest), (v * highest + 128.0 * step).min(highest)];
        }
        [(219.0 * y + 16.0) * step, (224.0 * u + 128.0) * step, (224.0 * v + 128.0) * step]
    }

    fn sample(surface: &HostSurface, plane: usize, x: usize, y: usize) -> f64 {
        let row = surface.row(plane, y);
        if surface.format().bits() > 8 { f64::from(u16::from_le_bytes([row[2 * x], row[2 * x + 1]])) } else { f64::from(row[x]) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn samples_are_those_of_the_equations(
            (width, height) in (1_u32..40, 1_u32..9),
            is_planar: bool,
            is_wide: bool,
            channels in prop::sample::select(vec![1_u32, 3]),
            format in prop::sample::select(ToYuv::FORMATS.to_vec()),
            matrix in prop::sample::select(vec![ColorMatrix::Bt601, ColorMatrix::Bt709, ColorMatrix::Bt2020]),
            range in prop::sample::select(vec![ColorRange::Limited, ColorRange::Full]),
            seed: u64,
        ) {
            let array = PixelArray { width, height, channels, sample_bytes: if is_wide { 2 } else { 1 }, is_planar };
            let mut state = seed | 1;
            let bytes: Vec<u8> = (0..array.bytes())
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) as u8
                })
                .collect();
            let color = color(matrix, range);
            let surface = ToYuv::new(array, format, &color, FramePool::new(1)).expect("known").convert(&bytes).expect("memory");
            let (w, h, c) = (width as usize, height as usize, channels as usize);
            let value = |x: usize, y: usize, channel: usize| {
                let channel = if c == 1 { 0 } else { channel };
                let at = if is_planar { (channel * h + y) * w + x } else { (y * w + x) * c + channel };
                if is_wide { f64::from(u16::from_le_bytes([bytes[2 * at], bytes[2 * at + 1]])) } else { f64::from(bytes[at]) }
            };
            let white = if is_wide { 65_535.0 } else { 255.0 };
            let bits = format.bits();
            let (across, down) = format.chroma_shift();
            for y in 0..h {
                for x in 0..w {
                    let wanted = reference([value(x, y, 0), value(x, y, 1), value(x, y, 2)], &color, bits, white);
                    prop_assert!((sample(&surface, 0, x, y) - wanted[0]).abs() <= 0.56);
                    let (cx, cy) = (x >> across, y >> down);
                    let mut mean = [0.0; 3];
                    for dy in 0..1 << down {
                        for dx in 0..1 << across {
                            let (px, py) = (((cx << across) + dx).min(w - 1), ((cy << down) + dy).min(h - 1));
                            let at = [value(px, py, 0), value(px, py, 1), value(px, py, 2)];
                            for (mean, value) in mean.iter_mut().zip(at) {
                                *mean += value / f64::from(1_u32 << (across + down));
                            }
                        }
                    }
                    let wanted = reference(mean, &color, bits, white);
                    prop_assert!((sample(&surface, 1, cx, cy) - wanted[1]).abs() <= 0.56);
                    prop_assert!((sample(&surface, 2, cx, cy) - wanted[2]).abs() <= 0.56);
                }
            }
        }
    }

    #[test]
    fn black_and_white_are_the_ends_of_the_range() {
        let array = PixelArray { width: 2, height: 2, channels: 3, sample_bytes: 1, is_planar: false };
        for (range, black, white) in [(ColorRange::Limited, 16, 235), (ColorRange::Full, 0, 255)] {
            let color = color(ColorMatrix::Bt709, range);
            let mut converter = ToYuv::new(array, PixelFormat::Yuv420p, &color, FramePool::new(1)).expect("known");
            for (value, luma) in [(0, black), (255, white)] {
                let surface = converter.convert(&[value; 12]).expect("memory");
                assert_eq!((surface.row(0, 0)[0], surface.row(1, 0)[0], surface.row(2, 0)[0]), (luma, 128, 128));
            }
        }
    }
}

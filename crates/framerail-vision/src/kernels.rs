//! Inner loops over rows, written for auto-vectorisation and compiled for several instruction sets of the CPU.

use framerail_core::{ChannelMix, FastYuv};
use multiversion::multiversion;

/// Length of a row buffer for gathering: the widest frame times the maximum number of samples per pixel.
///
/// A power of two known at compile time, so that a masked index needs no bounds check.
pub(crate) const ROW_CAPACITY: usize = framerail_core::surface::MAX_SIDE as usize * 4;

/// A row of samples as floats.
pub(crate) type RowBuffer = [f32; ROW_CAPACITY];

/// Allocates a zeroed row buffer on the heap. The system only backs pages that are touched.
pub(crate) fn row_buffer() -> Box<RowBuffer> {
    match vec![0.0; ROW_CAPACITY].into_boxed_slice().try_into() {
        Ok(buffer) => buffer,
        Err(_) => unreachable!("the length is the array's own"),
    }
}

#[inline(always)]
fn load<const BYTES: usize>(chunk: &[u8; BYTES]) -> f32 {
    if BYTES == 1 { f32::from(chunk[0]) } else { f32::from(u16::from_le_bytes([chunk[0], chunk[BYTES - 1]])) }
}

#[inline(always)]
fn scale_row<const BYTES: usize>(row: &[u8], weight: f32, out: &mut [f32]) {
    for (out, sample) in out.iter_mut().zip(row.as_chunks::<BYTES>().0) {
        *out = load(sample) * weight;
    }
}

#[inline(always)]
fn add_row<const BYTES: usize>(row: &[u8], weight: f32, out: &mut [f32]) {
    for (out, sample) in out.iter_mut().zip(row.as_chunks::<BYTES>().0) {
        *out += load(sample) * weight;
    }
}

#[inline(always)]
fn mix_rows<const BYTES: usize>(rows: [&[u8]; 2], weights: [f32; 2], out: &mut [f32]) {
    let pairs = rows[0].as_chunks::<BYTES>().0.iter().zip(rows[1].as_chunks::<BYTES>().0);
    for (out, (first, second)) in out.iter_mut().zip(pairs) {
        *out = load(first) * weights[0] + load(second) * weights[1];
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn scale_samples(bytes: usize, row: &[u8], weight: f32, out: &mut [f32]) {
    if bytes == 1 { scale_row::<1>(row, weight, out) } else { scale_row::<2>(row, weight, out) }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn add_samples(bytes: usize, row: &[u8], weight: f32, out: &mut [f32]) {
    if bytes == 1 { add_row::<1>(row, weight, out) } else { add_row::<2>(row, weight, out) }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn mix_samples(bytes: usize, rows: [&[u8]; 2], weights: [f32; 2], out: &mut [f32]) {
    if bytes == 1 { mix_rows::<1>(rows, weights, out) } else { mix_rows::<2>(rows, weights, out) }
}

/// `out = Σ weight · row` for rows of stored samples (`bytes` each: 1 or 2, little endian).
pub(crate) fn weigh_rows<'a>(bytes: usize, mut rows: impl Iterator<Item = (&'a [u8], f32)>, out: &mut [f32]) {
    let Some((first, first_weight)) = rows.next() else { return };
    match rows.next() {
        None => scale_samples(bytes, first, first_weight, out),
        Some((second, weight)) => mix_samples(bytes, [first, second], [first_weight, weight], out),
    }
    for (row, weight) in rows {
        add_samples(bytes, row, weight, out);
    }
}

/// `out += row · weight`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn add_weighed(row: &[f32], weight: f32, out: &mut [f32]) {
    for (out, value) in out.iter_mut().zip(row) {
        *out += value * weight;
    }
}

/// `out[i] = row[index[i]]`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn pick(row: &RowBuffer, index: &[u32], out: &mut [f32]) {
    for (out, &index) in out.iter_mut().zip(index) {
        *out = row[index as usize % ROW_CAPACITY];
    }
}

/// `out[i]` lies `weight[i]` of the way from `row[first[i]]` to `row[second[i]]`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn lerp(row: &RowBuffer, first: &[u32], second: &[u32], weight: &[f32], out: &mut [f32]) {
    for (((out, &first), &second), &weight) in out.iter_mut().zip(first).zip(second).zip(weight) {
        let from = row[first as usize % ROW_CAPACITY];
        *out = from + (row[second as usize % ROW_CAPACITY] - from) * weight;
    }
}

/// `out = clamp(gain · samples + bias, 0, 255) · scale + shift`; the second and third rows are empty for grey.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn mix_channel(samples: [&[f32]; 3], mix: ChannelMix, out: &mut [f32]) {
    let ChannelMix { gain, bias, scale, shift } = mix;
    if samples[1].is_empty() {
        for (out, sample) in out.iter_mut().zip(samples[0]) {
            *out = (gain[0] * sample + bias).clamp(0.0, 255.0) * scale + shift;
        }
        return;
    }
    for (((out, s0), s1), s2) in out.iter_mut().zip(samples[0]).zip(samples[1]).zip(samples[2]) {
        let value = gain[0] * s0 + gain[1] * s1 + gain[2] * s2 + bias;
        *out = value.clamp(0.0, 255.0) * scale + shift;
    }
}

/// At this magnitude, the lowest bits of a float are the rounded integer; a cast would not be vectorised.
const WHOLE: f32 = 8_388_608.0;

/// Blends 8-bit samples with `values` (0 to 255) by coverage (0 to 255), rounding to the nearest.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn blend_bytes(samples: &mut [u8], values: &[f32], coverage: &[u8]) {
    for ((sample, value), &coverage) in samples.iter_mut().zip(values).zip(coverage) {
        let old = f32::from(*sample);
        let mixed = old + (value - old) * (f32::from(coverage) * (1.0 / 255.0));
        *sample = (mixed + WHOLE).to_bits() as u8;
    }
}

/// The high half of a product of 16-bit numbers, rounded down.
#[inline(always)]
fn multiply_high(left: i16, right: i16) -> i16 {
    ((i32::from(left) * i32::from(right)) >> 16) as i16
}

/// Computes the contribution of chroma to red, green and blue in FFmpeg's 16-bit arithmetic.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn chroma_terms(cb: &[u8], cr: &[u8], yuv: &FastYuv, out: [&mut [i16]; 3]) {
    let FastYuv { red_cr, green, blue_cb, .. } = *yuv;
    let [red, green_out, blue] = out;
    let outputs = red.iter_mut().zip(green_out).zip(blue);
    for ((((red, green_out), blue), &cb), &cr) in outputs.zip(cb).zip(cr) {
        let (cb, cr) = (i16::from(cb) * 8 - 1024, i16::from(cr) * 8 - 1024);
        *red = multiply_high(cr, red_cr);
        *green_out = multiply_high(cb, green[0]) + multiply_high(cr, green[1]);
        *blue = multiply_high(cb, blue_cb);
    }
}

/// Computes one 8-bit channel from luma and one chroma term per two pixels, in FFmpeg's 16-bit arithmetic.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn add_luma(luma: &[u8], terms: &[i16], yuv: &FastYuv, out: &mut [u8]) {
    let (black, gain) = (yuv.black, yuv.luma);
    let channel = |luma: u8, term: i16| (multiply_high(i16::from(luma) * 8 - black, gain) + term).clamp(0, 255) as u8;
    let (pairs, odd) = luma.as_chunks::<2>();
    let (out_pairs, odd_out) = out.as_chunks_mut::<2>();
    for ((out, luma), &term) in out_pairs.iter_mut().zip(pairs).zip(terms) {
        *out = luma.map(|luma| channel(luma, term));
    }
    if let ([out], [luma], Some(&term)) = (odd_out, odd, terms.get(pairs.len())) {
        *out = channel(*luma, term);
    }
}

/// Rounds values of 0 to 255 to the nearest.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn round_to_bytes(row: &[f32], out: &mut [u8]) {
    for (out, value) in out.iter_mut().zip(row) {
        *out = (value + WHOLE).to_bits() as u8;
    }
}

/// Rounds values to the nearest, ties to even, and clamps them to 0..=255.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn clamp_to_bytes(row: &[f32], out: &mut [u8]) {
    for (out, value) in out.iter_mut().zip(row) {
        *out = (value.clamp(0.0, 255.0) + WHOLE).to_bits() as u8;
    }
}

/// Rounds values to the nearest, ties to even, and clamps them to 0..=65535; native-endian.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn clamp_to_shorts(row: &[f32], out: &mut [u8]) {
    for (out, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(row) {
        *out = ((value.clamp(0.0, 65_535.0) + WHOLE).to_bits() as u16).to_ne_bytes();
    }
}

/// Converts values to bfloat16, rounded to the nearest, ties to even. Values must not be NaN.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn bfloat16_bytes(row: &[f32], out: &mut [u8]) {
    for (out, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(row) {
        let bits = value.to_bits();
        *out = ((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16).to_ne_bytes();
    }
}

/// `out = bytes · scale + shift`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn scale_and_shift(bytes: &[u8], scale: f32, shift: f32, out: &mut [f32]) {
    for (out, byte) in out.iter_mut().zip(bytes) {
        *out = f32::from(*byte) * scale + shift;
    }
}

/// Length of a row of 8-bit samples for gathering: a power of two, with room for one sample beyond the widest frame.
pub(crate) const BYTE_ROW_CAPACITY: usize = framerail_core::surface::MAX_SIDE as usize * 2;

/// A row of 8-bit samples.
pub(crate) type ByteRow = [u8; BYTE_ROW_CAPACITY];

/// `out = 2048 · row / 16`: the result of [`lerp_bytes`] for pixels that are not moved.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn widen_bytes(row: &[u8], out: &mut [i16]) {
    for (out, &sample) in out.iter_mut().zip(row) {
        *out = i16::from(sample) << 7;
    }
}

/// `out[i] = (weights[i] · (row[first[i]], row[first[i] + 1])) / 16`, with weights that add up to 2048.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn lerp_bytes(row: &ByteRow, first: &[u32], weights: &[[i16; 2]], out: &mut [i16]) {
    for ((out, &first), weights) in out.iter_mut().zip(first).zip(weights) {
        let near = i32::from(row[first as usize % BYTE_ROW_CAPACITY]);
        let far = i32::from(row[(first as usize + 1) % BYTE_ROW_CAPACITY]);
        *out = ((near * i32::from(weights[0]) + far * i32::from(weights[1])) >> 4) as i16;
    }
}

/// Mixes two rows of [`lerp_bytes`] by weights in 1/2048, rounds to 0..=255, then scales and shifts.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn mix_byte_rows(rows: [&[i16]; 2], weights: [i16; 2], scale: f32, shift: f32, out: &mut [f32]) {
    for ((out, &near), &far) in out.iter_mut().zip(rows[0]).zip(rows[1]) {
        let value = (multiply_high(near, weights[0]) + multiply_high(far, weights[1]) + 2) >> 2;
        *out = f32::from(value) * scale + shift;
    }
}

//! The inner loops of fixed-point conversion, 16 numbers at a time.
//!
//! Samples are 16-bit numbers with 15 bits below 256 ("Q7": 128 for each step of 8 bits). Products are rounded to the nearest.

#[cfg(target_arch = "x86_64")]
mod avx2;

use multiversion::multiversion;

use crate::windows::Windows;

/// Numbers of a block.
pub(crate) const BLOCK: usize = 16;

/// Places of a row of one component: the widest frame, and room for whole blocks and taps beyond its end.
pub(crate) const ROW_PLACES: usize = framerail_core::surface::MAX_SIDE as usize + 8;

/// A row of one component that taps are taken from. Its length is known to the compiler, so that masked indices need no checks.
pub(crate) type TapRow = [i16; ROW_PLACES];

/// Most taps of a position that [`take_few`] knows.
pub(crate) const FEW: usize = 4;

/// Parts of a whole in a weight of [`take_few`] and [`take_many`].
pub(crate) const TAP_ONE: i32 = 1 << 14;

/// The rounded product of two numbers, in parts of 32768.
#[inline(always)]
fn multiply(left: i16, right: i16) -> i16 {
    ((i32::from(left) * i32::from(right) + 0x4000) >> 15) as i16
}

/// How stored samples become numbers of 15 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Samples {
    /// 8 bits.
    Bytes,
    /// 16 bits, little endian, to be shifted left by so much.
    Words(u32),
    /// 16 bits, all of them used.
    WideWords,
}

impl Samples {
    /// Bytes of a stored sample.
    pub fn size_bytes(self) -> usize {
        if self == Samples::Bytes { 1 } else { 2 }
    }

    #[inline(always)]
    fn number(self, bytes: [u8; 2]) -> i16 {
        match self {
            Samples::Bytes => i16::from(bytes[0]) << 7,
            Samples::Words(shift) => (u16::from_le_bytes(bytes) << shift) as i16,
            Samples::WideWords => (u16::from_le_bytes(bytes) >> 1) as i16,
        }
    }
}

/// `out = row`, as numbers of 15 bits.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn widen(samples: Samples, row: &[u8], out: &mut [i16]) {
    match samples {
        Samples::Bytes => {
            for (out, byte) in out.iter_mut().zip(row) {
                *out = i16::from(*byte) << 7;
            }
        }
        Samples::Words(shift) => {
            for (out, bytes) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                *out = (u16::from_le_bytes(*bytes) << (shift & 15)) as i16;
            }
        }
        Samples::WideWords => {
            for (out, bytes) in out.iter_mut().zip(row.as_chunks::<2>().0) {
                *out = (u16::from_le_bytes(*bytes) >> 1) as i16;
            }
        }
    }
}

fn weigh_portable(samples: Samples, rows: &[(&[u8], i16)], from: usize, out: &mut [i16]) {
    let bytes = samples.size_bytes();
    for (index, out) in out.iter_mut().enumerate().skip(from) {
        *out = rows.iter().fold(0, |sum: i16, (row, weight)| {
            let at = index * bytes;
            let stored = [row.get(at).copied().unwrap_or(0), row.get(at + bytes - 1).copied().unwrap_or(0)];
            sum.saturating_add(multiply(samples.number(stored), *weight))
        });
    }
}

/// `out = Σ weight · row / 32768`, as numbers of 15 bits; weights add up to 32768.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn weigh(samples: Samples, rows: &[(&[u8], i16)], out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::weigh(samples, rows, out),
        _ => weigh_portable(samples, rows, 0, out),
    }
}

/// `out[i] = row[i · step + offset]`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_component(row: &[i16], step: usize, offset: usize, out: &mut [i16]) {
    let row = row.get(offset..).unwrap_or_default();
    match step {
        1 => out.iter_mut().zip(row).for_each(|(out, number)| *out = *number),
        2 => out.iter_mut().zip(row.chunks(2)).for_each(|(out, chunk)| *out = chunk[0]),
        3 => out.iter_mut().zip(row.chunks(3)).for_each(|(out, chunk)| *out = chunk[0]),
        _ => out.iter_mut().zip(row.chunks(step)).for_each(|(out, chunk)| *out = chunk[0]),
    }
}

/// Each number twice.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn double(row: &[i16], out: &mut [i16]) {
    let (pairs, rest) = out.as_chunks_mut::<2>();
    for (pair, number) in pairs.iter_mut().zip(row) {
        *pair = [*number; 2];
    }
    if let ([last], Some(number)) = (rest, row.get(pairs.len())) {
        *last = *number;
    }
}

fn take_bytes_portable(row: &[u8], index: &[u32], out: &mut [i16]) {
    for (out, &index) in out.iter_mut().zip(index) {
        *out = i16::from(row.get(index as usize).copied().unwrap_or(0)) << 7;
    }
}

/// `out[i] = row[index[i]]` as numbers of 15 bits; `windows` holds the same indices.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_bytes(row: &[u8], index: &[u32], windows: &Windows, out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => { let _ = index; avx2::take_bytes(row, windows, out) },
        _ => { let _ = windows; take_bytes_portable(row, index, out) },
    }
}

/// Where the taps of each position lie in a row, and how vectors pick them where that is quicker than one by one.
///
/// Both hold whole blocks of [`BLOCK`] positions.
#[derive(Debug)]
pub(crate) struct TapPlaces {
    /// The first tap of each position; the others follow.
    pub first: Vec<u32>,
    /// The same taps as windows.
    pub windows: Option<Windows>,
}

fn take_portable(row: &TapRow, index: &[u32], out: &mut [i16]) {
    for (out, &index) in out.iter_mut().zip(index) {
        *out = row[index as usize % (ROW_PLACES - 8)];
    }
}

/// `out[i] = row[first[i]]`.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take(row: &TapRow, places: &TapPlaces, out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::take(row, places, out),
        _ => take_portable(row, &places.first, out),
    }
}

fn take_few_portable(row: &TapRow, first: &[u32], weights: &[[i16; FEW]], out: &mut [i16]) {
    for ((out, &first), weights) in out.iter_mut().zip(first).zip(weights) {
        let first = first as usize % (ROW_PLACES - 8);
        let sum: i32 = (0..FEW).map(|tap| i32::from(row[first + tap]) * i32::from(weights[tap])).sum();
        *out = ((sum + TAP_ONE / 2) >> 14) as i16;
    }
}

/// `out[i] = Σ weights[i][k] · row[first[i] + k] / 16384` over four taps; all tables hold whole blocks.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_few(row: &TapRow, places: &TapPlaces, weights: &[[i16; FEW]], out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::take_few(row, places, weights, out),
        _ => take_few_portable(row, &places.first, weights, out),
    }
}

fn take_two_portable(row: &TapRow, first: &[u32], weights: &[[i16; 2]], out: &mut [i16]) {
    for ((out, &first), weights) in out.iter_mut().zip(first).zip(weights) {
        let first = first as usize % (ROW_PLACES - 8);
        let sum = i32::from(row[first]) * i32::from(weights[0]) + i32::from(row[first + 1]) * i32::from(weights[1]);
        *out = ((sum + TAP_ONE / 2) >> 14) as i16;
    }
}

/// [`take_few`] over two taps.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_two(row: &TapRow, places: &TapPlaces, weights: &[[i16; 2]], out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::take_two(row, places, weights, out),
        _ => take_two_portable(row, &places.first, weights, out),
    }
}

/// [`take_few`] over any number of taps; `weights` holds `taps` for each position.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_many(row: &TapRow, first: &[u32], weights: &[i16], taps: usize, out: &mut [i16]) {
    for ((out, &first), weights) in out.iter_mut().zip(first).zip(weights.chunks_exact(taps.max(1))) {
        let samples = row.get(first as usize..).unwrap_or_default();
        let sum: i32 = samples.iter().zip(weights).map(|(sample, weight)| i32::from(*sample) * i32::from(*weight)).sum();
        *out = ((sum + TAP_ONE / 2) >> 14) as i16;
    }
}

/// From numbers of 15 bits to channels with 5 bits below the point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FixedMix {
    /// Each component's factor, in parts of 8192.
    pub gain: [i16; 3],
    /// Added at last, in parts of 32.
    pub bias: i16,
}

impl FixedMix {
    #[inline(always)]
    fn apply(&self, samples: [i16; 3]) -> i16 {
        let [first, second, third] = [0, 1, 2].map(|i| multiply(samples[i], self.gain[i]));
        first.saturating_add(second).saturating_add(third).saturating_add(self.bias)
    }
}

/// The rows of up to three components, of one length, which is a multiple of 16; with one, the others are the same.
pub(crate) type Components<'a> = [&'a [i16]; 3];

fn mix_to_words_portable(rows: Components<'_>, mix: &FixedMix, out: &mut [i16]) {
    for (((out, first), second), third) in out.iter_mut().zip(rows[0]).zip(rows[1]).zip(rows[2]) {
        *out = mix.apply([*first, *second, *third]);
    }
}

/// A channel in parts of 32, not cut off.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn mix_to_words(rows: Components<'_>, mix: &FixedMix, out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::mix_to_words(rows, mix, out),
        _ => mix_to_words_portable(rows, mix, out),
    }
}

fn mix_to_bytes_portable(rows: Components<'_>, mixes: &[FixedMix], out: &mut [&mut [u8]]) {
    for (mix, out) in mixes.iter().zip(out) {
        for (((out, first), second), third) in out.iter_mut().zip(rows[0]).zip(rows[1]).zip(rows[2]) {
            *out = (mix.apply([*first, *second, *third]).saturating_add(16) >> 5).clamp(0, 255) as u8;
        }
    }
}

/// Channels rounded and cut off at 0 and 255; each may end early.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn mix_to_bytes(rows: Components<'_>, mixes: &[FixedMix], out: &mut [&mut [u8]]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::mix_to_bytes(rows, mixes, out),
        _ => mix_to_bytes_portable(rows, mixes, out),
    }
}

/// `out = clamp(words / 32, 0, 255) · scale + shift`, native endian.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_floats(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 4]]) {
    for (out, word) in out.iter_mut().zip(words) {
        *out = (f32::from((*word).clamp(0, 255 * 32)) * (scale / 32.0) + shift).to_ne_bytes();
    }
}

/// [`words_to_floats`] to bytes, rounded to the nearest and cut off at 0 and 255.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_bytes(words: &[i16], scale: f32, shift: f32, out: &mut [u8]) {
    for (out, word) in out.iter_mut().zip(words) {
        let value = f32::from((*word).clamp(0, 255 * 32)) * (scale / 32.0) + shift;
        // In a float of this size the lowest bits are the rounded integer.
        *out = (value.clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8;
    }
}

fn words_to_halves_portable(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    for (out, word) in out.iter_mut().zip(words) {
        let value = f32::from((*word).clamp(0, 255 * 32)).mul_add(scale / 32.0, shift);
        *out = half::f16::from_f32(value).to_ne_bytes();
    }
}

/// [`words_to_floats`] to half precision, rounded once more.
#[multiversion(targets("x86_64+avx2+fma+f16c"))]
pub(crate) fn words_to_halves(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    multiversion::target::match_target! {
        "x86_64+avx2+fma+f16c" => avx2::words_to_halves(words, scale, shift, out),
        _ => words_to_halves_portable(words, scale, shift, out),
    }
}

/// [`words_to_floats`] to bfloat16, rounded to the nearest, ties to even.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_bfloats(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    for (out, word) in out.iter_mut().zip(words) {
        let bits = (f32::from((*word).clamp(0, 255 * 32)) * (scale / 32.0) + shift).to_bits();
        *out = ((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16).to_ne_bytes();
    }
}

/// Pixels of three channels of elements of so many bytes, interleaved.
pub(crate) fn interleave_elements(channels: [&[u8]; 3], size: usize, out: &mut [u8]) {
    match size {
        1 => interleave_bytes(channels, out),
        2 => interleave_of_two(channels, out),
        _ => interleave_of_four(channels, out),
    }
}

#[inline(always)]
fn interleave_of<const BYTES: usize>(channels: [&[u8]; 3], out: &mut [u8]) {
    let [first, second, third] = channels.map(|channel| channel.as_chunks::<BYTES>().0);
    let pixels = out.as_chunks_mut::<BYTES>().0.as_chunks_mut::<3>().0;
    for (((pixel, first), second), third) in pixels.iter_mut().zip(first).zip(second).zip(third) {
        *pixel = [*first, *second, *third];
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn interleave_of_two(channels: [&[u8]; 3], out: &mut [u8]) {
    interleave_of::<2>(channels, out);
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn interleave_of_four(channels: [&[u8]; 3], out: &mut [u8]) {
    interleave_of::<4>(channels, out);
}

/// Pixels of three channels, interleaved.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn interleave_bytes(channels: [&[u8]; 3], out: &mut [u8]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::interleave_bytes(channels, out),
        _ => interleave_from(channels, 0, out),
    }
}

/// The pixels from this one on.
fn interleave_from(channels: [&[u8]; 3], start: usize, out: &mut [u8]) {
    let [first, second, third] = channels.map(|channel| channel.get(start..).unwrap_or_default());
    let pixels = out.as_chunks_mut::<3>().0.iter_mut().skip(start);
    for (((pixel, first), second), third) in pixels.zip(first).zip(second).zip(third) {
        *pixel = [*first, *second, *third];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, seed: usize) -> impl Iterator<Item = u16> {
        (0..length).map(move |i| ((i + seed * 977).wrapping_mul(2_654_435_761) >> 13) as u16)
    }

    #[test]
    fn rows_are_weighed_alike_everywhere() {
        let bytes: Vec<Vec<u8>> = (0..9).map(|row| noise(150, row).map(|value| value as u8).collect()).collect();
        for samples in [Samples::Bytes, Samples::Words(5), Samples::WideWords] {
            for count in 2..=9 {
                for length in [1, 15, 16, 47, 70] {
                    let mut rows: Vec<(&[u8], i16)> = bytes[..count].iter().map(|row| (&row[..], (32_768 / count) as i16)).collect();
                    rows[0].1 += (32_768 - 32_768 / count * count) as i16;
                    if samples == Samples::Words(5) {
                        // Codes of ten bits, as they are stored.
                        rows.truncate(2);
                    }
                    let (mut found, mut plain) = (vec![0; length], vec![0; length]);
                    weigh(samples, &rows, &mut found);
                    weigh_portable(samples, &rows, 0, &mut plain);
                    assert!(found == plain, "{samples:?} {count} {length}");
                }
            }
        }
    }

    #[test]
    fn columns_are_taken_alike_everywhere() {
        let mut row: Box<TapRow> = Box::new([0; ROW_PLACES]);
        for (out, value) in row.iter_mut().zip(noise(ROW_PLACES, 3)) {
            *out = (value >> 1) as i16;
        }
        let bytes: Vec<u8> = noise(400, 5).map(|value| value as u8).collect();
        for (step, part) in [(1, 3), (3, 2), (2, 1), (3, 1), (9, 2)] {
            let first: Vec<u32> = (0..64).map(|position| position * step / part).collect();
            let two: Vec<[i16; 2]> = (0..64).map(|position| [16_384 - position * 200, position * 200]).collect();
            let few: Vec<[i16; FEW]> = (0..64).map(|position| [4000, 5000 - position, 7384, position]).collect();
            let elements = |taps: u32| first.iter().flat_map(|first| (0..taps).map(move |tap| first + tap)).collect::<Vec<u32>>();
            for most in [0, 1, 2, 8] {
                let places = |taps: u32| TapPlaces { first: first.clone(), windows: Windows::new::<2>(&elements(taps), ROW_PLACES, most) };
                let (mut found, mut plain) = (vec![0; 64], vec![0; 64]);
                take(&row, &places(1), &mut found);
                take_portable(&row, &first, &mut plain);
                assert!(found == plain, "{step}/{part} {most}");
                take_two(&row, &places(2), &two, &mut found);
                take_two_portable(&row, &first, &two, &mut plain);
                assert!(found == plain, "{step}/{part} {most}");
                take_few(&row, &places(FEW as u32), &few, &mut found);
                take_few_portable(&row, &first, &few, &mut plain);
                assert!(found == plain, "{step}/{part} {most}");
                if let Some(windows) = Windows::new::<1>(&first, bytes.len(), most) {
                    take_bytes(&bytes, &first, &windows, &mut found);
                    take_bytes_portable(&bytes, &first, &mut plain);
                    assert!(found == plain, "{step}/{part} {most}");
                }
            }
        }
    }

    #[test]
    fn channels_are_mixed_alike_everywhere() {
        let rows = [1, 2, 3].map(|seed| noise(64, seed).map(|value| (value >> 1) as i16).collect::<Vec<i16>>());
        let rows = rows.each_ref().map(|row| &row[..]);
        let mixes = [
            FixedMix { gain: [9539, 0, 14_686], bias: -7933 },
            FixedMix { gain: [9539, -1747, -4366], bias: 2457 },
            FixedMix { gain: [9539, 17_305, 0], bias: -9248 },
        ];
        for length in [1, 31, 32, 33, 64] {
            let mut bytes = vec![vec![0; length]; 6];
            let (found, plain) = bytes.split_at_mut(3);
            mix_to_bytes(rows, &mixes, &mut found.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            mix_to_bytes_portable(rows, &mixes, &mut plain.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
            assert!(found == plain, "{length}");
        }
        for mix in &mixes {
            let (mut found, mut plain) = (vec![0; 64], vec![0; 64]);
            mix_to_words(rows, mix, &mut found);
            mix_to_words_portable(rows, mix, &mut plain);
            assert!(found == plain);
            for length in [1, 8, 13, 64] {
                let (mut halves, mut plain) = (vec![[0; 2]; length], vec![[0; 2]; length]);
                words_to_halves(&found, 0.0171, -2.1, &mut halves);
                words_to_halves_portable(&found, 0.0171, -2.1, &mut plain);
                assert!(halves == plain, "{length}");
            }
        }
    }
}

//! Inner loops of resizing in fixed point, 16 values at a time.
//!
//! A weighted row holds 16-bit numbers with 6 fractional bits ("Q6": 64 per 8-bit step), so that filters may overshoot by a whole
//! range. Products are rounded to the nearest.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use multiversion::multiversion;

use crate::windows::Windows;

/// Values per block.
pub(crate) const BLOCK: usize = 16;

/// Columns of the widest frame: a power of two, so that masked indices need no bounds checks.
const MOST_COLUMNS: usize = framerail_core::surface::MAX_SIDE as usize;
const _: () = assert!(MOST_COLUMNS.is_power_of_two());

/// Length of a row of one channel: the widest frame, with room for whole blocks and taps beyond its end.
pub(crate) const ROW_PLACES: usize = MOST_COLUMNS + PAIRS_REACH;

/// Number of values from which one block of [`take_pairs`] picks.
pub(crate) const PAIRS_REACH: usize = 64;

/// Rows of bytes are padded to a multiple of this, for [`weigh`].
pub(crate) const ROW_STEP: usize = 32;

/// A row of one channel from which taps are taken. Its length is known at compile time, so masked indices need no bounds checks.
pub(crate) type TapRow = [i16; ROW_PLACES];

/// Maximum taps per position of [`take_few`].
pub(crate) const FEW: usize = 4;

/// A weight of 1 in fixed point.
pub(crate) const TAP_ONE: i32 = 1 << 14;

/// One 8-bit step in Q6.
const WORD_ONE: i16 = 64;
const WORD_MAX: i16 = 255 * WORD_ONE;

/// Converts `row` to Q6.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn widen(row: &[u8], out: &mut [i16]) {
    for (out, byte) in out.iter_mut().zip(row) {
        *out = i16::from(*byte) << 6;
    }
}

fn weigh_portable(rows: &[(&[u8], i16)], out: &mut [i16]) {
    for (index, out) in out.iter_mut().enumerate() {
        *out = rows.iter().fold(0, |sum: i16, (row, weight)| {
            let number = i32::from(row.get(index).copied().unwrap_or(0)) << 7;
            sum.saturating_add(((number * i32::from(*weight) + 0x4000) >> 15) as i16)
        });
    }
}

/// `out = Σ weight · row`. Weights are in 1/16384 and add up to 16384; lengths are multiples of [`ROW_STEP`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(crate) fn weigh(rows: &[(&[u8], i16)], out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx512f+avx512bw" => avx512::weigh(rows, out),
        "x86_64+avx2" => avx2::weigh(rows, out),
        _ => weigh_portable(rows, out),
    }
}

/// Where the taps of each position lie in a row, with vector tables where these are faster than taking taps one by one.
///
/// Both hold whole blocks of [`BLOCK`] positions.
#[derive(Debug)]
pub(crate) struct TapPlaces {
    /// The first tap of each position; the others follow it.
    pub first: Vec<u32>,
    /// The same taps as windows.
    pub windows: Option<Windows>,
}

fn take_portable(row: &TapRow, index: &[u32], out: &mut [i16]) {
    for (out, &index) in out.iter_mut().zip(index) {
        *out = row[index as usize % MOST_COLUMNS];
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
        let first = first as usize % MOST_COLUMNS;
        let sum: i32 = (0..FEW).map(|tap| i32::from(row[first + tap]) * i32::from(weights[tap])).sum();
        *out = ((sum + TAP_ONE / 2) >> 14) as i16;
    }
}

/// `out[i] = Σ weights[i][k] · row[first[i] + k] / 16384` over four taps. All tables hold whole blocks.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_few(row: &TapRow, places: &TapPlaces, weights: &[[i16; FEW]], out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::take_few(row, places, weights, out),
        _ => take_few_portable(row, &places.first, weights, out),
    }
}

fn take_two_portable(row: &TapRow, first: &[u32], weights: &[[i16; 2]], out: &mut [i16]) {
    for ((out, &first), weights) in out.iter_mut().zip(first).zip(weights) {
        let first = first as usize % MOST_COLUMNS;
        let sum = i32::from(row[first]) * i32::from(weights[0]) + i32::from(row[first + 1]) * i32::from(weights[1]);
        *out = ((sum + TAP_ONE / 2) >> 14) as i16;
    }
}

/// [`take_few`] with two taps.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_two(row: &TapRow, places: &TapPlaces, weights: &[[i16; 2]], out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::take_two(row, places, weights, out),
        _ => take_two_portable(row, &places.first, weights, out),
    }
}

fn take_many_portable(row: &TapRow, first: &[u32], weights: &[[i16; 8]], blocks: usize, out: &mut [i16]) {
    for (position, (out, first)) in out.iter_mut().zip(first).enumerate() {
        let mut sum = TAP_ONE / 2;
        for block in 0..blocks {
            let weights = weights.get((position / 8 * blocks + block) * 8 + position % 4 * 2 + position % 8 / 4).unwrap_or(&[0; 8]);
            let start = (*first as usize + 8 * block) % MOST_COLUMNS;
            sum += (0..8).map(|tap| i32::from(row[start + tap]) * i32::from(weights[tap])).sum::<i32>();
        }
        *out = (sum >> 14).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
    }
}

/// [`take_few`] with any number of taps, in `blocks` blocks of 8. For each 8 positions and each block of their taps, `weights`
/// holds the weights of the positions 0, 4, 1, 5, 2, 6, 3, 7.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn take_many(row: &TapRow, first: &[u32], weights: &[[i16; 8]], blocks: usize, out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::take_many(row, first, weights, blocks, out),
        _ => take_many_portable(row, first, weights, blocks, out),
    }
}

/// Reorders the weights of whole blocks of positions for [`take_many`].
pub(crate) fn many_weights(weights: &[Vec<i16>], blocks: usize) -> Vec<[i16; 8]> {
    let mut ordered = Vec::with_capacity(weights.len() * blocks);
    for eight in weights.chunks_exact(8) {
        for block in 0..blocks {
            for position in [0, 4, 1, 5, 2, 6, 3, 7] {
                ordered.push(std::array::from_fn(|tap| eight[position].get(8 * block + tap).copied().unwrap_or(0)));
            }
        }
    }
    ordered
}

/// Blocks of [`BLOCK`] positions for CPUs with AVX-512, which pick from two vectors at once. The number of taps is not limited, but
/// a block may span at most [`PAIRS_REACH`] values.
#[derive(Debug)]
pub(crate) struct Pairs {
    /// Pairs of taps per position.
    pub count: usize,
    /// Start of each block in the row.
    pub starts: Vec<u32>,
    /// The first two taps of each position, relative to the block's start. Each further pair lies two places further on.
    pub places: Vec<[i16; 2 * BLOCK]>,
    /// Weights of all positions, for each block and each pair.
    pub weights: Vec<[i16; 2 * BLOCK]>,
}

impl Pairs {
    /// Whether this CPU has the instructions.
    pub fn is_known() -> bool {
        #[cfg(target_arch = "x86_64")]
        return std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bw");
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// Creates tables for whole blocks of positions from the first tap and `count` pairs of weights of each. `None` if a block is too wide.
    pub fn new(first: &[u32], weights: &[Vec<i16>], count: usize) -> Option<Self> {
        let mut pairs = Self { count, starts: Vec::new(), places: Vec::new(), weights: Vec::new() };
        for (first, weights) in first.as_chunks::<BLOCK>().0.iter().zip(weights.as_chunks::<BLOCK>().0) {
            let start = first.iter().min().copied().unwrap_or(0);
            if first.iter().any(|first| (first - start) as usize + 1 >= PAIRS_REACH) {
                return None;
            }
            pairs.starts.push(start);
            pairs.places.push(std::array::from_fn(|at| (first[at / 2] - start) as i16 + at as i16 % 2));
            for pair in 0..count {
                pairs.weights.push(std::array::from_fn(|at| weights[at / 2].get(2 * pair + at % 2).copied().unwrap_or(0)));
            }
        }
        Some(pairs)
    }
}

fn take_pairs_portable(row: &TapRow, pairs: &Pairs, out: &mut [i16]) {
    let blocks = out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(pairs.weights.chunks_exact(pairs.count.max(1)));
    for ((out, weights), (start, places)) in blocks.zip(pairs.starts.iter().zip(&pairs.places)) {
        for (position, out) in out.iter_mut().enumerate() {
            let mut sum = TAP_ONE / 2;
            for (pair, weights) in weights.iter().enumerate() {
                for at in [2 * position, 2 * position + 1] {
                    let place = (*start as usize + 2 * pair) % MOST_COLUMNS + places[at] as usize % PAIRS_REACH;
                    sum += i32::from(row[place]) * i32::from(weights[at]);
                }
            }
            *out = (sum >> 14).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        }
    }
}

/// [`take_few`] with pairs of taps.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx2+fma"))]
pub(crate) fn take_pairs(row: &TapRow, pairs: &Pairs, out: &mut [i16]) {
    multiversion::target::match_target! {
        "x86_64+avx512f+avx512bw" => avx512::take_pairs(row, pairs, out),
        _ => take_pairs_portable(row, pairs, out),
    }
}

/// Converts Q6 to bytes, rounded and clamped to 0..=255.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_plain_bytes(words: &[i16], out: &mut [u8]) {
    for (out, word) in out.iter_mut().zip(words) {
        *out = (word.saturating_add(WORD_ONE / 2) >> 6).clamp(0, 255) as u8;
    }
}

/// `out = clamp(words / 64, 0, 255) · scale + shift`, native endian.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_floats(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 4]]) {
    for (out, word) in out.iter_mut().zip(words) {
        *out = (f32::from((*word).clamp(0, WORD_MAX)) * (scale / f32::from(WORD_ONE)) + shift).to_ne_bytes();
    }
}

/// Like [`words_to_floats`], but to bytes, rounded to the nearest and clamped to 0..=255.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_bytes(words: &[i16], scale: f32, shift: f32, out: &mut [u8]) {
    for (out, word) in out.iter_mut().zip(words) {
        let value = f32::from((*word).clamp(0, WORD_MAX)) * (scale / f32::from(WORD_ONE)) + shift;
        // At this magnitude, the lowest bits of a float are the rounded integer.
        *out = (value.clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8;
    }
}

/// Like [`words_to_floats`], but to 16-bit integers, rounded to the nearest and clamped.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_shorts(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    for (out, word) in out.iter_mut().zip(words) {
        let value = f32::from((*word).clamp(0, WORD_MAX)) * (scale / f32::from(WORD_ONE)) + shift;
        *out = ((value.clamp(0.0, 65_535.0) + 8_388_608.0).to_bits() as u16).to_ne_bytes();
    }
}

fn words_to_halves_portable(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    for (out, word) in out.iter_mut().zip(words) {
        let value = f32::from((*word).clamp(0, WORD_MAX)).mul_add(scale / f32::from(WORD_ONE), shift);
        *out = half::f16::from_f32(value).to_ne_bytes();
    }
}

/// Like [`words_to_floats`], but to half precision, with one more rounding.
#[multiversion(targets("x86_64+avx2+fma+f16c"))]
pub(crate) fn words_to_halves(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    multiversion::target::match_target! {
        "x86_64+avx2+fma+f16c" => avx2::words_to_halves(words, scale, shift, out),
        _ => words_to_halves_portable(words, scale, shift, out),
    }
}

/// Like [`words_to_floats`], but to bfloat16, rounded to the nearest, ties to even.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn words_to_bfloats(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    for (out, word) in out.iter_mut().zip(words) {
        let bits = (f32::from((*word).clamp(0, WORD_MAX)) * (scale / f32::from(WORD_ONE)) + shift).to_bits();
        *out = ((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16).to_ne_bytes();
    }
}

/// Interleaves three or four channels of elements of `size` bytes.
pub(crate) fn interleave_elements(channels: &[Vec<u8>], size: usize, out: &mut [u8]) {
    match (channels, size) {
        ([first, second, third], 1) => interleave_bytes([first, second, third], out),
        ([first, second, third], 2) => interleave_of_two([first, second, third], out),
        ([first, second, third], _) => interleave_of_four([first, second, third], out),
        _ => {
            for (channel, elements) in channels.iter().enumerate() {
                let places = out.chunks_exact_mut(size).skip(channel).step_by(channels.len());
                places.zip(elements.chunks_exact(size)).for_each(|(place, element)| place.copy_from_slice(element));
            }
        }
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

/// Interleaves three channels of bytes.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn interleave_bytes(channels: [&[u8]; 3], out: &mut [u8]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::interleave_bytes(channels, out),
        _ => interleave_from(channels, 0, out),
    }
}

/// Interleaves the pixels from `start` on.
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
        let bytes: Vec<Vec<u8>> = (0..19).map(|row| noise(150, row).map(|value| value as u8).collect()).collect();
        for count in 1..=19 {
            for length in [32, 64, 96, 128] {
                // With overshoot, as cubic weights have.
                let mut rows: Vec<(&[u8], i16)> = bytes[..count].iter().map(|row| (&row[..], (16_384 / count) as i16 - 900)).collect();
                rows[0].1 += 900 * count as i16;
                let (mut found, mut plain) = (vec![0; length], vec![0; length]);
                weigh(&rows, &mut found);
                weigh_portable(&rows, &mut plain);
                assert!(found == plain, "{count} {length}");
                #[cfg(target_arch = "x86_64")]
                if std::is_x86_feature_detected!("avx2") {
                    weigh_by_avx2(&rows, &mut found);
                    assert!(found == plain, "{count} {length}");
                }
            }
        }
    }

    /// The code path of CPUs without AVX-512.
    #[cfg(target_arch = "x86_64")]
    #[multiversion(targets("x86_64+avx2"))]
    fn weigh_by_avx2(rows: &[(&[u8], i16)], out: &mut [i16]) {
        multiversion::target::match_target! {
            "x86_64+avx2" => avx2::weigh(rows, out),
            _ => weigh_portable(rows, out),
        }
    }

    #[test]
    fn columns_of_any_number_of_taps_are_taken_alike_everywhere() {
        let mut row: Box<TapRow> = Box::new([0; ROW_PLACES]);
        row.iter_mut().zip(noise(ROW_PLACES, 3)).for_each(|(out, value)| *out = (value >> 1) as i16);
        for (step, part, taps) in [(1, 3, 2), (3, 2, 5), (3, 1, 6), (4, 1, 9), (3, 1, 13), (17, 2, 18), (9, 4, 33)] {
            let first: Vec<u32> = (0..64).map(|position| position * step / part + 7).collect();
            let weights: Vec<Vec<i16>> = (0..64)
                .map(|position| (0..taps).map(|tap| ((position * 131 + tap * 977) % 4000 - 900) as i16 / (1 + taps as i16 / 8)).collect())
                .collect();
            let exact = |position: usize| {
                let samples = &row[first[position] as usize..];
                let sum: i32 = samples.iter().zip(&weights[position]).map(|(sample, weight)| i32::from(*sample) * i32::from(*weight)).sum();
                ((sum + TAP_ONE / 2) >> 14).clamp(i16::MIN.into(), i16::MAX.into()) as i16
            };
            let expected: Vec<i16> = (0..64).map(exact).collect();
            let blocks = (taps as usize).div_ceil(8);
            let many = many_weights(&weights, blocks);
            let (mut found, mut plain) = (vec![0; 64], vec![0; 64]);
            take_many(&row, &first, &many, blocks, &mut found);
            take_many_portable(&row, &first, &many, blocks, &mut plain);
            assert!(found == expected && plain == expected, "{step}/{part} {taps}");
            let Some(pairs) = Pairs::new(&first, &weights, (taps as usize).div_ceil(2)) else {
                assert!(step / part > 4, "{step}/{part}");
                continue;
            };
            take_pairs(&row, &pairs, &mut found);
            take_pairs_portable(&row, &pairs, &mut plain);
            assert!(found == expected && plain == expected, "{step}/{part} {taps}");
        }
    }

    #[test]
    fn columns_are_taken_alike_everywhere() {
        let mut row: Box<TapRow> = Box::new([0; ROW_PLACES]);
        for (out, value) in row.iter_mut().zip(noise(ROW_PLACES, 3)) {
            *out = (value >> 1) as i16;
        }
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
            }
        }
    }

    #[test]
    fn words_become_elements_alike_everywhere() {
        let words: Vec<i16> = noise(64, 3).map(|value| value as i16).collect();
        for length in [1, 8, 13, 64] {
            let (mut halves, mut plain) = (vec![[0; 2]; length], vec![[0; 2]; length]);
            words_to_halves(&words, 0.0171, -2.1, &mut halves);
            words_to_halves_portable(&words, 0.0171, -2.1, &mut plain);
            assert!(halves == plain, "{length}");
            let (mut bytes, mut shorts) = (vec![0; length], vec![[0; 2]; length]);
            words_to_plain_bytes(&words, &mut bytes);
            words_to_shorts(&words, 257.0, 0.0, &mut shorts);
            for ((word, byte), short) in words.iter().zip(bytes).zip(shorts) {
                let exact = (f32::from(*word) / 64.0).clamp(0.0, 255.0);
                assert!((exact - f32::from(byte)).abs() <= 0.5 && (exact * 257.0 - f32::from(u16::from_ne_bytes(short))).abs() <= 0.51);
            }
        }
    }
}

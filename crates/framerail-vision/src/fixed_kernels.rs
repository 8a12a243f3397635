//! The inner loops of fixed-point conversion, 16 numbers at a time.
//!
//! Samples are 16-bit numbers with 15 bits below 256 ("Q7": 128 for each step of 8 bits). Products are rounded to the nearest.

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

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _MM_FROUND_TO_NEAREST_INT, _mm_cvtsi32_si128, _mm_max_epi16, _mm_min_epi16, _mm_set1_epi16, _mm_setzero_si128,
        _mm256_add_epi32, _mm256_adds_epi16, _mm256_castsi128_si256, _mm256_cvtepi16_epi32, _mm256_cvtepi32_ps, _mm256_cvtps_ph,
        _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_inserti128_si256, _mm256_madd_epi16, _mm256_mulhrs_epi16, _mm256_or_si256,
        _mm256_packs_epi32, _mm256_packus_epi16, _mm256_permute4x64_epi64, _mm256_permutevar8x32_epi32, _mm256_set_epi32,
        _mm256_set_epi64x, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_si256,
        _mm256_shuffle_epi8, _mm256_sll_epi16, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srai_epi32, _mm256_srli_epi16,
    };

    use super::{
        BLOCK, Components, FEW, FixedMix, ROW_PLACES, Samples, TAP_ONE, TapPlaces, TapRow, interleave_from, take_portable, weigh_portable,
        words_to_halves_portable,
    };
    use crate::{
        vectors::{interleave, load, load_words, store, store_words, widen},
        windows::Windows,
    };

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum_bytes(rows: &[(&[u8], i16)], block: usize) -> Option<__m256i> {
        let mut sum = _mm256_setzero_si256();
        for (row, weight) in rows {
            let numbers = _mm256_slli_epi16::<7>(widen(row.as_chunks().0.get(block)?));
            sum = _mm256_adds_epi16(sum, _mm256_mulhrs_epi16(numbers, _mm256_set1_epi16(*weight)));
        }
        Some(sum)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum_words(samples: Samples, rows: &[(&[u8], i16)], block: usize) -> Option<__m256i> {
        let mut sum = _mm256_setzero_si256();
        for (row, weight) in rows {
            let stored = load(row.as_chunks().0.get(block)?);
            let numbers = match samples {
                Samples::Words(shift) => _mm256_sll_epi16(stored, _mm_cvtsi32_si128(shift as i32)),
                _ => _mm256_srli_epi16::<1>(stored),
            };
            sum = _mm256_adds_epi16(sum, _mm256_mulhrs_epi16(numbers, _mm256_set1_epi16(*weight)));
        }
        Some(sum)
    }

    /// Whole blocks of so many rows of bytes; gives how many numbers were written.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn weigh_some_bytes<const ROWS: usize>(rows: &[(&[u8], i16)], out: &mut [i16]) -> usize {
        let Some(rows) = rows.first_chunk::<ROWS>() else { return 0 };
        let out = out.as_chunks_mut::<BLOCK>().0;
        let blocks = rows.iter().fold(out.len(), |least, (row, _)| least.min(row.len() / BLOCK));
        let chunks = rows.map(|(row, _)| &row.as_chunks::<BLOCK>().0[..blocks]);
        let weights = rows.map(|(_, weight)| _mm256_set1_epi16(weight));
        for (block, out) in out[..blocks].iter_mut().enumerate() {
            let mut sum = _mm256_setzero_si256();
            for (row, weight) in chunks.iter().zip(weights) {
                sum = _mm256_adds_epi16(sum, _mm256_mulhrs_epi16(_mm256_slli_epi16::<7>(widen(&row[block])), weight));
            }
            store_words(sum, out);
        }
        blocks * BLOCK
    }

    #[target_feature(enable = "avx2")]
    pub fn weigh(samples: Samples, rows: &[(&[u8], i16)], out: &mut [i16]) {
        let mut done = match (samples, rows.len()) {
            (Samples::Bytes, 2) => weigh_some_bytes::<2>(rows, out),
            (Samples::Bytes, 3) => weigh_some_bytes::<3>(rows, out),
            (Samples::Bytes, 4) => weigh_some_bytes::<4>(rows, out),
            (Samples::Bytes, 5) => weigh_some_bytes::<5>(rows, out),
            (Samples::Bytes, 6) => weigh_some_bytes::<6>(rows, out),
            _ => 0,
        };
        for (block, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate().skip(done / BLOCK) {
            let sum = if samples == Samples::Bytes { sum_bytes(rows, block) } else { sum_words(samples, rows, block) };
            let Some(sum) = sum else { break };
            store_words(sum, out);
            done += BLOCK;
        }
        weigh_portable(samples, rows, done, out);
    }

    /// Two vectors of sums in parts of 16384, rounded, in the order of the first's numbers and then the second's.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn rounded(near: __m256i, far: __m256i) -> __m256i {
        let half = _mm256_set1_epi32(TAP_ONE / 2);
        let whole = |sum: __m256i| _mm256_srai_epi32::<14>(_mm256_add_epi32(sum, half));
        _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(whole(near), whole(far)))
    }

    /// The bytes of both halves' windows, each shuffled to its place.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn shuffled(low: [u8; 16], high: [u8; 16], mask: &[u8; 32]) -> __m256i {
        let halves = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(bytemuck::must_cast(low)), bytemuck::must_cast(high));
        _mm256_shuffle_epi8(halves, load(mask))
    }

    #[target_feature(enable = "avx2")]
    pub fn take_bytes(row: &[u8], windows: &Windows, out: &mut [i16]) {
        let starts = windows.starts.chunks_exact(windows.count.max(1));
        let tables = starts.zip(windows.masks.chunks_exact(windows.count.max(1)));
        let window = |start: u32| row.get(start as usize..).and_then(|row| row.first_chunk::<16>()).copied().unwrap_or_default();
        for (out, (starts, masks)) in out.as_chunks_mut::<BLOCK>().0.chunks_mut(2).zip(tables) {
            let mut picked = _mm256_setzero_si256();
            for ([low, high], mask) in starts.iter().zip(masks) {
                picked = _mm256_or_si256(picked, shuffled(window(*low), window(*high), mask));
            }
            let halves: [[u8; 16]; 2] = bytemuck::must_cast(picked);
            for (out, half) in out.iter_mut().zip(&halves) {
                store_words(_mm256_slli_epi16::<7>(widen(half)), out);
            }
        }
    }

    /// Eight elements of a row, from this one on.
    #[inline(always)]
    fn window(row: &TapRow, start: u32) -> [u8; 16] {
        let start = start as usize % (ROW_PLACES - 8);
        let elements: [i16; 8] = std::array::from_fn(|place| row[start + place]);
        bytemuck::must_cast(elements)
    }

    /// What one vector picks; `ONE` when all vectors have just one window.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn picked<const ONE: bool>(row: &TapRow, starts: &[[u32; 2]], masks: &[[u8; 32]]) -> __m256i {
        let mut all = _mm256_setzero_si256();
        for ([low, high], mask) in starts.iter().zip(masks) {
            let part = shuffled(window(row, *low), window(row, *high), mask);
            if ONE {
                return part;
            }
            all = _mm256_or_si256(all, part);
        }
        all
    }

    /// Gives `use_vector` one vector after the other.
    #[inline(always)]
    fn each_vector(windows: &Windows, mut use_vector: impl FnMut(usize, &[[u32; 2]], &[[u8; 32]])) {
        let count = windows.count.max(1);
        for (vector, (starts, masks)) in windows.starts.chunks_exact(count).zip(windows.masks.chunks_exact(count)).enumerate() {
            use_vector(vector, starts, masks);
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn take(row: &TapRow, places: &TapPlaces, out: &mut [i16]) {
        let Some(windows) = &places.windows else { return take_portable(row, &places.first, out) };
        let out = out.as_chunks_mut::<BLOCK>().0;
        each_vector(windows, |vector, starts, masks| {
            if let Some(out) = out.get_mut(vector) {
                store_words(picked::<false>(row, starts, masks), out);
            }
        });
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn two_taps(row: &TapRow, first: &[u32; 8], weights: &[[i16; 2]; 8]) -> __m256i {
        let pair = |position: usize| -> i32 {
            let at = first[position] as usize % (ROW_PLACES - 8);
            bytemuck::must_cast([row[at], row[at + 1]])
        };
        let samples = _mm256_set_epi32(pair(7), pair(6), pair(5), pair(4), pair(3), pair(2), pair(1), pair(0));
        _mm256_madd_epi16(samples, bytemuck::must_cast(*weights))
    }

    #[target_feature(enable = "avx2")]
    pub fn take_two(row: &TapRow, places: &TapPlaces, weights: &[[i16; 2]], out: &mut [i16]) {
        let weights = weights.as_chunks::<8>().0.as_chunks::<2>().0;
        let blocks = out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(weights);
        match &places.windows {
            Some(windows) if windows.count == 1 => {
                let tables = windows.starts.as_chunks::<2>().0.iter().zip(windows.masks.as_chunks::<2>().0);
                for ((out, weights), (starts, masks)) in blocks.zip(tables) {
                    let sums = |part: usize| {
                        let samples = picked::<true>(row, &starts[part..part + 1], &masks[part..part + 1]);
                        _mm256_madd_epi16(samples, bytemuck::must_cast(weights[part]))
                    };
                    store_words(rounded(sums(0), sums(1)), out);
                }
            }
            Some(windows) => {
                let count = windows.count.max(1);
                let tables = windows.starts.chunks_exact(2 * count).zip(windows.masks.chunks_exact(2 * count));
                for ((out, weights), (starts, masks)) in blocks.zip(tables) {
                    let sums = |part: usize| {
                        let range = part * count..(part + 1) * count;
                        let samples = picked::<false>(row, &starts[range.clone()], &masks[range]);
                        _mm256_madd_epi16(samples, bytemuck::must_cast(weights[part]))
                    };
                    store_words(rounded(sums(0), sums(1)), out);
                }
            }
            None => {
                for ((out, weights), first) in blocks.zip(places.first.as_chunks::<8>().0.as_chunks::<2>().0) {
                    store_words(rounded(two_taps(row, &first[0], &weights[0]), two_taps(row, &first[1], &weights[1])), out);
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn four_taps(row: &TapRow, first: &[u32; 4], weights: &[[i16; FEW]; 4]) -> __m256i {
        let taps = |position: usize| -> i64 {
            let at = first[position] as usize % (ROW_PLACES - 8);
            bytemuck::must_cast([row[at], row[at + 1], row[at + 2], row[at + 3]])
        };
        let samples = _mm256_set_epi64x(taps(3), taps(2), taps(1), taps(0));
        _mm256_madd_epi16(samples, bytemuck::must_cast(*weights))
    }

    #[target_feature(enable = "avx2")]
    pub fn take_few(row: &TapRow, places: &TapPlaces, weights: &[[i16; FEW]], out: &mut [i16]) {
        let in_order = _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7);
        let weights = weights.as_chunks::<4>().0.as_chunks::<4>().0;
        let blocks = out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(weights);
        let joined = |first: __m256i, second: __m256i| _mm256_permutevar8x32_epi32(_mm256_hadd_epi32(first, second), in_order);
        if let Some(windows) = places.windows.as_ref().filter(|windows| windows.count == 1) {
            let tables = windows.starts.as_chunks::<4>().0.iter().zip(windows.masks.as_chunks::<4>().0);
            for ((out, weights), (starts, masks)) in blocks.zip(tables) {
                let taps = |part: usize| {
                    let samples = picked::<true>(row, &starts[part..part + 1], &masks[part..part + 1]);
                    _mm256_madd_epi16(samples, bytemuck::must_cast(weights[part]))
                };
                store_words(rounded(joined(taps(0), taps(1)), joined(taps(2), taps(3))), out);
            }
            return;
        }
        for ((out, weights), first) in blocks.zip(places.first.as_chunks::<4>().0.as_chunks::<4>().0) {
            let taps = |part: usize| four_taps(row, &first[part], &weights[part]);
            store_words(rounded(joined(taps(0), taps(1)), joined(taps(2), taps(3))), out);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn mixed(samples: [__m256i; 3], mix: &FixedMix) -> __m256i {
        let mut sum = _mm256_set1_epi16(mix.bias);
        for (samples, gain) in samples.into_iter().zip(mix.gain) {
            // Known for the whole row: the branch costs nothing.
            if gain != 0 {
                sum = _mm256_adds_epi16(sum, _mm256_mulhrs_epi16(samples, _mm256_set1_epi16(gain)));
            }
        }
        sum
    }

    #[inline]
    fn blocks_of<'a>(rows: Components<'a>) -> impl Iterator<Item = [&'a [i16; BLOCK]; 3]> {
        let [first, second, third] = rows.map(|row| row.as_chunks::<BLOCK>().0.iter());
        first.zip(second).zip(third).map(|((first, second), third)| [first, second, third])
    }

    #[target_feature(enable = "avx2")]
    pub fn mix_to_words(rows: Components<'_>, mix: &FixedMix, out: &mut [i16]) {
        for (out, samples) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks_of(rows)) {
            store_words(mixed(samples.map(load_words), mix), out);
        }
    }

    #[target_feature(enable = "avx2")]
    pub fn mix_to_bytes(rows: Components<'_>, mixes: &[FixedMix], out: &mut [&mut [u8]]) {
        for (mix, out) in mixes.iter().zip(out) {
            mix_one(rows, &FixedMix { bias: mix.bias.saturating_add(16), ..*mix }, out);
        }
    }

    #[target_feature(enable = "avx2")]
    fn mix_one(rows: Components<'_>, mix: &FixedMix, out: &mut [u8]) {
        let mut blocks = blocks_of(rows);
        let mut next = || match blocks.next() {
            Some(samples) => _mm256_srai_epi16::<5>(mixed(samples.map(load_words), mix)),
            None => _mm256_setzero_si256(),
        };
        let mut bytes = || {
            let (near, far) = (next(), next());
            _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi16(near, far))
        };
        let (chunks, rest) = out.as_chunks_mut::<32>();
        for chunk in chunks {
            store(bytes(), chunk);
        }
        if !rest.is_empty() {
            let mut chunk = [0; 32];
            store(bytes(), &mut chunk);
            for (out, byte) in rest.iter_mut().zip(chunk) {
                *out = byte;
            }
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub fn words_to_halves(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
        let (scales, shifts) = (_mm256_set1_ps(scale / 32.0), _mm256_set1_ps(shift));
        let (low, high) = (_mm_setzero_si128(), _mm_set1_epi16(255 * 32));
        // Words are padded to whole blocks.
        let (chunks, rest) = words[..out.len().min(words.len())].as_chunks::<8>();
        let (out_chunks, out_rest) = out.as_chunks_mut::<8>();
        for (out, words) in out_chunks.iter_mut().zip(chunks) {
            let words = _mm_min_epi16(_mm_max_epi16(bytemuck::must_cast(*words), low), high);
            let values = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(words)), scales, shifts);
            *out = bytemuck::must_cast(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values));
        }
        words_to_halves_portable(rest, scale, shift, out_rest);
    }

    #[target_feature(enable = "avx2")]
    pub fn interleave_bytes(channels: [&[u8]; 3], out: &mut [u8]) {
        let [first, second, third] = channels.map(|channel| channel.as_chunks::<32>().0);
        let mut done = 0;
        for (((out, first), second), third) in out.as_chunks_mut::<96>().0.iter_mut().zip(first).zip(second).zip(third) {
            interleave([load(first), load(second), load(third)], out);
            done += 32;
        }
        interleave_from(channels, done, out);
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

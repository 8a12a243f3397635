//! The loops of resizing for AVX2.

use std::arch::x86_64::{
    __m256i, _MM_FROUND_TO_NEAREST_INT, _mm_max_epi16, _mm_min_epi16, _mm_set1_epi16, _mm_setzero_si128, _mm256_add_epi32,
    _mm256_adds_epi16, _mm256_castsi128_si256, _mm256_cvtepi16_epi32, _mm256_cvtepi32_ps, _mm256_cvtps_ph, _mm256_fmadd_ps,
    _mm256_hadd_epi32, _mm256_inserti128_si256, _mm256_madd_epi16, _mm256_mulhrs_epi16, _mm256_or_si256, _mm256_packs_epi32,
    _mm256_permute4x64_epi64, _mm256_permutevar8x32_epi32, _mm256_set_epi32, _mm256_set_epi64x, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srai_epi32,
};

use super::{
    BLOCK, FEW, MOST_COLUMNS, TAP_ONE, TapPlaces, TapRow, WORD_MAX, WORD_ONE, interleave_from, take_portable, words_to_halves_portable,
};
use crate::{
    vectors::{interleave, load, store_words, widen},
    windows::Windows,
};

/// Adds `ROWS` weighted rows of bytes to `out`, or to zero if `is_first`.
#[inline]
#[target_feature(enable = "avx2")]
fn weigh_some<const ROWS: usize>(rows: &[(&[u8], i16)], is_first: bool, out: &mut [i16]) {
    let Some(rows) = rows.first_chunk::<ROWS>() else { return };
    let out = out.as_chunks_mut::<BLOCK>().0;
    let blocks = rows.iter().fold(out.len(), |least, (row, _)| least.min(row.len() / BLOCK));
    let chunks = rows.map(|(row, _)| &row.as_chunks::<BLOCK>().0[..blocks]);
    let weights = rows.map(|(_, weight)| _mm256_set1_epi16(weight));
    for (block, out) in out[..blocks].iter_mut().enumerate() {
        let mut sum = if is_first { _mm256_setzero_si256() } else { bytemuck::must_cast(*out) };
        for (row, weight) in chunks.iter().zip(weights) {
            sum = _mm256_adds_epi16(sum, _mm256_mulhrs_epi16(_mm256_slli_epi16::<7>(widen(&row[block])), weight));
        }
        store_words(sum, out);
    }
}

#[target_feature(enable = "avx2")]
pub fn weigh(rows: &[(&[u8], i16)], out: &mut [i16]) {
    for (turn, rows) in rows.chunks(6).enumerate() {
        match rows.len() {
            1 => weigh_some::<1>(rows, turn == 0, out),
            2 => weigh_some::<2>(rows, turn == 0, out),
            3 => weigh_some::<3>(rows, turn == 0, out),
            4 => weigh_some::<4>(rows, turn == 0, out),
            5 => weigh_some::<5>(rows, turn == 0, out),
            _ => weigh_some::<6>(rows, turn == 0, out),
        }
    }
}

/// Rounds two vectors of sums in 1/16384 to one vector: the values of `near`, then those of `far`.
#[inline]
#[target_feature(enable = "avx2")]
fn rounded(near: __m256i, far: __m256i) -> __m256i {
    let half = _mm256_set1_epi32(TAP_ONE / 2);
    let whole = |sum: __m256i| _mm256_srai_epi32::<14>(_mm256_add_epi32(sum, half));
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(whole(near), whole(far)))
}

/// Shuffles the bytes of each half's window to their places.
#[inline]
#[target_feature(enable = "avx2")]
fn shuffled(low: [u8; 16], high: [u8; 16], mask: &[u8; 32]) -> __m256i {
    let halves = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(bytemuck::must_cast(low)), bytemuck::must_cast(high));
    _mm256_shuffle_epi8(halves, load(mask))
}

/// Returns eight elements of a row from `start` on.
#[inline(always)]
fn window(row: &TapRow, start: u32) -> [u8; 16] {
    let start = start as usize % MOST_COLUMNS;
    let elements: [i16; 8] = std::array::from_fn(|place| row[start + place]);
    bytemuck::must_cast(elements)
}

/// Picks the elements of one vector. `ONE` means that every vector has a single window.
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

/// Calls `use_vector` for each vector in turn.
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
        let at = first[position] as usize % MOST_COLUMNS;
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
        let at = first[position] as usize % MOST_COLUMNS;
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

#[target_feature(enable = "avx2")]
pub fn take_many(row: &TapRow, first: &[u32], weights: &[[i16; 8]], blocks: usize, out: &mut [i16]) {
    let turns = first.as_chunks::<8>().0.as_chunks::<2>().0.iter().zip(weights.chunks_exact(16 * blocks.max(1)));
    for (out, (first, weights)) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(turns) {
        let (near, far) = weights.split_at(8 * blocks);
        store_words(rounded(eight_sums(row, &first[0], near), eight_sums(row, &first[1], far)), out);
    }
}

/// Returns the sums of eight positions, in order.
#[inline]
#[target_feature(enable = "avx2")]
fn eight_sums(row: &TapRow, first: &[u32; 8], weights: &[[i16; 8]]) -> __m256i {
    let mut sums = [_mm256_setzero_si256(); 4];
    for (block, weights) in weights.as_chunks::<2>().0.as_chunks::<4>().0.iter().enumerate() {
        for (position, sum) in sums.iter_mut().enumerate() {
            let samples = |position: usize| window(row, first[position] + 8 * block as u32);
            let halves = [samples(position), samples(position + 4)];
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(bytemuck::must_cast(halves), bytemuck::must_cast(weights[position])));
        }
    }
    _mm256_hadd_epi32(_mm256_hadd_epi32(sums[0], sums[1]), _mm256_hadd_epi32(sums[2], sums[3]))
}

#[target_feature(enable = "avx2,fma,f16c")]
pub fn words_to_halves(words: &[i16], scale: f32, shift: f32, out: &mut [[u8; 2]]) {
    let (scales, shifts) = (_mm256_set1_ps(scale / f32::from(WORD_ONE)), _mm256_set1_ps(shift));
    let (low, high) = (_mm_setzero_si128(), _mm_set1_epi16(WORD_MAX));
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

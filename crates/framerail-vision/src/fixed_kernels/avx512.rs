//! The loops of resizing for AVX-512 (F and BW).

use std::arch::x86_64::{
    __m256i, _mm512_add_epi32, _mm512_adds_epi16, _mm512_cvtepu8_epi16, _mm512_cvtsepi32_epi16, _mm512_madd_epi16, _mm512_mulhrs_epi16,
    _mm512_permutex2var_epi16, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi16, _mm512_srai_epi32,
};

use super::{BLOCK, MOST_COLUMNS, Pairs, ROW_STEP, TAP_ONE, TapRow};
use crate::vectors::{load_wide, store_wide, store_words};

/// Adds `ROWS` weighted rows of bytes to `out`, or to zero if `is_first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn weigh_some<const ROWS: usize>(rows: &[(&[u8], i16)], is_first: bool, out: &mut [i16]) {
    let Some(rows) = rows.first_chunk::<ROWS>() else { return };
    let out = out.as_chunks_mut::<ROW_STEP>().0;
    let blocks = rows.iter().fold(out.len(), |least, (row, _)| least.min(row.len() / ROW_STEP));
    let chunks = rows.map(|(row, _)| &row.as_chunks::<ROW_STEP>().0[..blocks]);
    let weights = rows.map(|(_, weight)| _mm512_set1_epi16(weight));
    for (block, out) in out[..blocks].iter_mut().enumerate() {
        let mut sum = if is_first { _mm512_setzero_si512() } else { load_wide(out) };
        for (row, weight) in chunks.iter().zip(weights) {
            let numbers = _mm512_slli_epi16::<7>(_mm512_cvtepu8_epi16(bytemuck::must_cast::<[u8; ROW_STEP], __m256i>(row[block])));
            sum = _mm512_adds_epi16(sum, _mm512_mulhrs_epi16(numbers, weight));
        }
        store_wide(sum, out);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
pub fn weigh(rows: &[(&[u8], i16)], out: &mut [i16]) {
    for (turn, rows) in rows.chunks(8).enumerate() {
        match rows.len() {
            1 => weigh_some::<1>(rows, turn == 0, out),
            2 => weigh_some::<2>(rows, turn == 0, out),
            3 => weigh_some::<3>(rows, turn == 0, out),
            4 => weigh_some::<4>(rows, turn == 0, out),
            5 => weigh_some::<5>(rows, turn == 0, out),
            6 => weigh_some::<6>(rows, turn == 0, out),
            7 => weigh_some::<7>(rows, turn == 0, out),
            _ => weigh_some::<8>(rows, turn == 0, out),
        }
    }
}

/// Returns 32 values of a row from `start` on.
#[inline(always)]
fn numbers(row: &TapRow, start: usize) -> &[i16; 32] {
    row[start..].first_chunk().unwrap_or(&[0; 32])
}

#[target_feature(enable = "avx512f,avx512bw")]
pub fn take_pairs(row: &TapRow, pairs: &Pairs, out: &mut [i16]) {
    let count = pairs.count.max(1);
    let blocks = out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(pairs.weights.chunks_exact(count));
    for ((out, weights), (start, places)) in blocks.zip(pairs.starts.iter().zip(&pairs.places)) {
        let places = load_wide(places);
        let mut sum = _mm512_set1_epi32(TAP_ONE / 2);
        for (pair, weights) in weights.iter().enumerate() {
            let start = (*start as usize + 2 * pair) % MOST_COLUMNS;
            let taps = _mm512_permutex2var_epi16(load_wide(numbers(row, start)), places, load_wide(numbers(row, start + 32)));
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(taps, load_wide(weights)));
        }
        store_words(_mm512_cvtsepi32_epi16(_mm512_srai_epi32::<14>(sum)), out);
    }
}

//! AVX2 and AVX-512 vectors without unsafe code: arrays become vectors and back by value, and every function is an intrinsic.
//!
//! Callers are compiled for these instructions and selected at run time (see `multiversion`), so calling these functions is safe.
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_cvtepu8_epi16, _mm256_permute2x128_si256,
    _mm256_shuffle_epi8, _mm512_castsi256_si512, _mm512_extracti64x4_epi64, _mm512_inserti64x4,
};

/// Loads a vector of 32 bytes.
#[inline(always)]
pub(crate) fn load(bytes: &[u8; 32]) -> __m256i {
    bytemuck::must_cast(*bytes)
}

/// Stores the bytes of a vector.
#[inline(always)]
pub(crate) fn store(vector: __m256i, out: &mut [u8; 32]) {
    *out = bytemuck::must_cast(vector);
}

/// Stores the words of a vector.
#[inline(always)]
pub(crate) fn store_words(vector: __m256i, out: &mut [i16; 16]) {
    *out = bytemuck::must_cast(vector);
}

/// Loads a vector of 64 bytes; the two halves become one load.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_wide(words: &[i16; 32]) -> __m512i {
    let [low, high]: [__m256i; 2] = bytemuck::must_cast(*words);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// Stores the words of a wide vector.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store_wide(vector: __m512i, out: &mut [i16; 32]) {
    let halves: [__m256i; 2] = [_mm512_extracti64x4_epi64::<0>(vector), _mm512_extracti64x4_epi64::<1>(vector)];
    *out = bytemuck::must_cast(halves);
}

/// Widens sixteen bytes to 16-bit numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn widen(bytes: &[u8; 16]) -> __m256i {
    _mm256_cvtepu8_epi16(bytemuck::must_cast::<[u8; 16], __m128i>(*bytes))
}

/// Shuffles a channel within 16 bytes so that byte `i` lies at `3 i + channel` modulo 16.
const fn spread(channel: usize) -> [u8; 16] {
    let mut from = [0; 16];
    let mut i = 0;
    while i < 16 {
        from[(3 * i + channel) % 16] = i as u8;
        i += 1;
    }
    from
}

/// Selects the bytes whose position modulo 3 is `remainder`.
const fn every_third(remainder: usize) -> [u8; 16] {
    let mut mask = [0; 16];
    let mut i = remainder;
    while i < 16 {
        mask[i] = 0xff;
        i += 3;
    }
    mask
}

#[inline]
#[target_feature(enable = "avx2")]
fn in_both_halves(bytes: [u8; 16]) -> __m256i {
    _mm256_broadcastsi128_si256(bytemuck::must_cast(bytes))
}

/// Interleaves 32 pixels of three channels to 96 bytes.
///
/// Each half of a channel is shuffled so that every byte has its place within 16 bytes; three blends then form three such pieces.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn interleave(channels: [__m256i; 3], out: &mut [u8; 96]) {
    let [first, second, third] = channels;
    let first = _mm256_shuffle_epi8(first, in_both_halves(spread(0)));
    let second = _mm256_shuffle_epi8(second, in_both_halves(spread(1)));
    let third = _mm256_shuffle_epi8(third, in_both_halves(spread(2)));
    // Byte `k` of piece `p` is of the channel (16 p + k) mod 3, which is (p + k) mod 3.
    let (ones, twos) = (in_both_halves(every_third(1)), in_both_halves(every_third(2)));
    let piece = |zero: __m256i, one: __m256i, two: __m256i| _mm256_blendv_epi8(_mm256_blendv_epi8(zero, one, ones), two, twos);
    let pieces = [piece(first, second, third), piece(second, third, first), piece(third, first, second)];
    let (chunks, _) = out.as_chunks_mut::<32>();
    if let [start, middle, end] = chunks {
        store(_mm256_permute2x128_si256::<0x20>(pieces[0], pieces[1]), start);
        store(_mm256_permute2x128_si256::<0x30>(pieces[2], pieces[0]), middle);
        store(_mm256_permute2x128_si256::<0x31>(pieces[1], pieces[2]), end);
    }
}

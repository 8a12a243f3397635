//! Converts 8-bit Y'CbCr to RGB without resizing, in FFmpeg's 16-bit arithmetic ([`FastYuv`]), 32 pixels at a time.

use framerail_core::FastYuv;
use multiversion::multiversion;

/// Pixels per block.
const BLOCK: usize = 32;

/// A row of chroma with one sample for every two pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChromaRow<'a> {
    /// Cb and Cr in separate planes.
    Planes(&'a [u8], &'a [u8]),
    /// Cb and Cr interleaved.
    Pairs(&'a [u8]),
}

/// Chroma of one block.
enum ChromaBlock<'a> {
    Planes(&'a [u8; BLOCK / 2], &'a [u8; BLOCK / 2]),
    Pairs(&'a [u8; BLOCK]),
}

impl<'a> ChromaRow<'a> {
    /// Returns the samples after the first `blocks` whole blocks, padded to one block.
    fn rest(&self, blocks: usize, padded: &'a mut [[u8; BLOCK]; 2]) -> ChromaRow<'a> {
        let pad = |samples: &[u8], padded: &mut [u8; BLOCK]| {
            for (out, sample) in padded.iter_mut().zip(samples) {
                *out = *sample;
            }
        };
        let [first, second] = padded;
        match self {
            ChromaRow::Planes(cb, cr) => {
                pad(cb.get(blocks * BLOCK / 2..).unwrap_or_default(), first);
                pad(cr.get(blocks * BLOCK / 2..).unwrap_or_default(), second);
                ChromaRow::Planes(&first[..BLOCK / 2], &second[..BLOCK / 2])
            }
            ChromaRow::Pairs(pairs) => {
                pad(pairs.get(blocks * BLOCK..).unwrap_or_default(), first);
                ChromaRow::Pairs(first)
            }
        }
    }
}

/// The steps of one block for an instruction set: chroma to terms, then luma and terms to red, green and blue.
struct Steps<Terms, Rgb> {
    terms: Terms,
    rgb: Rgb,
}

/// Runs over the whole blocks of rows that share chroma. `write` stores the colours of a block, given its row and block number.
///
/// The steps are called from a single place, so that they are inlined.
#[inline(always)]
fn over_blocks<'a, const ROWS: usize, T, V>(
    luma: [&[u8]; ROWS],
    chroma: impl Fn(usize) -> ChromaBlock<'a>,
    steps: Steps<impl Fn(ChromaBlock<'_>) -> T, impl Fn(&[u8; BLOCK], &T) -> V>,
    blocks: usize,
    mut write: impl FnMut(usize, usize, V),
) {
    let luma = luma.map(|row| &row.as_chunks::<BLOCK>().0[..blocks]);
    for block in 0..blocks {
        let terms = (steps.terms)(chroma(block));
        for (row, pixels) in luma.iter().enumerate() {
            write(row, block, (steps.rgb)(&pixels[block], &terms));
        }
    }
}

#[inline(always)]
fn planar_blocks<'a, const ROWS: usize, T, V>(
    luma: [&[u8]; ROWS],
    chroma: impl Fn(usize) -> ChromaBlock<'a>,
    steps: Steps<impl Fn(ChromaBlock<'_>) -> T, impl Fn(&[u8; BLOCK], &T) -> [V; 3]>,
    out: [[&mut [u8]; 3]; ROWS],
    store: impl Fn(V, &mut [u8; BLOCK]),
) {
    let blocks = luma[0].len() / BLOCK;
    let mut out = out.map(|channels| channels.map(|channel| &mut channel.as_chunks_mut::<BLOCK>().0[..blocks]));
    over_blocks(luma, chroma, steps, blocks, |row, block, [red, green, blue]| {
        let [red_out, green_out, blue_out] = &mut out[row];
        store(red, &mut red_out[block]);
        store(green, &mut green_out[block]);
        store(blue, &mut blue_out[block]);
    });
}

#[inline(always)]
fn interleaved_blocks<'a, const ROWS: usize, T, V>(
    luma: [&[u8]; ROWS],
    chroma: impl Fn(usize) -> ChromaBlock<'a>,
    steps: Steps<impl Fn(ChromaBlock<'_>) -> T, impl Fn(&[u8; BLOCK], &T) -> V>,
    out: [&mut [u8]; ROWS],
    store: impl Fn(V, &mut [u8; 3 * BLOCK]),
) {
    let blocks = luma[0].len() / BLOCK;
    let mut out = out.map(|pixels| &mut pixels.as_chunks_mut::<{ 3 * BLOCK }>().0[..blocks]);
    over_blocks(luma, chroma, steps, blocks, |row, block, rgb| store(rgb, &mut out[row][block]));
}

/// Calls `$kernel` with a function that returns the chroma of a block, for either kind of row.
macro_rules! with_chroma {
    ($chroma:expr, $blocks:expr, |$block:ident| $kernel:expr) => {
        match $chroma {
            ChromaRow::Planes(cb, cr) => {
                let (cb, cr) = (&cb.as_chunks().0[..$blocks], &cr.as_chunks().0[..$blocks]);
                let $block = |block: usize| ChromaBlock::Planes(&cb[block], &cr[block]);
                $kernel
            }
            ChromaRow::Pairs(pairs) => {
                let pairs = &pairs.as_chunks().0[..$blocks];
                let $block = |block: usize| ChromaBlock::Pairs(&pairs[block]);
                $kernel
            }
        }
    };
}

#[inline(always)]
fn multiply_high(left: i16, right: i16) -> i16 {
    ((i32::from(left) * i32::from(right)) >> 16) as i16
}

/// The contribution of chroma to red, green and blue.
type Terms = [[i16; BLOCK / 2]; 3];

#[inline(always)]
fn terms_portable(chroma: ChromaBlock<'_>, yuv: &FastYuv) -> Terms {
    let mut terms = [[0; BLOCK / 2]; 3];
    for i in 0..BLOCK / 2 {
        let (cb, cr) = match chroma {
            ChromaBlock::Planes(cb, cr) => (cb[i], cr[i]),
            ChromaBlock::Pairs(pairs) => (pairs[2 * i], pairs[2 * i + 1]),
        };
        let (cb, cr) = (i16::from(cb) * 8 - 1024, i16::from(cr) * 8 - 1024);
        terms[0][i] = multiply_high(cr, yuv.red_cr);
        terms[1][i] = multiply_high(cb, yuv.green[0]) + multiply_high(cr, yuv.green[1]);
        terms[2][i] = multiply_high(cb, yuv.blue_cb);
    }
    terms
}

#[inline(always)]
fn rgb_portable(luma: &[u8; BLOCK], terms: &Terms, yuv: &FastYuv) -> [[u8; BLOCK]; 3] {
    let mut rgb = [[0; BLOCK]; 3];
    for (channel, terms) in rgb.iter_mut().zip(terms) {
        for i in 0..BLOCK {
            let luma = multiply_high(i16::from(luma[i]) * 8 - yuv.black, yuv.luma);
            channel[i] = (luma + terms[i / 2]).clamp(0, 255) as u8;
        }
    }
    rgb
}

fn planar_portable<const ROWS: usize>(luma: [&[u8]; ROWS], chroma: ChromaRow<'_>, yuv: &FastYuv, out: [[&mut [u8]; 3]; ROWS]) {
    let terms = |chroma: ChromaBlock<'_>| terms_portable(chroma, yuv);
    let rgb = |luma: &[u8; BLOCK], terms: &Terms| rgb_portable(luma, terms, yuv);
    with_chroma!(chroma, luma[0].len() / BLOCK, |block| {
        planar_blocks(luma, block, Steps { terms, rgb }, out, |values, chunk| *chunk = values)
    });
}

fn interleaved_portable<const ROWS: usize>(
    luma: [&[u8]; ROWS],
    chroma: ChromaRow<'_>,
    yuv: &FastYuv,
    order: [usize; 3],
    out: [&mut [u8]; ROWS],
) {
    let terms = |chroma: ChromaBlock<'_>| terms_portable(chroma, yuv);
    let rgb = |luma: &[u8; BLOCK], terms: &Terms| rgb_portable(luma, terms, yuv);
    with_chroma!(chroma, luma[0].len() / BLOCK, |block| {
        interleaved_blocks(luma, block, Steps { terms, rgb }, out, |rgb: [[u8; BLOCK]; 3], chunk| {
            for (i, pixel) in chunk.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                *pixel = order.map(|channel| rgb[channel][i]);
            }
        })
    });
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi16, _mm256_and_si256, _mm256_mulhi_epi16, _mm256_packus_epi16, _mm256_set1_epi16, _mm256_setzero_si256,
        _mm256_slli_epi16, _mm256_srli_epi16, _mm256_sub_epi16, _mm256_unpackhi_epi8, _mm256_unpackhi_epi16, _mm256_unpacklo_epi8,
        _mm256_unpacklo_epi16,
    };

    use super::{BLOCK, ChromaBlock, ChromaRow, FastYuv, Steps, interleaved_blocks, planar_blocks};
    use crate::vectors::{interleave, load, store, widen};

    /// The contribution of chroma to red, green and blue: for the pixels 0 to 7 and 16 to 23, then for the others.
    type Terms = [[__m256i; 2]; 3];

    #[inline]
    #[target_feature(enable = "avx2")]
    fn terms(chroma: ChromaBlock<'_>, yuv: &FastYuv) -> Terms {
        let (cb, cr) = match chroma {
            ChromaBlock::Planes(cb, cr) => (widen(cb), widen(cr)),
            ChromaBlock::Pairs(pairs) => {
                let pairs = load(pairs);
                (_mm256_and_si256(pairs, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(pairs))
            }
        };
        let centred = |chroma: __m256i| _mm256_sub_epi16(_mm256_slli_epi16::<3>(chroma), _mm256_set1_epi16(1024));
        let times = |chroma: __m256i, factor: i16| _mm256_mulhi_epi16(chroma, _mm256_set1_epi16(factor));
        // Doubled for the two pixels that share a sample.
        let doubled = |term: __m256i| [_mm256_unpacklo_epi16(term, term), _mm256_unpackhi_epi16(term, term)];
        let (cb, cr) = (centred(cb), centred(cr));
        let green = _mm256_add_epi16(times(cb, yuv.green[0]), times(cr, yuv.green[1]));
        [doubled(times(cr, yuv.red_cr)), doubled(green), doubled(times(cb, yuv.blue_cb))]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn rgb(luma: &[u8; BLOCK], terms: &Terms, yuv: &FastYuv) -> [__m256i; 3] {
        let (luma, zero) = (load(luma), _mm256_setzero_si256());
        let scaled = |luma: __m256i| {
            let above_black = _mm256_sub_epi16(_mm256_slli_epi16::<3>(luma), _mm256_set1_epi16(yuv.black));
            _mm256_mulhi_epi16(above_black, _mm256_set1_epi16(yuv.luma))
        };
        let near = scaled(_mm256_unpacklo_epi8(luma, zero));
        let far = scaled(_mm256_unpackhi_epi8(luma, zero));
        let channel = |terms: [__m256i; 2]| _mm256_packus_epi16(_mm256_add_epi16(near, terms[0]), _mm256_add_epi16(far, terms[1]));
        [channel(terms[0]), channel(terms[1]), channel(terms[2])]
    }

    #[target_feature(enable = "avx2")]
    pub fn planar<const ROWS: usize>(luma: [&[u8]; ROWS], chroma: ChromaRow<'_>, yuv: &FastYuv, out: [[&mut [u8]; 3]; ROWS]) {
        let terms = |chroma: ChromaBlock<'_>| terms(chroma, yuv);
        let rgb = |luma: &[u8; BLOCK], terms: &Terms| rgb(luma, terms, yuv);
        with_chroma!(chroma, luma[0].len() / BLOCK, |block| planar_blocks(luma, block, Steps { terms, rgb }, out, store));
    }

    #[target_feature(enable = "avx2")]
    pub fn interleaved<const ROWS: usize>(
        luma: [&[u8]; ROWS],
        chroma: ChromaRow<'_>,
        yuv: &FastYuv,
        order: [usize; 3],
        out: [&mut [u8]; ROWS],
    ) {
        let terms = |chroma: ChromaBlock<'_>| terms(chroma, yuv);
        let rgb = |luma: &[u8; BLOCK], terms: &Terms| rgb(luma, terms, yuv);
        let blue_first = order[0] == 2;
        with_chroma!(chroma, luma[0].len() / BLOCK, |block| {
            interleaved_blocks(luma, block, Steps { terms, rgb }, out, |[red, green, blue], chunk| {
                interleave(if blue_first { [blue, green, red] } else { [red, green, blue] }, chunk)
            })
        });
    }
}

/// Rows of luma that share chroma; all have the same length.
type Luma<'a, const ROWS: usize> = [&'a [u8]; ROWS];

#[multiversion(targets("x86_64+avx2+fma"))]
fn planar_whole<const ROWS: usize>(luma: Luma<'_, ROWS>, chroma: ChromaRow<'_>, yuv: &FastYuv, out: [[&mut [u8]; 3]; ROWS]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::planar(luma, chroma, yuv, out),
        _ => planar_portable(luma, chroma, yuv, out),
    }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn interleaved_whole<const ROWS: usize>(
    luma: Luma<'_, ROWS>,
    chroma: ChromaRow<'_>,
    yuv: &FastYuv,
    order: [usize; 3],
    out: [&mut [u8]; ROWS],
) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::interleaved(luma, chroma, yuv, order, out),
        _ => interleaved_portable(luma, chroma, yuv, order, out),
    }
}

/// Returns the pixels after the whole blocks, padded to one block.
fn rest_of(row: &[u8]) -> [u8; BLOCK] {
    let mut padded = [0; BLOCK];
    for (out, sample) in padded.iter_mut().zip(row.as_chunks::<BLOCK>().1) {
        *out = *sample;
    }
    padded
}

/// Converts one or two rows that share chroma to rows of red, green and blue. All rows have one length, chroma at least half of it.
pub(crate) fn planar<const ROWS: usize>(luma: Luma<'_, ROWS>, chroma: ChromaRow<'_>, yuv: &FastYuv, mut out: [[&mut [u8]; 3]; ROWS]) {
    planar_whole(luma, chroma, yuv, out.each_mut().map(|channels| channels.each_mut().map(|channel| &mut **channel)));
    let blocks = luma[0].len() / BLOCK;
    if luma[0].len() > blocks * BLOCK {
        let (mut found, mut padded) = ([[[0; BLOCK]; 3]; ROWS], [[0; BLOCK]; 2]);
        let pixels = luma.map(rest_of);
        let slices = found.each_mut().map(|channels| channels.each_mut().map(|channel| &mut channel[..]));
        planar_whole(pixels.each_ref().map(|row| &row[..]), chroma.rest(blocks, &mut padded), yuv, slices);
        for (out, found) in out.iter_mut().flatten().zip(found.iter().flatten()) {
            out.iter_mut().skip(blocks * BLOCK).zip(found).for_each(|(out, byte)| *out = *byte);
        }
    }
}

/// Like [`planar`], but writes interleaved pixels. `order` places red, green and blue: 0, 1, 2 or 2, 1, 0.
pub(crate) fn interleaved<const ROWS: usize>(
    luma: Luma<'_, ROWS>,
    chroma: ChromaRow<'_>,
    yuv: &FastYuv,
    order: [usize; 3],
    mut out: [&mut [u8]; ROWS],
) {
    interleaved_whole(luma, chroma, yuv, order, out.each_mut().map(|pixels| &mut **pixels));
    let blocks = luma[0].len() / BLOCK;
    if luma[0].len() > blocks * BLOCK {
        let (mut found, mut padded) = ([[0; 3 * BLOCK]; ROWS], [[0; BLOCK]; 2]);
        let pixels = luma.map(rest_of);
        let slices = found.each_mut().map(|pixels| &mut pixels[..]);
        interleaved_whole(pixels.each_ref().map(|row| &row[..]), chroma.rest(blocks, &mut padded), yuv, order, slices);
        for (out, found) in out.iter_mut().zip(&found) {
            out.iter_mut().skip(3 * blocks * BLOCK).zip(found).for_each(|(out, byte)| *out = *byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BT709: FastYuv = FastYuv { black: 128, luma: 9539, red_cr: 14686, green: [-1747, -4366], blue_cb: 17305 };

    fn noise(length: usize, seed: usize) -> Vec<u8> {
        (0..length).map(|i| ((i + seed * 977).wrapping_mul(2_654_435_761) >> 11) as u8).collect()
    }

    fn pixel(luma: u8, cb: u8, cr: u8, yuv: &FastYuv) -> [u8; 3] {
        let part = |value: i32, factor: i16| (value * i32::from(factor)) >> 16;
        let (cb, cr) = (i32::from(cb) * 8 - 1024, i32::from(cr) * 8 - 1024);
        let luma = part(i32::from(luma) * 8 - i32::from(yuv.black), yuv.luma);
        let green = part(cb, yuv.green[0]) + part(cr, yuv.green[1]);
        [part(cr, yuv.red_cr), green, part(cb, yuv.blue_cb)].map(|term| (luma + term).clamp(0, 255) as u8)
    }

    /// Checks rows of both layouts, converted with the CPU's instruction set, against single pixels and the portable code.
    fn check<const ROWS: usize>(width: usize, rows: [&[u8]; ROWS], chroma: ChromaRow<'_>, cb: &[u8], cr: &[u8]) {
        let mut planes = vec![vec![0; width]; 3 * ROWS];
        let mut slices = planes.iter_mut().map(Vec::as_mut_slice);
        planar(rows, chroma, &BT709, std::array::from_fn(|_| std::array::from_fn(|_| slices.next().expect("as many"))));
        let whole = width / BLOCK * BLOCK;
        let mut plain = vec![vec![0; width]; 3 * ROWS];
        let mut slices = plain.iter_mut().map(Vec::as_mut_slice);
        planar_portable(rows, chroma, &BT709, std::array::from_fn(|_| std::array::from_fn(|_| slices.next().expect("as many"))));
        assert!(planes.iter().zip(&plain).all(|(plane, plain)| plane[..whole] == plain[..whole]), "{width}");
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut pixels = vec![vec![0; 3 * width]; ROWS];
            let mut slices = pixels.iter_mut().map(Vec::as_mut_slice);
            interleaved(rows, chroma, &BT709, order, std::array::from_fn(|_| slices.next().expect("as many")));
            let mut plain = vec![vec![0; 3 * width]; ROWS];
            let mut slices = plain.iter_mut().map(Vec::as_mut_slice);
            interleaved_portable(rows, chroma, &BT709, order, std::array::from_fn(|_| slices.next().expect("as many")));
            for row in 0..ROWS {
                assert!(pixels[row][..3 * whole] == plain[row][..3 * whole], "{width}");
                for x in 0..width {
                    let expected = pixel(rows[row][x], cb[x / 2], cr[x / 2], &BT709);
                    assert_eq!(pixels[row][3 * x..][..3], order.map(|channel| expected[channel]), "{width} {x}");
                    assert_eq!([0, 1, 2].map(|channel| planes[3 * row + channel][x]), expected, "{width} {x}");
                }
            }
        }
    }

    #[test]
    fn every_way_gives_the_same_pixels_at_any_width() {
        for width in [1, 2, 31, 32, 33, 63, 64, 95, 160, 197] {
            let rows = [noise(width, 1), noise(width, 2)];
            let (cb, cr) = (noise(width.div_ceil(2), 3), noise(width.div_ceil(2), 4));
            let pairs: Vec<u8> = cb.iter().zip(&cr).flat_map(|(cb, cr)| [*cb, *cr]).collect();
            for chroma in [ChromaRow::Planes(&cb, &cr), ChromaRow::Pairs(&pairs)] {
                check(width, [&rows[0], &rows[1]], chroma, &cb, &cr);
                check(width, [&rows[1]], chroma, &cb, &cr);
            }
        }
    }
}

//! 8-bit Y'CbCr to RGB at its own size, by FFmpeg's 16-bit arithmetic ([`FastYuv`]), 32 pixels at a time.

use framerail_core::FastYuv;
use multiversion::multiversion;

/// Pixels of a block.
const BLOCK: usize = 32;

/// A row of chroma with a sample for every two pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChromaRow<'a> {
    /// Cb and Cr apart.
    Planes(&'a [u8], &'a [u8]),
    /// Cb and Cr in turn.
    Pairs(&'a [u8]),
}

/// Chroma of one block.
enum ChromaBlock<'a> {
    Planes(&'a [u8; BLOCK / 2], &'a [u8; BLOCK / 2]),
    Pairs(&'a [u8; BLOCK]),
}

impl<'a> ChromaRow<'a> {
    #[inline(always)]
    fn block(&self, index: usize) -> Option<ChromaBlock<'a>> {
        Some(match self {
            ChromaRow::Planes(cb, cr) => ChromaBlock::Planes(cb.as_chunks().0.get(index)?, cr.as_chunks().0.get(index)?),
            ChromaRow::Pairs(pairs) => ChromaBlock::Pairs(pairs.as_chunks().0.get(index)?),
        })
    }

    /// What is left behind whole blocks, as planes.
    fn rest(&self, blocks: usize) -> [[u8; BLOCK / 2]; 2] {
        let mut rest = [[0; BLOCK / 2]; 2];
        let first = blocks * BLOCK / 2;
        for (position, samples) in (first..first + BLOCK / 2).enumerate() {
            let (cb, cr) = match self {
                ChromaRow::Planes(cb, cr) => (cb.get(samples), cr.get(samples)),
                ChromaRow::Pairs(pairs) => (pairs.get(2 * samples), pairs.get(2 * samples + 1)),
            };
            (rest[0][position], rest[1][position]) = (cb.copied().unwrap_or(0), cr.copied().unwrap_or(0));
        }
        rest
    }
}

/// The steps of one block for some instruction set: chroma to terms, luma and terms to red, green and blue.
struct Steps<Terms, Rgb> {
    terms: Terms,
    rgb: Rgb,
}

/// Runs over one or two rows that share chroma; `write` stores a block's colours to row, block and count of pixels.
#[inline(always)]
fn over_blocks<T, V>(
    luma: &[&[u8]],
    chroma: ChromaRow<'_>,
    steps: Steps<impl Fn(ChromaBlock<'_>) -> T, impl Fn(&[u8; BLOCK], &T) -> V>,
    mut write: impl FnMut(usize, usize, usize, V),
) {
    let width = luma.first().map_or(0, |row| row.len());
    let (blocks, rest) = (width / BLOCK, width % BLOCK);
    for block in 0..blocks {
        let Some(samples) = chroma.block(block) else { return };
        let terms = (steps.terms)(samples);
        for (index, row) in luma.iter().enumerate() {
            let Some(pixels) = row.as_chunks().0.get(block) else { return };
            write(index, block, BLOCK, (steps.rgb)(pixels, &terms));
        }
    }
    if rest > 0 {
        let [cb, cr] = chroma.rest(blocks);
        let terms = (steps.terms)(ChromaBlock::Planes(&cb, &cr));
        for (index, row) in luma.iter().enumerate() {
            let mut pixels = [0; BLOCK];
            for (pixel, sample) in pixels.iter_mut().zip(row.as_chunks::<BLOCK>().1) {
                *pixel = *sample;
            }
            write(index, blocks, rest, (steps.rgb)(&pixels, &terms));
        }
    }
}

/// Stores `count` bytes of a block's channel.
#[inline(always)]
fn put<const BYTES: usize>(out: &mut [u8], block: usize, whole: bool, store: impl Fn(&mut [u8; BYTES])) {
    let (chunks, rest) = out.as_chunks_mut::<BYTES>();
    match chunks.get_mut(block) {
        Some(chunk) if whole => store(chunk),
        _ => {
            let mut chunk = [0; BYTES];
            store(&mut chunk);
            for (out, byte) in rest.iter_mut().zip(chunk) {
                *out = byte;
            }
        }
    }
}

#[inline(always)]
fn multiply_high(left: i16, right: i16) -> i16 {
    ((i32::from(left) * i32::from(right)) >> 16) as i16
}

/// What chroma adds to red, green and blue.
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

fn planar_portable(luma: &[&[u8]], chroma: ChromaRow<'_>, yuv: &FastYuv, out: &mut [[&mut [u8]; 3]]) {
    let steps = Steps {
        terms: |chroma: ChromaBlock<'_>| terms_portable(chroma, yuv),
        rgb: |luma: &[u8; BLOCK], terms: &Terms| rgb_portable(luma, terms, yuv),
    };
    over_blocks(luma, chroma, steps, |row, block, count, rgb| {
        for (channel, values) in out[row].iter_mut().zip(rgb) {
            put(channel, block, count == BLOCK, |chunk| *chunk = values);
        }
    });
}

fn interleaved_portable(luma: &[&[u8]], chroma: ChromaRow<'_>, yuv: &FastYuv, order: [usize; 3], out: &mut [&mut [u8]]) {
    let steps = Steps {
        terms: |chroma: ChromaBlock<'_>| terms_portable(chroma, yuv),
        rgb: |luma: &[u8; BLOCK], terms: &Terms| rgb_portable(luma, terms, yuv),
    };
    over_blocks(luma, chroma, steps, |row, block, count, rgb| {
        put::<{ 3 * BLOCK }>(out[row], block, count == BLOCK, |chunk| {
            for (i, pixel) in chunk.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                *pixel = order.map(|channel| rgb[channel][i]);
            }
        });
    });
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi16, _mm256_and_si256, _mm256_mulhi_epi16, _mm256_packus_epi16, _mm256_set1_epi16, _mm256_setzero_si256,
        _mm256_slli_epi16, _mm256_srli_epi16, _mm256_sub_epi16, _mm256_unpackhi_epi8, _mm256_unpackhi_epi16, _mm256_unpacklo_epi8,
        _mm256_unpacklo_epi16,
    };

    use super::{BLOCK, ChromaBlock, ChromaRow, FastYuv, Steps, over_blocks, put};
    use crate::vectors::{interleave, load, store, widen};

    /// What chroma adds to red, green and blue: of the pixels 0 to 7 and 16 to 23, then of the others.
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
        // Twice each, for the two pixels that share it.
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
    pub fn planar(luma: &[&[u8]], chroma: ChromaRow<'_>, yuv: &FastYuv, out: &mut [[&mut [u8]; 3]]) {
        let steps =
            Steps { terms: |chroma: ChromaBlock<'_>| terms(chroma, yuv), rgb: |luma: &[u8; BLOCK], terms: &Terms| rgb(luma, terms, yuv) };
        over_blocks(luma, chroma, steps, |row, block, count, rgb| {
            for (channel, values) in out[row].iter_mut().zip(rgb) {
                put(channel, block, count == BLOCK, |chunk| store(values, chunk));
            }
        });
    }

    #[target_feature(enable = "avx2")]
    pub fn interleaved(luma: &[&[u8]], chroma: ChromaRow<'_>, yuv: &FastYuv, order: [usize; 3], out: &mut [&mut [u8]]) {
        let steps =
            Steps { terms: |chroma: ChromaBlock<'_>| terms(chroma, yuv), rgb: |luma: &[u8; BLOCK], terms: &Terms| rgb(luma, terms, yuv) };
        let blue_first = order[0] == 2;
        over_blocks(luma, chroma, steps, |row, block, count, [red, green, blue]| {
            let channels = if blue_first { [blue, green, red] } else { [red, green, blue] };
            put(out[row], block, count == BLOCK, |chunk| interleave(channels, chunk));
        });
    }
}

/// One or two rows that share chroma, as rows of red, green and blue. All slices of a kind are of one length.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn planar(luma: &[&[u8]], chroma: ChromaRow<'_>, yuv: &FastYuv, out: &mut [[&mut [u8]; 3]]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::planar(luma, chroma, yuv, out),
        _ => planar_portable(luma, chroma, yuv, out),
    }
}

/// The same as rows of pixels, with red, green and blue in this order.
#[multiversion(targets("x86_64+avx2+fma"))]
pub(crate) fn interleaved(luma: &[&[u8]], chroma: ChromaRow<'_>, yuv: &FastYuv, order: [usize; 3], out: &mut [&mut [u8]]) {
    multiversion::target::match_target! {
        "x86_64+avx2" => avx2::interleaved(luma, chroma, yuv, order, out),
        _ => interleaved_portable(luma, chroma, yuv, order, out),
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

    #[test]
    fn every_way_gives_the_same_pixels_at_any_width() {
        for width in [1, 2, 31, 32, 33, 63, 64, 95, 160, 197] {
            let rows = [noise(width, 1), noise(width, 2)];
            let (cb, cr) = (noise(width.div_ceil(2), 3), noise(width.div_ceil(2), 4));
            let pairs: Vec<u8> = cb.iter().zip(&cr).flat_map(|(cb, cr)| [*cb, *cr]).collect();
            let luma = [&rows[0][..], &rows[1][..]];
            for chroma in [ChromaRow::Planes(&cb, &cr), ChromaRow::Pairs(&pairs)] {
                for count in [1, 2] {
                    let mut planes = vec![vec![0; width]; 12];
                    let mut sets = planes.chunks_exact_mut(3).map(|set| {
                        let [red, green, blue] = set else { unreachable!() };
                        [&mut red[..], &mut green[..], &mut blue[..]]
                    });
                    let mut found = [sets.next().expect("four"), sets.next().expect("four")];
                    let mut plain = [sets.next().expect("four"), sets.next().expect("four")];
                    planar(&luma[..count], chroma, &BT709, &mut found);
                    planar_portable(&luma[..count], chroma, &BT709, &mut plain);
                    assert!(found == plain, "{width}");
                    for order in [[0, 1, 2], [2, 1, 0]] {
                        let mut pixels = vec![vec![0; 3 * width]; 4];
                        let mut slices: Vec<&mut [u8]> = pixels.iter_mut().map(Vec::as_mut_slice).collect();
                        interleaved(&luma[..count], chroma, &BT709, order, &mut slices[..2]);
                        interleaved_portable(&luma[..count], chroma, &BT709, order, &mut slices[2..]);
                        for row in 0..count {
                            assert!(pixels[row] == pixels[row + 2]);
                            for x in 0..width {
                                let expected = pixel(rows[row][x], cb[x / 2], cr[x / 2], &BT709);
                                assert_eq!(pixels[row][3 * x..][..3], order.map(|channel| expected[channel]), "{width} {x}");
                                assert_eq!([0, 1, 2].map(|channel| found[row][channel][x]), expected);
                            }
                        }
                    }
                }
            }
        }
    }
}

//! Changes the matrix of Y'CbCr samples in place.
//!
//! swscale goes through RGB for this, row by row without SIMD: ten times the cost of scaling. Luma and chroma change linearly, and grey stays
//! grey, so that two products per chroma sample and an addition per luma sample are enough.

use framerail_core::{ColorMatrix, HostSurface, PixelFormat};

/// Fixed point of the coefficients.
const FRACTION_BITS: u32 = 14;
const HALF: i32 = 1 << (FRACTION_BITS - 1);
/// The code of no colour, at 8 bits.
const CENTRE: i32 = 128;

/// Coefficients from one matrix to another, for 8-bit samples of the same range.
///
/// From the definitions of ITU-R BT.601, BT.709 and BT.2020 (non-constant luminance), by way of R'G'B'.
pub(crate) struct MatrixChange {
    /// What Cb and Cr add to luma.
    luma: [i32; 2],
    /// Cb and Cr from Cb and Cr.
    cb: [i32; 2],
    cr: [i32; 2],
}

impl MatrixChange {
    pub(crate) fn new(source: ColorMatrix, target: ColorMatrix, is_full_range: bool) -> Self {
        let ((red, blue), (target_red, target_blue)) = (source.luma_weights(), target.luma_weights());
        let green = 1.0 - red - blue;
        let target_green = 1.0 - target_red - target_blue;
        // R' - Y' and B' - Y' by Cr and Cb, and what they take from G'.
        let (red_by_cr, blue_by_cb) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
        let luma_by_cb = target_blue * blue_by_cb - target_green * blue * blue_by_cb / green;
        let luma_by_cr = target_red * red_by_cr - target_green * red * red_by_cr / green;
        let (to_cb, to_cr) = (2.0 * (1.0 - target_blue), 2.0 * (1.0 - target_red));
        let luma_per_chroma = if is_full_range { 1.0 } else { 219.0 / 224.0 };
        let fixed = |value: f64| (value * f64::from(1 << FRACTION_BITS)).round() as i32;
        Self {
            luma: [fixed(luma_by_cb * luma_per_chroma), fixed(luma_by_cr * luma_per_chroma)],
            cb: [fixed((blue_by_cb - luma_by_cb) / to_cb), fixed(-luma_by_cr / to_cb)],
            cr: [fixed(-luma_by_cb / to_cr), fixed((red_by_cr - luma_by_cr) / to_cr)],
        }
    }

    /// Whether surfaces of this format can be changed.
    pub(crate) fn fits(format: PixelFormat) -> bool {
        matches!(format, PixelFormat::Yuv420p | PixelFormat::Yuv422p | PixelFormat::Yuv444p)
    }

    /// Changes all samples. The surface must not be shared, and its format must fit.
    pub(crate) fn apply(&self, surface: &mut HostSurface) {
        let (format, width, height) = (surface.format(), surface.width(), surface.height());
        let (shift_x, shift_y) = format.chroma_shift();
        let (chroma_width, chroma_rows) = ((width as usize).div_ceil(1 << shift_x), (height as usize).div_ceil(1 << shift_y));
        let Some(mut planes) = surface.planes_mut() else { return };
        let (mut cb, mut cr, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for chroma_row in 0..chroma_rows {
            cb.clear();
            cr.clear();
            added.clear();
            cb.extend_from_slice(&planes.row(1, chroma_row)[..chroma_width]);
            cr.extend_from_slice(&planes.row(2, chroma_row)[..chroma_width]);
            added.extend(cb.iter().zip(&cr).map(|(cb, cr)| sum(self.luma, *cb, *cr) as i16));
            for (plane, coefficients) in [(1, self.cb), (2, self.cr)] {
                let row = &mut planes.row(plane, chroma_row)[..chroma_width];
                for (sample, (cb, cr)) in row.iter_mut().zip(cb.iter().zip(&cr)) {
                    *sample = (CENTRE + sum(coefficients, *cb, *cr)).clamp(0, 255) as u8;
                }
            }
            let rows = (chroma_row << shift_y)..((chroma_row + 1) << shift_y).min(height as usize);
            for row in rows {
                let row = &mut planes.row(0, row)[..width as usize];
                for (samples, added) in row.chunks_mut(1 << shift_x).zip(&added) {
                    for sample in samples {
                        *sample = (i16::from(*sample) + added).clamp(0, 255) as u8;
                    }
                }
            }
        }
    }
}

fn sum([by_cb, by_cr]: [i32; 2], cb: u8, cr: u8) -> i32 {
    (by_cb * (i32::from(cb) - CENTRE) + by_cr * (i32::from(cr) - CENTRE) + HALF) >> FRACTION_BITS
}

#[cfg(test)]
mod tests {
    use framerail_core::FramePool;

    use super::*;

    const MATRICES: [ColorMatrix; 3] = [ColorMatrix::Bt601, ColorMatrix::Bt709, ColorMatrix::Bt2020];

    /// One sample by the definitions, through R'G'B'.
    fn exact(sample: [f64; 3], source: ColorMatrix, target: ColorMatrix, is_full_range: bool) -> [f64; 3] {
        let (offset, luma, chroma) = if is_full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        let (kr, kb) = source.luma_weights();
        let [y, cb, cr] = [(sample[0] - offset) / luma, (sample[1] - 128.0) / chroma, (sample[2] - 128.0) / chroma];
        let (red, blue) = (y + 2.0 * (1.0 - kr) * cr, y + 2.0 * (1.0 - kb) * cb);
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        let (kr, kb) = target.luma_weights();
        let y = kr * red + (1.0 - kr - kb) * green + kb * blue;
        let (cb, cr) = ((blue - y) / (2.0 * (1.0 - kb)), (red - y) / (2.0 * (1.0 - kr)));
        [offset + luma * y, 128.0 + chroma * cb, 128.0 + chroma * cr].map(|code| code.clamp(0.0, 255.0))
    }

    #[test]
    fn samples_are_those_of_the_definitions() {
        let pool = FramePool::new(1);
        for (format, is_full_range) in [(PixelFormat::Yuv420p, false), (PixelFormat::Yuv422p, true), (PixelFormat::Yuv444p, false)] {
            for (source, target) in MATRICES.iter().flat_map(|source| MATRICES.map(|target| (*source, target))) {
                let change = MatrixChange::new(source, target, is_full_range);
                for sample in [[16, 128, 128], [235, 128, 128], [63, 102, 240], [180, 30, 90], [90, 200, 20], [128, 140, 120]] {
                    // Odd sides: the last chroma sample covers one column and one row.
                    let mut surface = pool.surface(format, 7, 5).expect("a size in range");
                    let mut planes = surface.planes_mut().expect("fresh");
                    (0..3).for_each(|plane| planes.plane(plane).fill(sample[plane]));
                    change.apply(&mut surface);
                    let expected = exact(sample.map(f64::from), source, target, is_full_range);
                    for (plane, expected) in expected.into_iter().enumerate() {
                        let (row, rows) = format.plane_size(plane, 7, 5);
                        for got in (0..rows).flat_map(|at| &surface.row(plane, at)[..row]) {
                            assert!(
                                (f64::from(*got) - expected).abs() <= 0.75,
                                "{source:?} to {target:?}: {sample:?}, plane {plane}: {got}"
                            );
                        }
                    }
                }
            }
        }
    }
}

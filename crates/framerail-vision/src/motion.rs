//! Cheap motion detection: compares blocks with a background that adapts slowly.

use framerail_core::HostSurface;

use crate::histogram_plan;

/// Side of a block in pixels.
const BLOCK: usize = 8;
/// Step between the rows of a block that are read.
const ROW_STEP: usize = 2;
/// The background moves by this fraction (as a shift) of the difference per frame: it forgets an object after about 60 frames.
const FOLLOW_SHIFT: u32 = 4;
/// Fractional bits of the background.
const FRACTION: u32 = 7;

/// Compares the frames of one stream with a background made from previous frames.
#[derive(Clone, Debug, Default)]
pub struct MotionDetector {
    size: (u32, u32),
    /// Mean brightness of each block, 0 to 255, in fractions of `1 << FRACTION`.
    background: Vec<i16>,
}

impl MotionDetector {
    /// Share of the frame, 0 to 1, whose brightness differs from the background by more than `change` (of 255), relative to the median
    /// change of all blocks: a change of exposure is not motion. `None` for the first frame, and when the size changes.
    pub fn share(&mut self, surface: &HostSurface, change: f32) -> Option<f32> {
        let now = blocks(surface);
        let size = (surface.width(), surface.height());
        if self.size != size || self.background.len() != now.len() {
            (self.size, self.background) = (size, now);
            return None;
        }
        let limit = (change * f32::from(1_i16 << FRACTION)) as i32;
        let mut differences: Vec<i32> =
            now.iter().zip(&self.background).map(|(now, before)| i32::from(*now) - i32::from(*before)).collect();
        let middle = differences.len() / 2;
        let whole = if differences.is_empty() { 0 } else { *differences.select_nth_unstable(middle).1 };
        let moved = differences.iter().filter(|difference| (**difference - whole).abs() > limit).count();
        for (before, now) in self.background.iter_mut().zip(&now) {
            let step = (i32::from(*now) - i32::from(*before)) >> FOLLOW_SHIFT;
            *before = (i32::from(*before) + step) as i16;
        }
        Some(moved as f32 / now.len().max(1) as f32)
    }
}

/// Mean luma, or green for RGB, of each block.
fn blocks(surface: &HostSurface) -> Vec<i16> {
    let format = surface.format();
    let place = format.components()[histogram_plan(format).component];
    // Of deeper samples, the eight most significant bits.
    let shift = place.shift + format.bits() - 8;
    let (width, height) = (surface.width() as usize, surface.height() as usize);
    let columns = width.div_ceil(BLOCK);
    let mut means = Vec::with_capacity(columns * height.div_ceil(BLOCK));
    let mut totals = vec![0u32; columns];
    for top in (0..height).step_by(BLOCK) {
        totals.fill(0);
        let mut rows = 0;
        for y in (top..(top + BLOCK).min(height)).step_by(ROW_STEP) {
            rows += 1;
            let row = surface.row(place.plane, y);
            if (format.sample_bytes(), place.step_bytes) == (1, 1) {
                for (total, block) in totals.iter_mut().zip(row.get(..width).unwrap_or(row).chunks(BLOCK)) {
                    *total += block.iter().map(|value| u32::from(*value)).sum::<u32>();
                }
                continue;
            }
            for (x, sample) in row.chunks_exact(place.step_bytes).take(width).enumerate() {
                let low = u32::from(sample[place.offset_bytes]);
                let wide = format.sample_bytes() > 1;
                let code = if wide { (low | u32::from(sample[place.offset_bytes + 1]) << 8) >> shift } else { low };
                totals[x / BLOCK] += code;
            }
        }
        for (column, total) in totals.iter().enumerate() {
            let pixels = rows * (width - column * BLOCK).min(BLOCK) as u32;
            means.push(((total << FRACTION) / pixels.max(1)).min(255 << FRACTION) as i16);
        }
    }
    means
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorDescription, PixelFormat};

    use super::*;
    use crate::{
        Canvas,
        test_images::{flat, noisy},
    };

    #[test]
    fn what_moves_is_measured_in_every_format() {
        let color = ColorDescription::default();
        for &format in PixelFormat::ALL {
            let mut detector = MotionDetector::default();
            let still = flat(format, 160, 80, [90.0; 3]);
            assert_eq!(detector.share(&still, 6.0), None, "{format}");
            assert_eq!(detector.share(&still, 6.0), Some(0.0), "{format}");
            // Brighter overall, as when a camera adapts.
            assert_eq!(detector.share(&flat(format, 160, 80, [110.0; 3]), 6.0), Some(0.0), "{format}");
            let mut moved = flat(format, 160, 80, [90.0; 3]);
            let bbox = framerail_core::BBox::from_xyxy(0.0, 0.0, 40.0, 40.0);
            Canvas::new(&mut moved, &color).fill(&bbox, [250; 3], 255).expect("writable");
            let share = detector.share(&moved, 6.0).expect("a background");
            assert!((share - 0.125).abs() < 0.01, "{format}: {share}");
            assert_eq!(detector.share(&flat(format, 80, 80, [90.0; 3]), 6.0), None, "{format}: another size");
        }
    }

    #[test]
    fn what_stays_becomes_background() {
        let mut detector = MotionDetector::default();
        detector.share(&flat(PixelFormat::Gray8, 64, 64, [0.0; 3]), 6.0);
        let other = noisy(PixelFormat::Gray8, 64, 64);
        let shares: Vec<f32> = (0..100).filter_map(|_| detector.share(&other, 6.0)).collect();
        assert!(shares[0] > 0.1 && shares[99] == 0.0, "{shares:?}");
    }
}

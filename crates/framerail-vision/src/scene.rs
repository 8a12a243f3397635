//! Cheap detection of cuts.

use framerail_core::{HISTOGRAM_BINS, Histogram, HistogramPlan, HostSurface, PixelFamily, PixelFormat};

/// Step between the columns, and between the rows, that are read.
const SPACING: u32 = 4;

/// Detects when a frame's brightness histogram differs strongly from the previous one: a cut, or a flash.
#[derive(Clone, Debug)]
pub struct SceneDetector {
    threshold: f32,
    last: Option<[f32; HISTOGRAM_BINS]>,
}

impl Default for SceneDetector {
    /// A threshold of 0.4.
    fn default() -> Self {
        Self::new(0.4)
    }
}

impl SceneDetector {
    /// Creates a detector with a threshold from 0 (any change) to 1 (nothing in common).
    pub fn new(threshold: f32) -> Self {
        Self { threshold, last: None }
    }

    /// Changes the threshold from the next frame on. If the old threshold was 1 or more, the previous frame is forgotten: the caller
    /// may not have passed all frames.
    pub fn set_threshold(&mut self, threshold: f32) {
        if self.threshold >= 1.0 {
            self.last = None;
        }
        self.threshold = threshold;
    }

    /// Whether this frame starts a new scene; false for the first frame.
    pub fn changed(&mut self, surface: &HostSurface) -> bool {
        self.histogram_changed(&histogram(surface))
    }

    /// Like [`SceneDetector::changed`], for a histogram that was computed elsewhere according to [`histogram_plan`].
    pub fn histogram_changed(&mut self, histogram: &Histogram) -> bool {
        let shares = shares(histogram);
        let last = self.last.replace(shares);
        last.is_some_and(|last| distance(&last, &shares) > self.threshold)
    }
}

/// Fraction of the pixels that would have to change their bin: 0 to 1.
fn distance(a: &[f32; HISTOGRAM_BINS], b: &[f32; HISTOGRAM_BINS]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 2.0
}

/// Fraction of all samples in each bin; the sum is 1.
fn shares(histogram: &Histogram) -> [f32; HISTOGRAM_BINS] {
    let total = histogram.iter().sum::<u32>().max(1) as f32;
    histogram.map(|count| count as f32 / total)
}

/// Returns which samples are counted to find cuts: luma, or green for RGB.
pub fn histogram_plan(format: PixelFormat) -> HistogramPlan {
    let component = usize::from(format.family() == PixelFamily::Rgb);
    let stored_shift = format.components().get(component).map_or(0, |place| place.shift);
    HistogramPlan { component, spacing: SPACING, shift: stored_shift + format.bits() - HISTOGRAM_BINS.ilog2() }
}

/// Computes a frame's histogram according to [`histogram_plan`].
pub fn histogram(surface: &HostSurface) -> Histogram {
    let format = surface.format();
    let HistogramPlan { component, spacing, shift } = histogram_plan(format);
    let place = format.components()[component];
    let mut counts = [0; HISTOGRAM_BINS];
    for y in (0..surface.height() as usize).step_by(spacing as usize) {
        for sample in surface.row(place.plane, y).chunks_exact(place.step_bytes).step_by(spacing as usize) {
            let low = u32::from(sample[place.offset_bytes]);
            let stored = if format.sample_bytes() == 1 { low } else { low | u32::from(sample[place.offset_bytes + 1]) << 8 };
            counts[((stored >> shift) as usize).min(HISTOGRAM_BINS - 1)] += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use framerail_core::{FramePool, PixelFormat};

    use super::*;

    fn ramp(format: PixelFormat, low: u32, high: u32) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, 651, 33).expect("size in range");
        let scale = format.max_value() / 255;
        let mut planes = surface.planes_mut().expect("own");
        for component in format.components() {
            let rows = planes.layout(component.plane).rows;
            for y in 0..rows {
                let row = planes.row(component.plane, y);
                for (x, sample) in row.chunks_exact_mut(component.step_bytes).enumerate() {
                    let code = ((low + (high - low) * x as u32 / 651) * scale) << component.shift;
                    sample[component.offset_bytes..][..format.sample_bytes()].copy_from_slice(&code.to_le_bytes()[..format.sample_bytes()]);
                }
            }
        }
        surface
    }

    #[test]
    fn cuts_are_seen_and_small_changes_are_not() {
        for format in [PixelFormat::Yuv420p, PixelFormat::P010, PixelFormat::Rgb24, PixelFormat::Gray16, PixelFormat::Gbrp10] {
            let mut detector = SceneDetector::default();
            assert!(!detector.changed(&ramp(format, 20, 200)), "{format}: the first frame");
            assert!(!detector.changed(&ramp(format, 24, 204)), "{format}: a little brighter");
            assert!(detector.changed(&ramp(format, 5, 60)), "{format}: dark");
            assert!(!detector.changed(&ramp(format, 5, 60)), "{format}: the same again");
            assert!(detector.histogram_changed(&histogram(&ramp(format, 60, 220))), "{format}: bright, counted elsewhere");
            detector.set_threshold(1.0);
            assert!(!detector.changed(&ramp(format, 5, 60)), "{format}: never");
            detector.set_threshold(0.4);
            assert!(!detector.changed(&ramp(format, 60, 220)), "{format}: nothing before it is known");
            assert!(detector.changed(&ramp(format, 5, 60)), "{format}: again");
        }
    }

    #[test]
    fn every_fourth_sample_of_every_fourth_row_is_counted() {
        for &format in PixelFormat::ALL {
            let counts = histogram(&ramp(format, 0, 255));
            assert_eq!(counts.iter().sum::<u32>(), 163 * 9, "{format}");
            assert!(counts.iter().all(|count| count.abs_diff(163 * 9 / 32) <= 9), "{format}: {counts:?}");
        }
    }
}

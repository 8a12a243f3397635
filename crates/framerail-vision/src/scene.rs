//! Finding cuts cheaply.

use framerail_core::HostSurface;

const BINS: usize = 32;
/// Every so many columns and rows are looked at.
const SKIP: usize = 4;

/// Tells when a picture's brightness is spread quite differently from the one before: a cut, or a flash.
#[derive(Clone, Debug)]
pub struct SceneDetector {
    threshold: f32,
    last: Option<[f32; BINS]>,
}

impl Default for SceneDetector {
    /// A threshold of 0.4.
    fn default() -> Self {
        Self::new(0.4)
    }
}

impl SceneDetector {
    /// A detector with a threshold from 0 (any change) to 1 (nothing in common).
    pub fn new(threshold: f32) -> Self {
        Self { threshold, last: None }
    }

    /// Whether this frame begins a new scene; the first one does not.
    pub fn changed(&mut self, surface: &HostSurface) -> bool {
        let histogram = histogram(surface);
        let last = self.last.replace(histogram);
        last.is_some_and(|last| distance(&last, &histogram) > self.threshold)
    }
}

/// Part of the pixels that would have to change their bin: 0 to 1.
fn distance(a: &[f32; BINS], b: &[f32; BINS]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / 2.0
}

/// Shares of luma (green for RGB) in bins; adds up to 1.
fn histogram(surface: &HostSurface) -> [f32; BINS] {
    let format = surface.format();
    let component = if format.color_components().len() == 3 && format.chroma_shift() == (0, 0) && !format.is_chroma(1) { 1 } else { 0 };
    let place = format.components()[component];
    let down_shift = format.bits() - BINS.ilog2();
    let mut counts = [0u32; BINS];
    for y in (0..surface.height() as usize).step_by(SKIP) {
        for sample in surface.row(place.plane, y).chunks_exact(place.step_bytes).step_by(SKIP) {
            let low = u32::from(sample[place.offset_bytes]);
            let code = if format.sample_bytes() == 1 { low } else { (low | u32::from(sample[place.offset_bytes + 1]) << 8) >> place.shift };
            counts[((code >> down_shift) as usize).min(BINS - 1)] += 1;
        }
    }
    let total = counts.iter().sum::<u32>().max(1) as f32;
    counts.map(|count| count as f32 / total)
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
        }
    }
}

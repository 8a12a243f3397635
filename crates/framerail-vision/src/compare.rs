//! Measures how much two surfaces differ.

use framerail_core::{HostSurface, PixelFormat, Region};

use crate::{VisionError, patch::Patch};

/// Differences of one component or of the whole frame, in code values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Peak signal-to-noise ratio in decibels, relative to the format's maximum value; infinite for identical surfaces.
    pub psnr_db: f64,
    /// Maximum absolute difference.
    pub max_abs: u32,
    /// Mean absolute difference.
    pub mean_abs: f64,
}

/// Differences between two surfaces.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Over all samples.
    pub overall: Difference,
    /// Per component, alpha included, in the format's order.
    pub components: Vec<Difference>,
}

#[derive(Clone, Copy, Default)]
struct Sums {
    count: f64,
    absolute: f64,
    squared: f64,
    most: f32,
}

impl Sums {
    fn add(&mut self, a: f32, b: f32) {
        let difference = (a - b).abs();
        self.count += 1.0;
        self.absolute += f64::from(difference);
        self.squared += f64::from(difference) * f64::from(difference);
        self.most = self.most.max(difference);
    }

    fn join(self, other: Sums) -> Sums {
        Sums {
            count: self.count + other.count,
            absolute: self.absolute + other.absolute,
            squared: self.squared + other.squared,
            most: self.most.max(other.most),
        }
    }

    fn difference(self, format: PixelFormat) -> Difference {
        let peak = f64::from(format.max_value());
        let psnr_db = if self.squared > 0.0 { 10.0 * (peak * peak * self.count / self.squared).log10() } else { f64::INFINITY };
        Difference { psnr_db, max_abs: self.most as u32, mean_abs: self.absolute / self.count.max(1.0) }
    }
}

/// Compares two surfaces of the same format and size, sample by sample.
///
/// # Errors
/// `SurfacesDiffer` when format or size differ.
pub fn compare(left: &HostSurface, right: &HostSurface) -> Result<Comparison, VisionError> {
    let kind = |surface: &HostSurface| (surface.format(), surface.width(), surface.height());
    if kind(left) != kind(right) {
        return Err(VisionError::SurfacesDiffer { left: format!("{left:?}"), right: format!("{right:?}") });
    }
    let format = left.format();
    let sums: Vec<Sums> = (0..format.components().len())
        .map(|component| {
            let (columns, rows) = format.component_size(component, left.width(), left.height());
            let mut sums = Sums::default();
            for y in 0..rows {
                let row = Region { x: 0, y, width: columns, height: 1 };
                let (a, b) = (Patch::read(left, component, row), Patch::read(right, component, row));
                a.values.iter().zip(&b.values).for_each(|(&a, &b)| sums.add(a, b));
            }
            sums
        })
        .collect();
    let overall = sums.iter().copied().fold(Sums::default(), Sums::join).difference(format);
    Ok(Comparison { overall, components: sums.into_iter().map(|sums| sums.difference(format)).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_images::image;

    #[test]
    fn known_differences_are_measured() {
        for format in [PixelFormat::Yuv420p, PixelFormat::P010, PixelFormat::Rgba] {
            let base = image(format, 8, 6, |_, _, _| 100);
            let other = image(format, 8, 6, |component, x, _| if component == 0 && x < 4 { 104 } else { 100 });
            let comparison = compare(&base, &other).expect("same kind");
            let first = comparison.components[0];
            assert_eq!((first.max_abs, first.mean_abs), (4, 2.0), "{format}");
            let expected = 10.0 * (f64::from(format.max_value()).powi(2) / 8.0).log10();
            assert!((first.psnr_db - expected).abs() < 1e-9);
            assert_eq!(comparison.components[1].psnr_db, f64::INFINITY);
            assert_eq!(comparison.overall.max_abs, 4);
            assert_eq!(compare(&base, &base).expect("same kind").overall.mean_abs, 0.0);
        }
    }

    #[test]
    fn different_kinds_are_refused() {
        let (a, b) = (image(PixelFormat::Gray8, 8, 6, |_, _, _| 0), image(PixelFormat::Gray8, 8, 7, |_, _, _| 0));
        assert!(matches!(compare(&a, &b), Err(VisionError::SurfacesDiffer { .. })));
    }
}

//! Images that are drawn over faces to hide them.

use std::sync::Arc;

use framerail_core::{ColorDescription, HostSurface, Region};

use crate::{
    Mask, MaskSource, VisionError,
    color::samples_from_rgb,
    patch::{ChromaCoverage, Target, blend, component_coverage},
};

/// An image that is drawn over faces.
#[derive(Clone, PartialEq)]
pub struct Overlay {
    width: u32,
    height: u32,
    rgba: Arc<[u8]>,
}

impl Overlay {
    /// Creates an overlay from full-range, non-premultiplied RGBA pixels, row by row.
    ///
    /// # Errors
    /// `OptionOutOfRange` when the sides are 0 or do not match the length.
    pub fn new(width: u32, height: u32, rgba: impl Into<Arc<[u8]>>) -> Result<Self, VisionError> {
        let rgba = rgba.into();
        if width == 0 || height == 0 || rgba.len() as u64 != u64::from(width) * u64::from(height) * 4 {
            let given = format!("{width}x{height} with {} bytes", rgba.len());
            return Err(VisionError::option("overlay", given, "4 bytes for each pixel and sides above 0"));
        }
        Ok(Self { width, height, rgba })
    }

    /// Mean colour and alpha of a part of the image; `x` and `y` are ranges within 0 to 1.
    fn mean(&self, x: (f64, f64), y: (f64, f64)) -> [f32; 4] {
        let span = |(from, to): (f64, f64), side: u32| {
            let first = ((from * f64::from(side)) as usize).min(side as usize - 1);
            first..((to * f64::from(side)).round() as usize).clamp(first + 1, side as usize)
        };
        let (columns, rows) = (span(x, self.width), span(y, self.height));
        let (mut color, mut alpha, mut count) = ([0.0f32; 3], 0.0f32, 0.0f32);
        for row in rows {
            let start = row * self.width as usize;
            for pixel in self.rgba[(start + columns.start) * 4..(start + columns.end) * 4].as_chunks::<4>().0 {
                let weight = f32::from(pixel[3]);
                color.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += weight * f32::from(value));
                (alpha, count) = (alpha + weight, count + 1.0);
            }
        }
        let [r, g, b] = color.map(|sum| if alpha > 0.0 { sum / alpha } else { 0.0 });
        [r, g, b, alpha / count.max(1.0)]
    }

    /// Draws the image over a mask's box, by its alpha. Masks from a contour or a fixed area clip it.
    pub(crate) fn lay_over(&self, surface: &mut HostSurface, color: &ColorDescription, mask: &Mask) -> Result<(), VisionError> {
        let (format, bounds) = (surface.format(), &mask.bounds);
        let is_cut = matches!(mask.source, MaskSource::Contour | MaskSource::Area);
        let around = if is_cut { Some(mask.region) } else { Region::around(bounds, surface.width(), surface.height()) };
        let Some(whole) = around else { return Ok(()) };
        for component in 0..format.color_components().len() {
            let region = whole.of_component(format, component);
            let shift = if format.is_chroma(component) { format.chroma_shift() } else { (0, 0) };
            // The part of the image's width or height that a sample spans, 0 to 1.
            let span = |sample: u32, shift: u32, origin: f32, extent: f32| {
                let part = |at: u32| ((f64::from(at << shift) - f64::from(origin)) / f64::from(extent).max(1e-6)).clamp(0.0, 1.0);
                (part(sample), part(sample + 1))
            };
            let (mut values, mut coverage) = (Vec::with_capacity(region.pixels()), Vec::with_capacity(region.pixels()));
            for y in region.y..region.y + region.height {
                let rows = span(y, shift.1, bounds.y1, bounds.height());
                for x in region.x..region.x + region.width {
                    let [r, g, b, alpha] = self.mean(span(x, shift.0, bounds.x1, bounds.width()), rows);
                    values.push(f32::from(samples_from_rgb(format, color, [r, g, b])[component]));
                    coverage.push(alpha.round() as u8);
                }
            }
            if is_cut {
                let (_, cut) = component_coverage(format, component, mask.region, &mask.coverage, ChromaCoverage::Most);
                let both = |alpha: &mut u8, cut: &u8| *alpha = ((u32::from(*alpha) * u32::from(*cut) + 127) / 255) as u8;
                coverage.iter_mut().zip(cut.iter()).for_each(|(alpha, cut)| both(alpha, cut));
            }
            blend(surface, component, region, &coverage, Target::Each(&values))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Overlay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Overlay({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::PixelFormat;

    use super::*;
    use crate::{
        MaskOptions, MaskShape,
        test_images::{face, flat, rgb_at},
    };

    #[test]
    fn an_image_is_stretched_over_the_box() {
        let overlay = Overlay::new(2, 1, vec![255, 0, 0, 255, 0, 0, 255, 255]).expect("2x1");
        let (mut surface, color) = (flat(PixelFormat::Yuv444p, 60, 40, [128.0; 3]), ColorDescription::default());
        let rectangle = MaskOptions { shape: MaskShape::Rectangle, mask_scale: 1.0, feather: 0.0, ..Default::default() };
        let mask = Mask::new(&rectangle, &face(10.0, 10.0, 50.0, 30.0), 60, 40).expect("inside");
        overlay.lay_over(&mut surface, &color, &mask).expect("writable");
        let (left, right) = (rgb_at(&surface, &color, 15, 20), rgb_at(&surface, &color, 45, 20));
        assert!(left[0] > 250.0 && left[2] < 5.0 && right[2] > 250.0 && right[0] < 5.0, "{left:?} {right:?}");
    }

    #[test]
    fn pixels_must_fit_the_sides() {
        assert!(Overlay::new(2, 2, vec![0; 15]).is_err() && Overlay::new(0, 2, vec![]).is_err());
    }
}

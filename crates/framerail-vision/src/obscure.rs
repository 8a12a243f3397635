//! Makes faces unrecognisable, in place, in the frame's own pixel format.

use std::sync::Arc;

use framerail_core::{
    BBox, BlurPlan, ColorDescription, Detection, FillPlan, HidePlan, HostSurface, MaskCover, MaskPlan, MosaicPlan, Outline, PixelFormat,
    Region,
};

use crate::{
    Mask, MaskOptions, MaskSource, Overlay, VisionError,
    blur::{blur, gaussian, gaussian_margin, mean},
    color::samples_from_rgb,
    mask::mask_plan,
    mosaic::CellGrid,
    patch::{ChromaCoverage, Patch, Target, blend, component_coverage, paint},
};

/// Shown through the transparent parts of an overlay instead of the face.
const UNDER_OVERLAY: Obscure = Obscure::Gaussian { strength: 0.15 };

/// Maximum distance in pixels from the frame at which a mosaic's grid begins.
const FARTHEST_GRID: f32 = 1e6;

/// Side of a mosaic's cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MosaicCell {
    /// In pixels, from 2 to 4096; the grid is fixed to the frame.
    Pixels(u32),
    /// As a fraction of the face's longer side, above 0 up to 1 (never below 2 pixels); the grid starts at the face's mask.
    Relative(f32),
}

/// How a face is hidden.
///
/// Strengths are fractions of the face box's longer side (before mask scaling), so that near and far faces are hidden equally.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Obscure {
    /// A Gaussian blur; `strength` is its standard deviation. Range above 0 to 2.
    ///
    /// A Gaussian of deviation `s` keeps `exp(-2π²s²f²)` of the contrast of a pattern that repeats `f` times across the face. At 0.15,
    /// patterns that repeat four times or more keep under 0.1% of their contrast. This is less than one 8-bit step, and is lost for
    /// good once the frame is rounded and encoded. Below 0.08, features begin to survive.
    Gaussian {
        /// Standard deviation as a fraction of the face's longer side.
        strength: f32,
    },
    /// The mean over a square; `strength` is its side. Range above 0 to 4. deface's blur uses 0.5 of the mask's sides.
    Box {
        /// Side of the square as a fraction of the face's longer side.
        strength: f32,
    },
    /// Squares of their mean colour.
    Mosaic {
        /// Side of the squares.
        cell: MosaicCell,
    },
    /// One colour.
    Solid {
        /// Full-range red, green, blue.
        rgb: [u8; 3],
    },
    /// An image, stretched over the scaled box, or over a contour's box and clipped to the contour. The face under its transparent
    /// parts is blurred first.
    Image(Overlay),
}

impl Default for Obscure {
    fn default() -> Self {
        Obscure::Gaussian { strength: 0.15 }
    }
}

impl Obscure {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `OptionOutOfRange` with the allowed range.
    pub fn validated(self) -> Result<Self, VisionError> {
        let positive = |value: f32, most: f32| value > 0.0 && value <= most;
        match &self {
            Obscure::Gaussian { strength } if !positive(*strength, 2.0) => {
                Err(VisionError::option("gaussian strength", strength, "a number above 0, up to 2"))
            }
            Obscure::Box { strength } if !positive(*strength, 4.0) => {
                Err(VisionError::option("box strength", strength, "a number above 0, up to 4"))
            }
            Obscure::Mosaic { cell: MosaicCell::Pixels(side) } if !(2..=4096).contains(side) => {
                Err(VisionError::option("mosaic cell", side, "2 to 4096 pixels"))
            }
            Obscure::Mosaic { cell: MosaicCell::Relative(part) } if !positive(*part, 1.0) => {
                Err(VisionError::option("mosaic cell", part, "a number above 0, up to 1, or whole pixels"))
            }
            _ => Ok(self),
        }
    }
}

/// Counts of a frame's detections by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObscureCounts {
    /// Hidden faces.
    pub hidden: u64,
    /// Boxes that lie entirely outside the frame.
    pub outside: u64,
    /// Boxes that are not finite, for which no region can be computed.
    pub invalid: u64,
    /// Hidden faces whose requested contour is missing; an ellipse hides them.
    pub contours_missing: u64,
    /// Hidden faces whose requested contour is too small; an ellipse hides them.
    pub contours_too_small: u64,
}

impl ObscureCounts {
    /// Counts a detection by the source of its mask; `None` if it has no mask.
    fn count(&mut self, detection: &Detection, source: Option<MaskSource>) {
        match source {
            Some(source) => {
                self.hidden += 1;
                self.contours_missing += u64::from(source == MaskSource::ContourMissing);
                self.contours_too_small += u64::from(source == MaskSource::ContourTooSmall);
            }
            None if detection.bbox.is_finite() => self.outside += 1,
            None => self.invalid += 1,
        }
    }
}

/// Hides faces in frames.
#[derive(Clone, Debug)]
pub struct Obscurer {
    obscure: Obscure,
    mask: MaskOptions,
}

impl Obscurer {
    /// Creates an obscurer that hides faces in one way, within one kind of mask.
    ///
    /// # Errors
    /// `OptionOutOfRange` for a value out of range.
    pub fn new(obscure: Obscure, mask: MaskOptions) -> Result<Self, VisionError> {
        Ok(Self { obscure: obscure.validated()?, mask: mask.validated()? })
    }

    /// Hides every detection in a writable surface, one after another. Where masks overlap, both are applied.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only; nothing is hidden in that case.
    pub fn run(&self, surface: &mut HostSurface, color: &ColorDescription, detections: &[Detection]) -> Result<ObscureCounts, VisionError> {
        let mut counts = ObscureCounts::default();
        for detection in detections {
            let mask = Mask::new(&self.mask, detection, surface.width(), surface.height());
            if let Some(mask) = &mask {
                obscure_region(surface, color, mask, &detection.bbox, &self.obscure)?;
            }
            counts.count(detection, mask.map(|mask| mask.source));
        }
        Ok(counts)
    }
}

impl Obscurer {
    /// Hides fixed areas in a writable surface. Strengths relate to the longer side of each area.
    ///
    /// # Errors
    /// As [`Obscurer::run`].
    pub fn hide_areas(&self, surface: &mut HostSurface, color: &ColorDescription, areas: &[Mask]) -> Result<(), VisionError> {
        areas.iter().try_for_each(|area| obscure_region(surface, color, area, &area.bounds, &self.obscure))
    }

    /// Plans how fixed areas are hidden in a frame of this size, format and colour.
    ///
    /// # Errors
    /// As [`Obscurer::plan`].
    pub fn plan_areas(
        &self,
        size: (u32, u32),
        format: PixelFormat,
        color: &ColorDescription,
        areas: &[Mask],
    ) -> Result<Vec<HidePlan>, VisionError> {
        let plan = |area: &Mask| {
            let mask = MaskPlan { region: area.region, bounds: area.bounds, cover: area_cover(area) };
            let fills = self.fills(size, format, color, &mask, &area.bounds)?;
            Ok(HidePlan { mask, fills })
        };
        areas.iter().map(plan).collect()
    }
}

/// Describes a fully covered area as a rectangle, so that no coverage per pixel is uploaded.
fn area_cover(area: &Mask) -> MaskCover {
    if area.coverage.iter().any(|value| *value < 255) {
        return MaskCover::Raster(Arc::clone(&area.coverage));
    }
    let half = |side: u32| f64::from(side) / 2.0;
    let (half_width, half_height) = (half(area.region.width), half(area.region.height));
    let center = (f64::from(area.region.x) + half_width, f64::from(area.region.y) + half_height);
    let outline = Outline::Rectangle { half_width: half_width - 0.5, half_height: half_height - 0.5 };
    MaskCover::Outline { center, outline, feather: 0.0 }
}

/// Hides the pixels that a mask covers. `bbox` is the face's box, to which strengths relate. Alpha is unchanged.
///
/// # Errors
/// `NotWritable` when the surface is shared or read-only.
pub fn obscure_region(
    surface: &mut HostSurface,
    color: &ColorDescription,
    mask: &Mask,
    bbox: &BBox,
    obscure: &Obscure,
) -> Result<(), VisionError> {
    let side = face_side(bbox);
    match obscure {
        Obscure::Solid { rgb } => {
            let codes = samples_from_rgb(surface.format(), color, rgb.map(f32::from));
            paint(surface, mask.region, &mask.coverage, codes, ChromaCoverage::Most)
        }
        Obscure::Image(overlay) => {
            obscure_region(surface, color, mask, bbox, &UNDER_OVERLAY)?;
            overlay.lay_over(surface, color, mask)
        }
        Obscure::Gaussian { .. } | Obscure::Box { .. } => filter(surface, mask, |surface, plane| {
            let plan = plane.blur(obscure, side);
            blur(&Patch::read(surface, plane.component, plan.patch), plan.across, plan.down, plane.region)
        }),
        Obscure::Mosaic { cell } => {
            let grid = cell_grid(*cell, side, &mask.bounds);
            filter(surface, mask, |surface, plane| {
                let cells = grid.cells(plane.region, plane.shift, plane.size);
                cells.means(&Patch::read(surface, plane.component, cells.source), plane.region)
            })
        }
    }
}

/// The length in pixels to which strengths relate.
fn face_side(bbox: &BBox) -> f32 {
    bbox.width().max(bbox.height()).clamp(1.0, 2.0 * framerail_core::surface::MAX_SIDE as f32)
}

fn cell_grid(cell: MosaicCell, side: f32, bounds: &BBox) -> CellGrid {
    match cell {
        MosaicCell::Pixels(cell) => CellGrid { x: 0, y: 0, cell: cell.max(2) },
        MosaicCell::Relative(part) => {
            let cell = ((part * side).round() as u32).max(2);
            let origin = |edge: f32| edge.clamp(-FARTHEST_GRID, FARTHEST_GRID).round() as i32;
            CellGrid { x: origin(bounds.x1), y: origin(bounds.y1), cell }
        }
    }
}

impl Obscurer {
    /// Plans how the detections of a frame of this size, format and colour are hidden, one after another, and counts the outcomes.
    ///
    /// # Errors
    /// `OptionOutOfRange` for an image overlay, which cannot be planned.
    pub fn plan(
        &self,
        (width, height): (u32, u32),
        format: PixelFormat,
        color: &ColorDescription,
        detections: &[Detection],
    ) -> Result<(Vec<HidePlan>, ObscureCounts), VisionError> {
        let (mut plans, mut counts) = (Vec::with_capacity(detections.len()), ObscureCounts::default());
        for detection in detections {
            let planned = mask_plan(&self.mask, detection, width, height);
            counts.count(detection, planned.as_ref().map(|(_, source)| *source));
            if let Some((mask, _)) = planned {
                let fills = self.fills((width, height), format, color, &mask, &detection.bbox)?;
                plans.push(HidePlan { mask, fills });
            }
        }
        Ok((plans, counts))
    }

    fn fills(
        &self,
        (width, height): (u32, u32),
        format: PixelFormat,
        color: &ColorDescription,
        mask: &MaskPlan,
        bbox: &BBox,
    ) -> Result<Vec<FillPlan>, VisionError> {
        let side = face_side(bbox);
        let fill = |component: usize| {
            let size = format.component_size(component, width, height);
            let plane = MaskedPlane::new(format, component, mask.region.of_component(format, component), size);
            match &self.obscure {
                Obscure::Solid { rgb } => {
                    let codes = samples_from_rgb(format, color, rgb.map(f32::from));
                    Ok(FillPlan::Solid(codes.get(component).copied().unwrap_or_default()))
                }
                Obscure::Gaussian { .. } | Obscure::Box { .. } => Ok(FillPlan::Blur(plane.blur(&self.obscure, side))),
                Obscure::Mosaic { cell } => {
                    let grid = cell_grid(*cell, side, &mask.bounds);
                    let source = grid.cells(plane.region, plane.shift, plane.size).source;
                    Ok(FillPlan::Mosaic(MosaicPlan { source, origin_x: grid.x, origin_y: grid.y, cell: grid.cell }))
                }
                Obscure::Image(overlay) => Err(VisionError::option("blur", format!("{overlay:?}"), "not an image")),
            }
        };
        (0..format.color_components().len()).map(fill).collect()
    }
}

/// One component's part of a mask.
struct MaskedPlane {
    component: usize,
    /// In the component's grid.
    region: Region,
    shift: (u32, u32),
    /// Columns and rows of the component.
    size: (u32, u32),
}

impl MaskedPlane {
    fn new(format: PixelFormat, component: usize, region: Region, size: (u32, u32)) -> Self {
        let shift = if format.is_chroma(component) { format.chroma_shift() } else { (0, 0) };
        Self { component, region, shift, size }
    }

    /// Converts a length in pixels to samples across and down.
    fn scaled(&self, pixels: f32) -> (f32, f32) {
        (pixels / (1u32 << self.shift.0) as f32, pixels / (1u32 << self.shift.1) as f32)
    }

    /// Returns the blur parameters; kinds that do not blur keep every sample.
    fn blur(&self, obscure: &Obscure, side: f32) -> BlurPlan {
        let (across, down, margin) = match obscure {
            Obscure::Gaussian { strength } => {
                let (sigma_x, sigma_y) = self.scaled(strength * side);
                (gaussian(sigma_x), gaussian(sigma_y), (gaussian_margin(sigma_x), gaussian_margin(sigma_y)))
            }
            Obscure::Box { strength } => {
                let (width_x, width_y) = self.scaled(strength * side);
                (mean(width_x), mean(width_y), (width_x as u32 / 2 + 1, width_y as u32 / 2 + 1))
            }
            _ => (mean(1.0), mean(1.0), (0, 0)),
        };
        BlurPlan { patch: self.region.grown(margin.0, margin.1, self.size.0, self.size.1), across, down }
    }
}

/// Replaces the samples that the mask covers by the result of `values` for each component.
fn filter(surface: &mut HostSurface, mask: &Mask, values: impl Fn(&HostSurface, &MaskedPlane) -> Vec<f32>) -> Result<(), VisionError> {
    let format = surface.format();
    for component in 0..format.color_components().len() {
        let (region, coverage) = component_coverage(format, component, mask.region, &mask.coverage, ChromaCoverage::Most);
        let size = format.component_size(component, surface.width(), surface.height());
        let values = values(surface, &MaskedPlane::new(format, component, region, size));
        blend(surface, component, region, &coverage, Target::Each(&values))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorMatrix, ColorRange, FramePool};

    use super::*;
    use crate::{
        MaskShape,
        test_images::{code_at, face, noisy, rgb_at},
    };

    fn kinds() -> Vec<Obscure> {
        let overlay = Overlay::new(2, 2, [255, 0, 0, 255, 0, 255, 0, 255, 0, 0, 255, 0, 255, 255, 255, 128].to_vec()).expect("2x2");
        vec![
            Obscure::default(),
            Obscure::Box { strength: 0.5 },
            Obscure::Mosaic { cell: MosaicCell::Pixels(12) },
            Obscure::Mosaic { cell: MosaicCell::Relative(0.2) },
            Obscure::Solid { rgb: [10, 200, 90] },
            Obscure::Image(overlay),
        ]
    }

    fn rectangle() -> MaskOptions {
        MaskOptions { shape: MaskShape::Rectangle, mask_scale: 1.0, feather: 0.0, ..Default::default() }
    }

    fn hide(surface: &mut HostSurface, obscure: &Obscure, mask: MaskOptions, detections: &[Detection]) -> ObscureCounts {
        let obscurer = Obscurer::new(obscure.clone(), mask).expect("in range");
        obscurer.run(surface, &ColorDescription::default(), detections).expect("writable")
    }

    #[test]
    fn nothing_outside_the_mask_changes_and_alpha_never_does() {
        for &format in PixelFormat::ALL {
            let original = noisy(format, 67, 45);
            let mask = Mask::new(&rectangle(), &face(20.0, 10.0, 44.0, 40.0), 67, 45).expect("inside");
            for obscure in kinds() {
                let mut surface = noisy(format, 67, 45);
                let counts = hide(&mut surface, &obscure, rectangle(), &[face(20.0, 10.0, 44.0, 40.0)]);
                assert_eq!(counts, ObscureCounts { hidden: 1, ..Default::default() });
                let mut changed = 0;
                for component in 0..format.components().len() {
                    let (columns, rows) = format.component_size(component, 67, 45);
                    let own = mask.region.of_component(format, component);
                    let is_color = component < format.color_components().len();
                    for y in 0..rows {
                        for x in 0..columns {
                            let inside = (own.x..own.x + own.width).contains(&x) && (own.y..own.y + own.height).contains(&y);
                            let (old, new) = (
                                code_at(&original, component, x as usize, y as usize),
                                code_at(&surface, component, x as usize, y as usize),
                            );
                            assert!((inside && is_color) || old == new, "{format} {obscure:?}: component {component} at {x},{y}");
                            changed += u32::from(old != new);
                        }
                    }
                }
                assert!(changed > 500, "{format} {obscure:?} changed {changed} samples");
            }
        }
    }

    #[test]
    fn a_solid_colour_is_that_colour_in_every_format() {
        for &format in PixelFormat::ALL {
            for (matrix, range) in [(ColorMatrix::Bt709, ColorRange::Limited), (ColorMatrix::Bt2020, ColorRange::Full)] {
                let color = ColorDescription { matrix, range, ..Default::default() };
                let mut surface = noisy(format, 33, 31);
                let rgb = if format.color_components().len() == 1 { [120; 3] } else { [200, 40, 90] };
                let obscurer = Obscurer::new(Obscure::Solid { rgb }, rectangle()).expect("in range");
                obscurer.run(&mut surface, &color, &[face(9.0, 9.0, 22.0, 22.0)]).expect("writable");
                for (x, y) in [(9, 9), (21, 21), (15, 12)] {
                    let found = rgb_at(&surface, &color, x, y);
                    let close = found.iter().zip(rgb).all(|(found, rgb)| (found - f32::from(rgb)).abs() < 2.0);
                    assert!(close, "{format} {matrix:?} {x},{y}: {found:?}");
                }
            }
        }
    }

    #[test]
    fn mosaic_cells_are_the_mean_of_their_samples() {
        for format in
            [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Yuv422p12, PixelFormat::Rgb24, PixelFormat::Gray16]
        {
            let original = noisy(format, 61, 43);
            let mut surface = noisy(format, 61, 43);
            hide(&mut surface, &Obscure::Mosaic { cell: MosaicCell::Pixels(16) }, rectangle(), &[face(10.0, 10.0, 60.0, 43.0)]);
            for component in 0..format.color_components().len() {
                let (sx, sy) = if format.is_chroma(component) { format.chroma_shift() } else { (0, 0) };
                let (columns, rows) = format.component_size(component, 61, 43);
                // The cell from pixel (48, 32) on is cut by the frame's right and lower edges.
                let (from_x, from_y) = (48 >> sx, 32 >> sy);
                let (mut sum, mut count) = (0.0, 0.0);
                for y in from_y..rows {
                    for x in from_x..columns {
                        sum += f64::from(code_at(&original, component, x as usize, y as usize));
                        count += 1.0;
                    }
                }
                let found = code_at(&surface, component, from_x as usize + 1, from_y as usize + 1);
                assert!((f64::from(found) - sum / count).abs() <= 0.51, "{format} component {component}: {found} for {}", sum / count);
            }
        }
    }

    #[test]
    fn blur_removes_detail_and_keeps_the_mean() {
        for format in
            [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::Yuv444p10, PixelFormat::Bgra, PixelFormat::Gray8, PixelFormat::Yuv411p]
        {
            for obscure in [Obscure::default(), Obscure::Box { strength: 0.5 }] {
                let (original, mut surface) = (noisy(format, 131, 117), noisy(format, 131, 117));
                hide(&mut surface, &obscure, MaskOptions { mask_scale: 1.3, ..rectangle() }, &[face(30.0, 30.0, 100.0, 90.0)]);
                // Neighbouring pixels of the noise differ strongly; those of the blur do not.
                let roughness = |image: &HostSurface| {
                    let pairs = (40..80).flat_map(|y| (40..90).map(move |x| (x, y)));
                    pairs.map(|(x, y)| f64::from(code_at(image, 0, x, y).abs_diff(code_at(image, 0, x + 1, y)))).sum::<f64>() / 2000.0
                };
                let unit = f64::from(format.max_value()) / 255.0;
                assert!(
                    roughness(&original) > 10.0 * unit && roughness(&surface) < 1.6 * unit,
                    "{format} {obscure:?}: {}",
                    roughness(&surface)
                );
                let mean = |image: &HostSurface| {
                    (30..90).flat_map(|y| (30..100).map(move |x| (x, y))).map(|(x, y)| f64::from(code_at(image, 0, x, y))).sum::<f64>()
                        / 4200.0
                };
                assert!((mean(&original) - mean(&surface)).abs() < 8.0 * unit, "{format} {obscure:?}");
            }
        }
    }

    #[test]
    fn a_gaussian_leaves_less_than_one_step_of_a_pattern_that_repeats_four_times() {
        use crate::test_images::image;
        // A face of 80 pixels under a wave with a period of 20 pixels and the maximum contrast of 8 bits.
        let wave = |x: u32| (128.0 + 127.0 * (f64::from(x) * std::f64::consts::TAU / 20.0).sin()).round() as u16;
        let mut surface = image(PixelFormat::Gray8, 240, 240, |_, x, _| wave(x));
        hide(&mut surface, &Obscure::default(), rectangle(), &[face(80.0, 80.0, 160.0, 160.0)]);
        let codes: Vec<u16> = (80..160).map(|x| code_at(&surface, 0, x, 120)).collect();
        let (low, high) = (codes.iter().min().copied(), codes.iter().max().copied());
        assert!(high.zip(low).is_some_and(|(high, low)| high - low <= 1), "{codes:?}");
    }

    #[test]
    fn transparent_parts_of_an_image_show_a_blur_and_never_the_face() {
        let overlay = Overlay::new(1, 1, vec![0, 0, 0, 0]).expect("1x1");
        let (mut overlaid, mut blurred) = (noisy(PixelFormat::Yuv420p, 90, 80), noisy(PixelFormat::Yuv420p, 90, 80));
        let faces = [face(20.0, 20.0, 60.0, 60.0)];
        hide(&mut overlaid, &Obscure::Image(overlay), rectangle(), &faces);
        hide(&mut blurred, &UNDER_OVERLAY, rectangle(), &faces);
        assert_eq!(crate::compare(&overlaid, &blurred).expect("same kind").overall.max_abs, 0);
    }

    #[test]
    fn odd_boxes_are_counted_and_harm_nothing() {
        let odd = [
            face(f32::NAN, 0.0, 4.0, 4.0),
            face(0.0, 0.0, f32::INFINITY, 4.0),
            face(1000.0, 0.0, 1100.0, 50.0),
            face(5.0, 5.0, 5.0, 5.0),
            face(9.0, 9.0, 3.0, 3.0),
            face(-1e30, -1e30, 1e30, 1e30),
            face(-20.0, -20.0, 4.0, 4.0),
            face(30.0, 16.0, 90.0, 70.0),
        ];
        for format in [PixelFormat::Yuv420p, PixelFormat::P010, PixelFormat::Rgb48, PixelFormat::Yuv411p, PixelFormat::Gray8] {
            for obscure in kinds() {
                let mut surface = noisy(format, 33, 17);
                let counts = hide(&mut surface, &obscure, MaskOptions::default(), &odd);
                assert_eq!(counts, ObscureCounts { hidden: 5, outside: 1, invalid: 2, ..Default::default() }, "{format} {obscure:?}");
            }
        }
        let mut pixel = noisy(PixelFormat::Yuv420p, 1, 1);
        for obscure in kinds() {
            hide(&mut pixel, &obscure, MaskOptions::default(), &odd);
        }
    }

    #[test]
    fn a_shared_surface_is_refused_and_ranges_are_checked() {
        let mut surface = FramePool::new(1).surface(PixelFormat::Gray8, 8, 8).expect("size in range");
        let other = surface.clone();
        let obscurer = Obscurer::new(Obscure::default(), rectangle()).expect("in range");
        let result = obscurer.run(&mut surface, &ColorDescription::default(), &[face(0.0, 0.0, 8.0, 8.0)]);
        assert!(matches!(result, Err(VisionError::NotWritable { .. })));
        drop(other);
        for obscure in [
            Obscure::Gaussian { strength: 0.0 },
            Obscure::Gaussian { strength: f32::NAN },
            Obscure::Box { strength: 9.0 },
            Obscure::Mosaic { cell: MosaicCell::Pixels(1) },
            Obscure::Mosaic { cell: MosaicCell::Relative(0.0) },
        ] {
            assert!(Obscurer::new(obscure.clone(), rectangle()).is_err(), "{obscure:?}");
        }
    }
}

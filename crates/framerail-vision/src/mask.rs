//! Masks: which pixels of a face are hidden, and how much.

use std::sync::Arc;

use framerail_core::{BBox, Detection, MaskCover, MaskPlan, OrientedBox, Outline, Region};

use crate::{
    VisionError,
    contour::{Contour, NoContour, Raster},
    hull::ConvexHull,
};

/// Minimum mask scale of the ellipse that replaces a contour: a box is narrower than its face.
const LEAST_STAND_IN_SCALE: f32 = 1.3;

/// The shape of a mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MaskShape {
    /// The box, rotated where the detector returned a rotated one.
    Rectangle,
    /// An ellipse that fills the box, rotated with it, or by the line between the eyes where the model returns landmarks.
    #[default]
    Ellipse,
    /// The detection's contour: the last mask among its attributes, where it is at least half covered; else the convex hull of the last
    /// landmarks among its attributes (3 or more), else the detector's landmarks (20 or more). The contour must cover
    /// [`MaskOptions::contour_share`] of the box, unless it is the hull of 20 landmarks or more. If it is missing or too small, an
    /// ellipse replaces it.
    Contour,
}

/// Options for masks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskOptions {
    /// Shape of the mask.
    pub shape: MaskShape,
    /// Size of the mask: the box grows by `mask_scale - 1` times its width on the left and right, and times its height at the top and
    /// bottom. So 1 is the box, and 1.3 (the default) is 1.6 times as wide and high. This matches `scale_bb` of deface 1.5.0, except
    /// that deface then rounds to whole pixels and leaves out the frame's last row and column.
    /// Range 0.6 to 10.
    ///
    /// A contour grows on every side by `mask_scale - 1` times the mean of its width and height, so 1.1 suits it better. An ellipse that
    /// replaces a contour uses at least 1.3.
    pub mask_scale: f32,
    /// Width of the soft edge as a fraction of the box's longer side, before scaling. Range 0 to 1; default 0.05.
    ///
    /// The soft edge lies outside the shape: a wider edge hides more, never less.
    pub feather: f32,
    /// Minimum fraction of the box that a contour must cover to be used. Range 0 to 1; default 0.2.
    pub contour_share: f32,
}

impl Default for MaskOptions {
    fn default() -> Self {
        Self { shape: MaskShape::default(), mask_scale: 1.3, feather: 0.05, contour_share: 0.2 }
    }
}

impl MaskOptions {
    /// Checks the ranges.
    ///
    /// # Errors
    /// `OptionOutOfRange` with the allowed range.
    pub fn validated(self) -> Result<Self, VisionError> {
        if !(0.6..=10.0).contains(&self.mask_scale) {
            return Err(VisionError::option("mask_scale", self.mask_scale, "a number from 0.6 to 10"));
        }
        if !(0.0..=1.0).contains(&self.feather) {
            return Err(VisionError::option("feather", self.feather, "a number from 0 to 1"));
        }
        if !(0.0..=1.0).contains(&self.contour_share) {
            return Err(VisionError::option("contour_share", self.contour_share, "a number from 0 to 1"));
        }
        Ok(self)
    }
}

/// What a mask was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskSource {
    /// The box.
    Box,
    /// The contour.
    Contour,
    /// The box, because there is no contour.
    ContourMissing,
    /// The box, because the contour is too small, or not visible in the frame.
    ContourTooSmall,
    /// A fixed area.
    Area,
}

/// Returns the mask of one detection and its source; `None` when it lies outside the frame or its box is not finite.
pub(crate) fn mask_plan(
    options: &MaskOptions,
    detection: &Detection,
    frame_width: u32,
    frame_height: u32,
) -> Option<(MaskPlan, MaskSource)> {
    if !detection.bbox.is_finite() {
        return None;
    }
    if options.shape == MaskShape::Rectangle
        && let Some(raster) = detection.oriented.and_then(|oriented| rotated_raster(options, &oriented, (frame_width, frame_height)))
    {
        let plan = MaskPlan { region: raster.region, bounds: raster.bounds, cover: MaskCover::Raster(raster.coverage) };
        return Some((plan, MaskSource::Box));
    }
    if options.shape != MaskShape::Contour {
        return Some((box_plan(options, detection, frame_width, frame_height)?, MaskSource::Box));
    }
    let source = match Contour::of(detection, options.contour_share) {
        Ok(contour) => {
            let growth = f64::from(options.mask_scale) - 1.0;
            if let Some(raster) = contour.raster(growth, feather(options, &detection.bbox), (frame_width, frame_height)) {
                let plan = MaskPlan { region: raster.region, bounds: raster.bounds, cover: MaskCover::Raster(raster.coverage) };
                return Some((plan, MaskSource::Contour));
            }
            MaskSource::ContourTooSmall
        }
        Err(NoContour::Missing) => MaskSource::ContourMissing,
        Err(NoContour::TooSmall) => MaskSource::ContourTooSmall,
    };
    let stand_in = MaskOptions { shape: MaskShape::Ellipse, mask_scale: options.mask_scale.max(LEAST_STAND_IN_SCALE), ..*options };
    Some((box_plan(&stand_in, detection, frame_width, frame_height)?, source))
}

/// Width of the soft edge in pixels.
fn feather(options: &MaskOptions, bbox: &BBox) -> f64 {
    f64::from(options.feather * bbox.width().max(bbox.height()))
}

/// Returns the pixels of a rotated box; `None` for a box that is not finite or has no area, and outside the frame.
fn rotated_raster(options: &MaskOptions, oriented: &OrientedBox, frame: (u32, u32)) -> Option<Raster> {
    let factor = 2.0 * options.mask_scale - 1.0;
    let scaled = OrientedBox { width: oriented.width * factor, height: oriented.height * factor, ..*oriented };
    let feather = f64::from(options.feather * oriented.width.max(oriented.height));
    let hull = ConvexHull::of(&scaled.corners()).filter(|_| scaled.is_finite())?;
    Contour::Hull(hull).raster(0.0, feather, frame)
}

/// Returns the mask of a finite box.
fn box_plan(options: &MaskOptions, detection: &Detection, frame_width: u32, frame_height: u32) -> Option<MaskPlan> {
    let bbox = &detection.bbox;
    let factor = 2.0 * options.mask_scale - 1.0;
    let (width, height) = (f64::from(bbox.width() * factor).max(1.0), f64::from(bbox.height() * factor).max(1.0));
    let center = (f64::from(bbox.x1) / 2.0 + f64::from(bbox.x2) / 2.0, f64::from(bbox.y1) / 2.0 + f64::from(bbox.y2) / 2.0);
    let outline = outline(options.shape, detection, center, (width / 2.0, height / 2.0));
    let feather = feather(options, bbox);
    let (reach_x, reach_y) = outline.reach();
    let corner = |sign: f64| (center.0 + sign * (reach_x + feather + 1.0), center.1 + sign * (reach_y + feather + 1.0));
    let ((x1, y1), (x2, y2)) = (corner(-1.0), corner(1.0));
    let region = Region::around(&BBox::from_xyxy(x1 as f32, y1 as f32, x2 as f32, y2 as f32), frame_width, frame_height)?;
    let bounds = BBox::from_cxcywh(center.0 as f32, center.1 as f32, width as f32, height as f32);
    Some(MaskPlan { region, bounds, cover: MaskCover::Outline { center, outline, feather } })
}

/// Coverage of the pixels in a region of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// The pixels that may be covered, inside the frame.
    pub region: Region,
    /// Coverage of each pixel of the region, row by row: 0 (unchanged) to 255 (hidden).
    pub coverage: Arc<[u8]>,
    /// The scaled box, or the contour's box; may extend beyond the frame.
    pub bounds: BBox,
    /// What the mask was made from.
    pub source: MaskSource,
}

impl Mask {
    /// Creates the mask of one detection; `None` when it lies outside the frame or its box is not finite.
    pub fn new(options: &MaskOptions, detection: &Detection, frame_width: u32, frame_height: u32) -> Option<Mask> {
        let (MaskPlan { region, bounds, cover }, source) = mask_plan(options, detection, frame_width, frame_height)?;
        let coverage = match cover {
            MaskCover::Raster(coverage) => coverage,
            MaskCover::Outline { center, outline, feather } => {
                let mut coverage = vec![0; region.pixels()];
                for (y, row) in (region.y..).zip(coverage.chunks_exact_mut(region.width as usize)) {
                    let (dx, dy) = (f64::from(region.x) + 0.5 - center.0, f64::from(y) + 0.5 - center.1);
                    cover_row(&outline, feather, dx, dy, row);
                }
                coverage.into()
            }
        };
        if coverage.iter().all(|&value| value == 0) {
            return None;
        }
        Some(Mask { region, coverage, bounds, source })
    }

    /// Coverage of row `y` of the region, counted from its top.
    pub fn row(&self, y: usize) -> &[u8] {
        let width = self.region.width as usize;
        self.coverage.get(y * width..(y + 1) * width).unwrap_or_default()
    }

    /// Coverage of a pixel of the frame; 0 outside the region.
    pub fn at(&self, x: u32, y: u32) -> u8 {
        let (Some(dx), Some(dy)) = (x.checked_sub(self.region.x), y.checked_sub(self.region.y)) else { return 0 };
        if dx < self.region.width { self.row(dy as usize).get(dx as usize).copied().unwrap_or(0) } else { 0 }
    }
}

/// Fills a row. The centre of its first pixel lies at `dx`, `dy` from the outline's centre.
fn cover_row(outline: &Outline, feather: f64, dx: f64, dy: f64, row: &mut [u8]) {
    let columns = |span: Option<(f64, f64)>| {
        let (from, to) = span.unwrap_or((0.0, -1.0));
        let column = |x: f64| (x - dx).clamp(-1.0, row.len() as f64);
        let first = column(from).ceil().max(0.0) as usize;
        first..(column(to).floor() as isize + 1).clamp(first as isize, row.len() as isize) as usize
    };
    // Half a pixel: every pixel that the outline touches is inside.
    let (reached, inside) = (columns(outline.span(dy, feather + 0.5)), columns(outline.span(dy, 0.0)));
    let inside = if inside.is_empty() { reached.end..reached.end } else { inside };
    row[inside.clone()].fill(255);
    for column in (reached.start..inside.start).chain(inside.end..reached.end.max(inside.end)) {
        row[column] = soft_edge(outline.distance(column as f64 + dx, dy) - 0.5, feather);
    }
}

/// Coverage of a pixel at this distance beyond the fully covered area.
#[inline]
pub(crate) fn soft_edge(distance: f64, feather: f64) -> u8 {
    if distance <= 0.0 {
        return 255;
    }
    if distance >= feather {
        return 0;
    }
    let t = 1.0 - distance / feather;
    (255.0 * t * t * (3.0 - 2.0 * t)).round() as u8
}

/// The outline around a detection's centre.
fn outline(shape: MaskShape, detection: &Detection, center: (f64, f64), half: (f64, f64)) -> Outline {
    if shape == MaskShape::Rectangle {
        // Widened to whole pixels, as boxes are drawn.
        let widen = |center: f64, half: f64| (center + half).ceil().max(-(center - half).floor() + 2.0 * center) - center;
        return Outline::Rectangle { half_width: widen(center.0, half.0) - 0.5, half_height: widen(center.1, half.1) - 0.5 };
    }
    if let Some(oriented) = detection.oriented.filter(OrientedBox::is_finite) {
        let factor = half.0 * 2.0 / f64::from(detection.bbox.width()).max(1e-3);
        let axis = |side: f32| (f64::from(side) * factor / 2.0).max(0.5);
        let (sin, cos) = f64::from(oriented.angle).sin_cos();
        return Outline::Ellipse { across: axis(oriented.width), along: axis(oriented.height), cos, sin };
    }
    let angle = eye_angle(detection);
    let (across, along) = turned_axes(half, angle);
    Outline::Ellipse { across, along, cos: angle.cos(), sin: angle.sin() }
}

/// Angle of the line from the first landmark (one eye) to the second, clockwise; 0 without usable eyes.
fn eye_angle(detection: &Detection) -> f64 {
    let [first, second, ..] = detection.landmarks.as_slice() else { return 0.0 };
    let (dx, dy) = (f64::from(second.x - first.x), f64::from(second.y - first.y));
    // In profile the eyes nearly coincide, and the line between them has no meaning.
    let shortest = 0.15 * f64::from(detection.bbox.width().min(detection.bbox.height()));
    if dx.hypot(dy) > shortest { dy.atan2(dx) } else { 0.0 }
}

/// Half axes, across and along the face, of the rotated ellipse whose bounding box is closest to a box of these half sides.
///
/// The bounding box of an ellipse `(p, q)` rotated by `a` has half sides with `W² + H² = p² + q²` and `H² - W² = (q² - p²) cos 2a`.
/// Rotated faces are assumed to be no wider than long and at most 1.6 times as long, which also settles angles near 45°.
fn turned_axes((half_width, half_height): (f64, f64), angle: f64) -> (f64, f64) {
    let (sum, difference) = (half_width.powi(2) + half_height.powi(2), half_height.powi(2) - half_width.powi(2));
    let turn = (angle.sin().abs() / 20f64.to_radians().sin()).min(1.0);
    let double_cos = (2.0 * angle).cos();
    let elongation = if double_cos.abs() > 0.3 { difference / double_cos } else { 0.25 * sum };
    let elongation = elongation.clamp(-(1.0 - turn) * sum, (1.0 - 0.55 * turn) * sum);
    (((sum - elongation) / 2.0).sqrt().max(0.5), ((sum + elongation) / 2.0).sqrt().max(0.5))
}

#[cfg(test)]
mod tests {
    use framerail_core::Point;

    use super::*;
    use crate::test_images::face;

    fn options(shape: MaskShape, mask_scale: f32, feather: f32) -> MaskOptions {
        MaskOptions { shape, mask_scale, feather, ..Default::default() }
    }

    #[test]
    fn a_rectangle_covers_its_pixels_and_no_more() {
        let mask = Mask::new(&options(MaskShape::Rectangle, 1.0, 0.0), &face(10.0, 20.0, 30.0, 50.0), 100, 100).expect("inside");
        for y in 0..100 {
            for x in 0..100 {
                let inside = (10..30).contains(&x) && (20..50).contains(&y);
                assert_eq!(mask.at(x, y) == 255, inside, "{x},{y}");
                assert_eq!(mask.at(x, y) == 0, !inside, "{x},{y}");
            }
        }
    }

    #[test]
    fn mask_scale_grows_each_side_as_deface_does() {
        let mask = Mask::new(&options(MaskShape::Rectangle, 1.3, 0.0), &face(100.0, 100.0, 200.0, 300.0), 640, 480).expect("inside");
        let expected = BBox::from_xyxy(70.0, 40.0, 230.0, 360.0);
        assert!(mask.bounds.iou(&expected) > 0.9999, "{:?}", mask.bounds);
        assert_eq!([mask.at(70, 40), mask.at(229, 359), mask.at(69, 40), mask.at(230, 359)], [255, 255, 0, 0]);
    }

    #[test]
    fn an_upright_ellipse_fills_its_box() {
        let mask = Mask::new(&options(MaskShape::Ellipse, 1.0, 0.0), &face(40.0, 20.0, 80.0, 100.0), 200, 200).expect("inside");
        for y in 0..200u32 {
            for x in 0..200u32 {
                let (u, v) = ((f64::from(x) + 0.5 - 60.0) / 20.0, (f64::from(y) + 0.5 - 60.0) / 40.0);
                if u * u + v * v <= 1.0 {
                    assert_eq!(mask.at(x, y), 255, "{x},{y}");
                } else if u.hypot(v) > 1.08 {
                    assert_eq!(mask.at(x, y), 0, "{x},{y}");
                }
            }
        }
    }

    #[test]
    fn a_wider_soft_edge_never_uncovers() {
        let detection = face(40.3, 21.7, 81.2, 99.9);
        for shape in [MaskShape::Ellipse, MaskShape::Rectangle] {
            let hard = Mask::new(&options(shape, 1.1, 0.0), &detection, 200, 160).expect("inside");
            let soft = Mask::new(&options(shape, 1.1, 0.3), &detection, 200, 160).expect("inside");
            let mut softened = 0;
            for y in 0..160 {
                for x in 0..200 {
                    assert!(soft.at(x, y) >= hard.at(x, y), "{shape:?} {x},{y}");
                    softened += u32::from(soft.at(x, y) > 0 && soft.at(x, y) < 255);
                }
            }
            assert!(softened > 500);
        }
    }

    #[test]
    fn the_eye_line_turns_the_ellipse() {
        // A face lying on its side: eyes one above the other, the box wider than high.
        let mut detection = face(40.0, 60.0, 120.0, 110.0);
        detection.landmarks = vec![Point { x: 95.0, y: 70.0 }, Point { x: 95.0, y: 100.0 }];
        let mask = Mask::new(&options(MaskShape::Ellipse, 1.0, 0.0), &detection, 200, 200).expect("inside");
        assert_eq!([mask.at(42, 85), mask.at(118, 85), mask.at(80, 62), mask.at(80, 108)], [255; 4]);
        assert_eq!([mask.at(80, 50), mask.at(80, 120)], [0; 2]);
        // Tilted by 45 degrees: longer along one diagonal.
        let mut tilted = face(50.0, 50.0, 110.0, 110.0);
        tilted.landmarks = vec![Point { x: 70.0, y: 70.0 }, Point { x: 90.0, y: 90.0 }];
        let mask = Mask::new(&options(MaskShape::Ellipse, 1.0, 0.0), &tilted, 200, 200).expect("inside");
        assert_eq!((mask.at(103, 56), mask.at(104, 104)), (255, 0));
    }

    #[test]
    fn rotated_boxes_have_rotated_masks() {
        let oriented = OrientedBox { center: Point { x: 100.0, y: 80.0 }, width: 80.0, height: 20.0, angle: 30f32.to_radians() };
        let bbox = oriented.bbox();
        let mut detection = face(bbox.x1, bbox.y1, bbox.x2, bbox.y2);
        detection.oriented = Some(oriented);
        for shape in [MaskShape::Rectangle, MaskShape::Ellipse] {
            let mask = Mask::new(&options(shape, 1.0, 0.0), &detection, 200, 160).expect("inside");
            let along = |distance: f32| (100.0 + distance * 30f32.to_radians().cos(), 80.0 + distance * 30f32.to_radians().sin());
            for distance in [-38.0, -20.0, 0.0, 20.0, 38.0] {
                let (x, y) = along(distance);
                assert_eq!(mask.at(x as u32, y as u32), 255, "{shape:?}: {distance}");
            }
            assert_eq!([mask.at(66, 104), mask.at(134, 56)], [0; 2], "{shape:?}: corners of the upright box");
        }
        let mask = Mask::new(&options(MaskShape::Rectangle, 1.0, 0.0), &detection, 200, 160).expect("inside");
        let inside = |x: u32, y: u32| {
            let (dx, dy) = (x as f32 + 0.5 - 100.0, y as f32 + 0.5 - 80.0);
            let (sin, cos) = oriented.angle.sin_cos();
            ((dx * cos + dy * sin).abs(), (dy * cos - dx * sin).abs())
        };
        for y in 0..160 {
            for x in 0..200 {
                let (across, down) = inside(x, y);
                assert!(mask.at(x, y) == 255 || across > 40.0 || down > 10.0, "{x},{y} is inside");
                assert!(mask.at(x, y) == 0 || (across < 42.0 && down < 12.0), "{x},{y} is outside");
            }
        }
    }

    #[test]
    fn odd_boxes_neither_panic_nor_escape() {
        let frame = (64, 48);
        for shape in [MaskShape::Ellipse, MaskShape::Rectangle] {
            let mask = |d: Detection| Mask::new(&options(shape, 1.3, 0.05), &d, frame.0, frame.1);
            assert!(mask(face(f32::NAN, 0.0, 1.0, 1.0)).is_none());
            assert!(mask(face(0.0, 0.0, f32::INFINITY, 1.0)).is_none());
            assert!(mask(face(500.0, 500.0, 600.0, 600.0)).is_none());
            assert!(mask(face(20.0, 20.0, 20.0, 20.0)).is_some(), "a point is still covered");
            let all = mask(face(-1e6, -1e6, 1e6, 1e6)).expect("covers the frame");
            assert_eq!(all.region, Region { x: 0, y: 0, width: 64, height: 48 });
            assert!(all.coverage.iter().all(|&value| value == 255));
            let corner = mask(face(-20.0, -20.0, 10.0, 10.0)).expect("reaches in");
            assert_eq!((corner.region.x, corner.region.y), (0, 0));
            assert_eq!(corner.coverage.len(), corner.region.pixels());
        }
    }

    #[test]
    fn ranges_are_checked() {
        assert!(options(MaskShape::Ellipse, 0.1, 0.0).validated().is_err());
        assert!(options(MaskShape::Ellipse, f32::NAN, 0.0).validated().is_err());
        assert!(options(MaskShape::Ellipse, 1.0, 2.0).validated().is_err());
        assert!(MaskOptions::default().validated().is_ok());
    }
}

//! Rotated boxes.

use serde::{Deserialize, Serialize};

use crate::{BBox, Point};

/// A rotated box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OrientedBox {
    /// The centre, in frame pixels unless stated.
    pub center: Point,
    /// Length of the sides that lie along `angle`.
    pub width: f32,
    /// Length of the other sides.
    pub height: f32,
    /// Clockwise rotation in radians: at 0, `width` is horizontal.
    pub angle: f32,
}

impl OrientedBox {
    /// Whether all numbers are finite.
    pub fn is_finite(&self) -> bool {
        [self.center.x, self.center.y, self.width, self.height, self.angle].iter().all(|value| value.is_finite())
    }

    /// The corners: top left, top right, bottom right, bottom left of the box before its rotation.
    pub fn corners(&self) -> [Point; 4] {
        let (sin, cos) = self.angle.sin_cos();
        [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)].map(|(across, down)| {
            let (across, down) = (across * self.width, down * self.height);
            Point { x: self.center.x + across * cos - down * sin, y: self.center.y + across * sin + down * cos }
        })
    }

    /// The upright box around it.
    pub fn bbox(&self) -> BBox {
        let (sin, cos) = self.angle.sin_cos();
        let (width, height) = (self.width.abs(), self.height.abs());
        let (sin, cos) = (sin.abs(), cos.abs());
        BBox::from_cxcywh(self.center.x, self.center.y, width * cos + height * sin, width * sin + height * cos)
    }

    /// The same box with an angle from 0 up to a quarter turn, as detectors of oriented boxes report it.
    #[must_use]
    pub fn regular(self) -> Self {
        let quarter = std::f32::consts::FRAC_PI_2;
        let is_swapped = self.angle.rem_euclid(2.0 * quarter) >= quarter;
        let (width, height) = if is_swapped { (self.height, self.width) } else { (self.width, self.height) };
        Self { width, height, angle: self.angle.rem_euclid(quarter), ..self }
    }

    /// Overlap of the normal distributions with the boxes' moments, 0 to 1.
    ///
    /// Source: J. Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object Detection, 2021.
    pub fn probabilistic_iou(&self, other: &Self) -> f32 {
        const EPSILON: f64 = 1e-7;
        let ((a1, b1, c1), (a2, b2, c2)) = (self.covariance(), other.covariance());
        let (dx, dy) = (f64::from(self.center.x - other.center.x), f64::from(self.center.y - other.center.y));
        let (a, b, c) = (a1 + a2, b1 + b2, c1 + c2);
        let determinant = a * b - c * c;
        let place = (0.25 * (a * dy * dy + b * dx * dx) - 0.5 * c * dx * dy) / (determinant + EPSILON);
        let own = ((a1 * b1 - c1 * c1).max(0.0) * (a2 * b2 - c2 * c2).max(0.0)).sqrt();
        let shape = 0.5 * (determinant / (4.0 * own + EPSILON) + EPSILON).ln();
        let distance = (place + shape).clamp(EPSILON, 100.0);
        (1.0 - (1.0 - (-distance).exp() + EPSILON).sqrt()).max(0.0) as f32
    }

    /// Variances along x and y, and the covariance, of a uniform distribution over the box.
    fn covariance(&self) -> (f64, f64, f64) {
        let (sin, cos) = f64::from(self.angle).sin_cos();
        let (along, across) = (f64::from(self.width).powi(2) / 12.0, f64::from(self.height).powi(2) / 12.0);
        (along * cos * cos + across * sin * sin, along * sin * sin + across * cos * cos, (along - across) * cos * sin)
    }

    /// Maps the box through `place`, an affine map. Where it scales the axes differently, the side along `angle` is mapped and the area
    /// is that of the mapped parallelogram.
    #[must_use]
    pub fn placed(&self, place: &dyn Fn(Point) -> Point) -> Self {
        let [top_left, top_right, _, bottom_left] = self.corners().map(place);
        let (along_x, along_y) = (top_right.x - top_left.x, top_right.y - top_left.y);
        let (down_x, down_y) = (bottom_left.x - top_left.x, bottom_left.y - top_left.y);
        let width = along_x.hypot(along_y);
        let area = (along_x * down_y - along_y * down_x).abs();
        let height = if width > 0.0 { area / width } else { down_x.hypot(down_y) };
        Self { center: place(self.center), width, height, angle: along_y.atan2(along_x) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(width: f32, height: f32, degrees: f32) -> OrientedBox {
        OrientedBox { center: Point { x: 50.0, y: 40.0 }, width, height, angle: degrees.to_radians() }
    }

    fn near(a: f32, b: f32) -> bool {
        (a - b).abs() < 1e-3
    }

    #[test]
    fn corners_turn_clockwise() {
        let [first, second, ..] = turned(20.0, 10.0, 90.0).corners();
        assert!(near(first.x, 55.0) && near(first.y, 30.0) && near(second.x, 55.0) && near(second.y, 50.0), "{first:?} {second:?}");
        let hull = turned(20.0, 10.0, 90.0).bbox();
        assert!(near(hull.x1, 45.0) && near(hull.y1, 30.0) && near(hull.x2, 55.0) && near(hull.y2, 50.0), "{hull:?}");
    }

    #[test]
    fn regular_boxes_are_the_same_boxes() {
        for degrees in [-200.0f32, -90.0, -1.0, 0.0, 30.0, 89.0, 91.0, 170.0, 275.0] {
            let (given, regular) = (turned(20.0, 10.0, degrees), turned(20.0, 10.0, degrees).regular());
            assert!((0.0..std::f32::consts::FRAC_PI_2).contains(&regular.angle), "{degrees}: {regular:?}");
            assert!(given.bbox().iou(&regular.bbox()) > 0.999 && given.probabilistic_iou(&regular) > 0.99, "{degrees}");
        }
    }

    #[test]
    fn probabilistic_overlaps_are_those_of_the_published_formula() {
        // Values of the formula in NumPy, in double precision.
        let at = |x: f32, y: f32, width: f32, height: f32, angle: f32| OrientedBox { center: Point { x, y }, width, height, angle };
        let cases = [
            (at(10.0, 10.0, 8.0, 4.0, 0.0), at(10.0, 10.0, 8.0, 4.0, 0.0), 0.999_552_8),
            (at(10.0, 10.0, 8.0, 4.0, 0.0), at(12.0, 10.0, 8.0, 4.0, 0.0), 0.700_851_6),
            (at(10.0, 10.0, 8.0, 4.0, 0.3), at(11.0, 9.0, 6.0, 5.0, 1.2), 0.584_200_4),
            (at(10.0, 10.0, 8.0, 4.0, 0.0), at(100.0, 10.0, 8.0, 4.0, 0.0), 0.0),
        ];
        for (a, b, wanted) in cases {
            let (found, back) = (a.probabilistic_iou(&b), b.probabilistic_iou(&a));
            assert!((found - wanted).abs() < 1e-4 && (found - back).abs() < 1e-6, "{found} for {wanted}");
        }
    }

    #[test]
    fn maps_keep_the_area_and_the_direction() {
        let given = turned(20.0, 10.0, 30.0);
        let mirrored = given.placed(&|point| Point { x: 200.0 - point.x, y: point.y });
        assert!(near(mirrored.width, 20.0) && near(mirrored.height, 10.0) && near(mirrored.center.x, 150.0));
        let wanted = given.corners().map(|point| Point { x: 200.0 - point.x, y: point.y });
        for corner in wanted {
            assert!(mirrored.corners().iter().any(|found| near(found.x, corner.x) && near(found.y, corner.y)), "{mirrored:?}");
        }
        let scaled = given.placed(&|point| Point { x: 3.0 * point.x, y: 3.0 * point.y });
        assert!(near(scaled.width, 60.0) && near(scaled.height, 30.0) && near(scaled.angle, given.angle));
        let stretched = given.placed(&|point| Point { x: 2.0 * point.x, y: point.y });
        assert!((stretched.width * stretched.height - 400.0).abs() < 0.01);
    }
}

//! Maps frame coordinates through scaling, cropping, padding, rotation and mirroring.

use crate::{BBox, Detection, Point, Rotation};

/// An affine map between the pixels of two frames that maps axis-aligned boxes to axis-aligned boxes.
///
/// `x' = across.0 * x + across.1 * y + offset.0`, `y' = down.0 * x + down.1 * y + offset.1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameMapping {
    across: (f32, f32),
    down: (f32, f32),
    offset: (f32, f32),
}

impl Default for FrameMapping {
    fn default() -> Self {
        Self::IDENTITY
    }
}

impl FrameMapping {
    /// The identity map.
    pub const IDENTITY: Self = Self { across: (1.0, 0.0), down: (0.0, 1.0), offset: (0.0, 0.0) };

    /// Scales by these factors.
    pub fn scaled(across: f32, down: f32) -> Self {
        Self { across: (across, 0.0), down: (0.0, down), offset: (0.0, 0.0) }
    }

    /// Translates by pixels, right and down.
    pub fn moved(right: f32, down: f32) -> Self {
        Self { offset: (right, down), ..Self::IDENTITY }
    }

    /// Rotates or mirrors a frame of this size for display.
    pub fn turned(rotation: Rotation, width: u32, height: u32) -> Self {
        let (width, height) = (width as f32, height as f32);
        let map = |across, down, offset| Self { across, down, offset };
        match rotation {
            Rotation::None => Self::IDENTITY,
            Rotation::Clockwise90 => map((0.0, -1.0), (1.0, 0.0), (height, 0.0)),
            Rotation::Half => map((-1.0, 0.0), (0.0, -1.0), (width, height)),
            Rotation::Clockwise270 => map((0.0, 1.0), (-1.0, 0.0), (0.0, width)),
            Rotation::FlipHorizontal => map((-1.0, 0.0), (0.0, 1.0), (width, 0.0)),
            Rotation::FlipVertical => map((1.0, 0.0), (0.0, -1.0), (0.0, height)),
            Rotation::Transpose => map((0.0, 1.0), (1.0, 0.0), (0.0, 0.0)),
            Rotation::Transverse => map((0.0, -1.0), (-1.0, 0.0), (height, width)),
        }
    }

    /// Applies this map, then `next`.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let turn = |(x, y): (f32, f32)| {
            let Self { across, down, .. } = next;
            (across.0 * x + across.1 * y, down.0 * x + down.1 * y)
        };
        let (x, y) = (turn((self.across.0, self.down.0)), turn((self.across.1, self.down.1)));
        let offset = turn(self.offset);
        Self { across: (x.0, y.0), down: (x.1, y.1), offset: (offset.0 + next.offset.0, offset.1 + next.offset.1) }
    }

    /// The orientation part of the map, ignoring scale.
    pub fn rotation(&self) -> Rotation {
        let sign = |value: f32| if value == 0.0 { 0 } else { value.signum() as i32 };
        Rotation::from_matrix(sign(self.across.0), sign(self.down.0), sign(self.across.1), sign(self.down.1))
    }

    /// Maps a point.
    pub fn point(&self, point: Point) -> Point {
        Point {
            x: self.across.0 * point.x + self.across.1 * point.y + self.offset.0,
            y: self.down.0 * point.x + self.down.1 * point.y + self.offset.1,
        }
    }

    /// Maps a box.
    pub fn bbox(&self, bbox: &BBox) -> BBox {
        bbox.placed(&|point| self.point(point))
    }

    /// Maps a detection with its landmarks and attributes; masks are rotated as well.
    pub fn detection(&self, detection: &Detection) -> Detection {
        detection.placed(&|point| self.point(point), self.rotation())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Attribute, AttributeValue, InstanceMask, Label, OrientedBox};

    #[test]
    fn corners_go_where_pixels_go() {
        // A 40x30 frame with a 4x2 mark in its top left corner.
        let mark = BBox::from_xyxy(0.0, 0.0, 4.0, 2.0);
        let expected = [
            (Rotation::None, [0.0, 0.0, 4.0, 2.0]),
            (Rotation::Clockwise90, [28.0, 0.0, 30.0, 4.0]),
            (Rotation::Half, [36.0, 28.0, 40.0, 30.0]),
            (Rotation::Clockwise270, [0.0, 36.0, 2.0, 40.0]),
            (Rotation::FlipHorizontal, [36.0, 0.0, 40.0, 2.0]),
            (Rotation::FlipVertical, [0.0, 28.0, 4.0, 30.0]),
            (Rotation::Transpose, [0.0, 0.0, 2.0, 4.0]),
            (Rotation::Transverse, [28.0, 36.0, 30.0, 40.0]),
        ];
        for (rotation, [x1, y1, x2, y2]) in expected {
            let mapping = FrameMapping::turned(rotation, 40, 30);
            assert_eq!(mapping.bbox(&mark), BBox::from_xyxy(x1, y1, x2, y2), "{rotation:?}");
            assert_eq!(mapping.rotation(), rotation);
        }
    }

    #[test]
    fn maps_follow_one_another() {
        let point = Point { x: 3.0, y: 5.0 };
        for (a, b) in Rotation::ALL.into_iter().flat_map(|a| Rotation::ALL.map(|b| (a, b))) {
            let first = FrameMapping::turned(a, 40, 30).then(FrameMapping::scaled(2.0, 0.5));
            let second = FrameMapping::turned(b, 80, 15).then(FrameMapping::moved(-7.0, 4.0));
            assert_eq!(first.then(second).point(point), second.point(first.point(point)), "{a:?} {b:?}");
        }
        assert_eq!(FrameMapping::scaled(2.0, 3.0).then(FrameMapping::moved(1.0, 1.0)).point(point), Point { x: 7.0, y: 16.0 });
    }

    #[test]
    fn rotated_boxes_are_turned_mirrored_and_scaled_with_their_frame() {
        let oriented = OrientedBox { center: Point { x: 12.0, y: 14.0 }, width: 10.0, height: 4.0, angle: 0.4 };
        let mut found = Detection::new(oriented.bbox(), 0.9, Label { id: 0, name: "ship".into() });
        found.oriented = Some(oriented);
        for rotation in Rotation::ALL {
            let mapping = FrameMapping::turned(rotation, 40, 30).then(FrameMapping::scaled(2.0, 2.0));
            let mapped = mapping.detection(&found);
            let turned = mapped.oriented.expect("still rotated");
            assert!((turned.width - 20.0).abs() < 1e-3 && (turned.height - 8.0).abs() < 1e-3, "{rotation:?}: {turned:?}");
            for corner in oriented.corners().map(|corner| mapping.point(corner)) {
                let near = |other: &Point| (other.x - corner.x).hypot(other.y - corner.y) < 1e-3;
                assert!(turned.corners().iter().any(near), "{rotation:?}: {corner:?} in {turned:?}");
            }
            assert!(mapped.bbox.iou(&mapping.bbox(&found.bbox)) > 0.999, "{rotation:?}");
        }
    }

    #[test]
    fn masks_and_landmarks_are_turned_with_their_detection() {
        let label = Label { id: 0, name: "face".into() };
        let bbox = BBox::from_xyxy(10.0, 10.0, 14.0, 12.0);
        let mut found = Detection::new(bbox, 0.9, label);
        found.landmarks = vec![Point { x: 10.0, y: 10.0 }];
        let mask = InstanceMask::new(bbox, 2, 1, vec![7, 255]).expect("a mask");
        found.attributes = vec![Attribute { model: "second".into(), value: AttributeValue::Mask(Arc::new(mask)) }];
        let cells = |rotation| {
            let turned = FrameMapping::turned(rotation, 40, 30).detection(&found);
            let [Attribute { value: AttributeValue::Mask(mask), .. }] = &turned.attributes[..] else { panic!("{turned:?}") };
            assert_eq!(*mask.bbox(), turned.bbox);
            (mask.columns(), mask.rows(), mask.coverage().to_vec(), turned.landmarks[0])
        };
        assert_eq!(cells(Rotation::None), (2, 1, vec![7, 255], Point { x: 10.0, y: 10.0 }));
        assert_eq!(cells(Rotation::Clockwise90), (1, 2, vec![7, 255], Point { x: 20.0, y: 10.0 }));
        assert_eq!(cells(Rotation::Half), (2, 1, vec![255, 7], Point { x: 30.0, y: 20.0 }));
        assert_eq!(cells(Rotation::Clockwise270), (1, 2, vec![255, 7], Point { x: 10.0, y: 30.0 }));
        assert_eq!(cells(Rotation::FlipHorizontal), (2, 1, vec![255, 7], Point { x: 30.0, y: 10.0 }));
    }
}

//! Whether an object is within a zone.

use framerail_core::{BBox, Point};

use super::{
    geometry::{Place, distance_inside, place},
    map::Anchor,
};

/// The area of a zone in frame pixels, and the point of a box that counts there.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    corners: Vec<Place>,
    anchor: Anchor,
}

impl Outline {
    /// Creates an outline from corners in pixels, in order; the last is joined with the first.
    pub fn new(corners: &[Point], anchor: Anchor) -> Self {
        Self { corners: corners.iter().copied().map(place).collect(), anchor }
    }

    /// Signed distance in pixels from the edge to a box's position: above 0 inside. Of several points, the deepest one counts.
    pub fn depth(&self, bbox: &BBox) -> f64 {
        let depths = self.anchor.places(bbox).into_iter().map(|place| distance_inside(&self.corners, place));
        depths.fold(f64::NEG_INFINITY, f64::max)
    }

    /// Whether a box is inside, as `zones` counts it; false for non-finite boxes.
    pub fn holds(&self, bbox: &BBox) -> bool {
        bbox.is_finite() && self.depth(bbox) >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anchor_says_where_a_box_is() {
        let triangle = [(0.0, 0.0), (100.0, 0.0), (0.0, 100.0)].map(|(x, y)| Point { x, y });
        let holds = |anchor, bbox| Outline::new(&triangle, anchor).holds(&bbox);
        let near = BBox::from_xyxy(10.0, 10.0, 30.0, 30.0);
        let across = BBox::from_xyxy(30.0, 20.0, 60.0, 70.0);
        let far = BBox::from_xyxy(70.0, 70.0, 90.0, 90.0);
        for (anchor, expected) in
            [(Anchor::Bottom, [true, false, false]), (Anchor::Center, [true, true, false]), (Anchor::Corners, [true, true, false])]
        {
            assert_eq!([near, across, far].map(|bbox| holds(anchor, bbox)), expected, "{anchor:?}");
        }
        assert!(!holds(Anchor::Center, BBox::from_xyxy(f32::NAN, 0.0, 1.0, 1.0)));
    }
}

//! Boxes as trackers use them, in double precision.

use framerail_core::BBox;

use super::appearance::Appearance;

/// A detection as input to a tracker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation<'a> {
    /// The box, in frame pixels.
    pub bbox: BBox,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// The class. Objects of different classes are never matched. Use the same number for all to ignore classes.
    pub class: u32,
    /// The embedding of its appearance, if known; of any length above 0.
    pub embedding: Option<&'a [f32]>,
}

impl Observation<'_> {
    pub(crate) fn appearance(&self) -> Option<Appearance> {
        self.embedding.and_then(Appearance::new)
    }

    /// Whether it can be tracked: a finite score, and a finite box with an area.
    pub fn is_sound(&self) -> bool {
        self.bbox.is_finite() && self.score.is_finite() && self.bbox.width() > 0.0 && self.bbox.height() > 0.0
    }
}

/// Corners: left, top, right, bottom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Corners {
    pub(crate) x1: f64,
    pub(crate) y1: f64,
    pub(crate) x2: f64,
    pub(crate) y2: f64,
}

impl From<&BBox> for Corners {
    fn from(bbox: &BBox) -> Self {
        Self { x1: bbox.x1.into(), y1: bbox.y1.into(), x2: bbox.x2.into(), y2: bbox.y2.into() }
    }
}

impl Corners {
    pub(crate) fn from_center((x, y): (f64, f64), width: f64, height: f64) -> Self {
        Self { x1: x - width / 2.0, y1: y - height / 2.0, x2: x + width / 2.0, y2: y + height / 2.0 }
    }

    pub(crate) fn center(&self) -> (f64, f64) {
        ((self.x1 + self.x2) / 2.0, (self.y1 + self.y2) / 2.0)
    }

    pub(crate) fn width(&self) -> f64 {
        self.x2 - self.x1
    }

    pub(crate) fn height(&self) -> f64 {
        self.y2 - self.y1
    }

    /// Whether the box is finite and has an area.
    pub(crate) fn is_sound(&self) -> bool {
        [self.x1, self.y1, self.x2, self.y2].iter().all(|value| value.is_finite()) && self.width() > 0.0 && self.height() > 0.0
    }

    /// Intersection over union, 0 to 1.
    pub(crate) fn iou(&self, other: &Corners) -> f64 {
        let width = (self.x2.min(other.x2) - self.x1.max(other.x1)).max(0.0);
        let height = (self.y2.min(other.y2) - self.y1.max(other.y1)).max(0.0);
        let overlap = width * height;
        let union = self.width() * self.height() + other.width() * other.height() - overlap;
        if union > 0.0 { overlap / union } else { 0.0 }
    }

    pub(crate) fn to_bbox(self) -> BBox {
        BBox::from_xyxy(self.x1 as f32, self.y1 as f32, self.x2 as f32, self.y2 as f32)
    }
}
